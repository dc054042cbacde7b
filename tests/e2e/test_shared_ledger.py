"""A campaign whose ledger is a database: from the command line, on a real PostgreSQL."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from mailmerge.campaign.shared_ledger import server
from mailmerge.ledger.server_place import ServerPlace
from reports import complaint
from servers.command import EVERYBODY, one_error, statuses
from servers.postgres import CuttingProxy

if TYPE_CHECKING:
    from servers.kept import KeepingSandbox
    from servers.postgres import Postgres


@pytest.fixture
def shared(mailmerge, postgres: Postgres, relay: KeepingSandbox) -> str:
    """Name the database in the user's configuration, and give that name."""
    mailmerge.account(relay)
    with mailmerge.config.open("a") as file:
        file.write(f'\n[ledgers.office]\nurl = "{postgres.new_database()}"\n')
    return "office"


def arrived(relay: KeepingSandbox) -> Counter[str]:
    """Count the messages by recipient."""
    return Counter(recipient for message in relay.messages for recipient in message.rcpt_to)


def test_another_machine_knows_what_was_sent(mailmerge, relay, shared):
    """With nothing of the first one but the campaign's folder it sends to nobody again."""
    campaign = mailmerge.campaign()
    first = mailmerge("send", "spring", "--yes", "--ledger", shared, "--limit", "2")
    mailmerge.environ["MAILMERGE_STATE_DIR"] = str(mailmerge.folder / "other" / "state")
    seen = mailmerge("status", "spring", "--ledger", shared)
    second = mailmerge("send", "spring", "--yes", "--ledger", shared)
    third = mailmerge("send", "spring", "--yes", "--ledger", shared)

    assert (first.code, second.code, third.code) == (0, 0, 0), second
    assert "2  accepted" in seen.out
    assert arrived(relay) == Counter(dict.fromkeys(EVERYBODY, 1))
    assert statuses(campaign) == ["accepted"] * 3
    assert not (campaign / ".mailmerge" / "ledger.db").exists()


def test_a_campaign_goes_from_one_ledger_to_the_other(mailmerge, relay, shared):
    """Until it is moved nobody continues with the new one, then nobody with the old one; and back again."""
    mailmerge.campaign()
    assert mailmerge("send", "spring", "--yes", "--limit", "1").code == 0
    early = mailmerge("send", "spring", "--yes", "--ledger", shared)
    moved = mailmerge("ledger", "move", "spring", "--ledger", shared)
    again = mailmerge("ledger", "move", "spring", "--ledger", shared)
    late = [mailmerge(*command, "spring") for command in (("send", "--yes"), ("status",), ("check",))]
    sent = mailmerge("send", "spring", "--yes", "--ledger", shared, "--limit", "1")
    back = mailmerge("ledger", "move", "spring")
    rest = mailmerge("send", "spring", "--yes")
    gone = mailmerge("send", "spring", "--yes", "--ledger", shared)

    assert (early.code, gone.code) == (8, 8), early
    one_error(early, "L714", ".mailmerge/ledger.db")
    assert "mailmerge ledger move spring --ledger office" in early.err
    assert (moved.code, again.code, sent.code, back.code, rest.code) == (0, 0, 0, 0, 0), (moved, back)
    assert [done.code for done in late] == [8, 8, 8], late
    assert arrived(relay) == Counter(dict.fromkeys(EVERYBODY, 1))


def test_a_folder_names_no_server(mailmerge, relay, postgres, shared):
    """An address counts from the user's own configuration, flag or environment; no password from a flag."""
    campaign = mailmerge.campaign()
    url = postgres.new_database()
    (campaign / "campaign.toml").write_text(
        f'ledger = "{url}"\n' + (campaign / "campaign.toml").read_text("utf-8"), "utf-8"
    )
    own = mailmerge("send", "spring", "--yes")
    typed = mailmerge("send", "spring", "--yes", "--ledger", url)
    unknown = mailmerge("send", "spring", "--yes", "--ledger", "offfice")
    mailmerge.environ["MAILMERGE_LEDGER"] = url
    real = mailmerge("send", "spring", "--yes")

    assert (own.code, typed.code, unknown.code, real.code) == (2, 2, 2, 0), real
    one_error(own, "C501", "only names a ledger of your config.toml")
    one_error(typed, "C501", "a password in a command line")
    one_error(unknown, "C501", "has no ledger 'offfice'")
    assert "geheim" not in own.err + typed.err + real.err + real.out
    assert len(relay.messages) == 3


def test_a_killed_run_is_gone_on_with(mailmerge, relay, postgres, shared):
    """Its lease ends with it on the same machine; what it handed over is in doubt, nothing goes out twice."""
    people = "".join(f"u{number}@example.org,U{number}\n" for number in range(40))
    mailmerge.campaign(people_csv=f"email,name\n{people}")
    running = mailmerge.start("send", "spring", "--yes", "--ledger", shared, "--rate", "4/s")
    deadline = time.monotonic() + 20
    while len(relay.messages) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    busy = mailmerge("requeue", "spring", "--ledger", shared)
    running.kill()
    running.communicate()
    done = mailmerge("send", "spring", "--yes", "--ledger", shared)

    assert busy.code == 7, busy
    one_error(busy, "L707", "is in use by pid")
    assert done.code in {0, 4}, done
    assert max(arrived(relay).values()) == 1
    assert len(relay.messages) >= 39


def test_a_move_that_cannot_begin_changes_nothing(mailmerge, relay, shared):
    """A ledger that cannot be reached seals nothing: the file is gone on with."""
    mailmerge.campaign()
    with mailmerge.config.open("a") as file:
        file.write('\n[ledgers.down]\nurl = "postgresql://127.0.0.1:1/mail"\n')
    assert mailmerge("send", "spring", "--yes", "--limit", "1").code == 0
    down = mailmerge("ledger", "move", "spring", "--ledger", "down")
    rest = mailmerge("send", "spring", "--yes")

    assert (down.code, rest.code) == (8, 0), (down, rest)
    one_error(down, "L720", "127.0.0.1:1")
    assert arrived(relay) == Counter(dict.fromkeys(EVERYBODY, 1))


def test_a_move_whose_end_nobody_heard_of_leaves_one_ledger(mailmerge, relay, postgres, shared):
    """The file stays sealed, others may continue with the database, the same command ends the move."""
    proxy = CuttingProxy(postgres)
    mailmerge.campaign()
    with mailmerge.config.open("a") as file:
        url = postgres.url().replace(str(postgres.port), str(proxy.port))
        file.write(f'\n[ledgers.far]\nurl = "{url}"\n')
    ServerPlace(postgres.url(), "").database_to_fill().close()
    assert mailmerge("send", "spring", "--yes", "--limit", "1").code == 0
    proxy.cuts = True
    cut = mailmerge("ledger", "move", "spring", "--ledger", "far")
    stale = mailmerge("send", "spring", "--yes")
    here = mailmerge.environ["MAILMERGE_STATE_DIR"]
    mailmerge.environ["MAILMERGE_STATE_DIR"] = str(mailmerge.folder / "elsewhere")
    sealed = (mailmerge.folder / "spring" / ".mailmerge").rename(mailmerge.folder / "sealed")
    elsewhere = mailmerge("send", "spring", "--yes", "--ledger", shared, "--limit", "1")
    mailmerge.environ["MAILMERGE_STATE_DIR"] = here
    (mailmerge.folder / "spring" / ".mailmerge").rename(mailmerge.folder / "made elsewhere")
    sealed.rename(mailmerge.folder / "spring" / ".mailmerge")
    done = mailmerge("ledger", "move", "spring", "--ledger", "far")
    rest = mailmerge("send", "spring", "--yes", "--ledger", "far")
    proxy.close()

    assert (cut.code, stale.code) == (8, 8), (cut, stale)
    one_error(cut, "L720", "is not known")
    one_error(stale, "L714")
    assert (elsewhere.code, done.code, rest.code) == (0, 0, 0), (elsewhere, done, rest)
    assert arrived(relay) == Counter(dict.fromkeys(EVERYBODY, 1))


def test_a_move_that_never_arrived_is_taken_back(mailmerge, relay, postgres, shared):
    """Where the command was stopped before anything was written, a move back opens the file again."""
    mailmerge.campaign()
    assert mailmerge("send", "spring", "--yes", "--limit", "1").code == 0
    ledger = mailmerge.folder / "spring" / ".mailmerge" / "ledger.db"
    with contextlib.closing(sqlite3.connect(ledger)) as file, file:
        file.execute("UPDATE campaign SET moved_to = ?", (str(server(postgres.url())),))
    back = mailmerge("ledger", "move", "spring")
    rest = mailmerge("send", "spring", "--yes")

    assert (back.code, rest.code) == (0, 0), (back, rest)
    assert arrived(relay) == Counter(dict.fromkeys(EVERYBODY, 1))


def test_what_a_moved_campaign_sent_is_known_by_its_new_place(mailmerge, relay, postgres, shared):
    """Its own messages are no other campaign's; another one hears of them, and where its ledger is."""
    campaign = mailmerge.campaign()
    assert mailmerge("send", "spring", "--yes", "--limit", "1").code == 0
    assert mailmerge("ledger", "move", "spring", "--ledger", shared).code == 0
    assert mailmerge("requeue", "spring", "--ledger", shared, "--rows", "2", "--accepted", "--yes").code == 0
    again = mailmerge("send", "spring", "--yes", "--ledger", shared)
    begun = mailmerge("ledger", "forget", "spring", "--yes")
    other = mailmerge("send", "spring", "--yes", "--ledger", shared, "--name", "other")

    assert again.code == 0, again
    assert arrived(relay) == Counter(dict.fromkeys(EVERYBODY, 1)) + Counter(["ana@example.com"])
    one_error(begun, "L714", str(server(postgres.url())))
    one_error(other, "C472", f"last used in {server(postgres.url())}", "--name spring continues")
    assert len(statuses(campaign)) == 3


def test_opt_outs_of_the_ledger_count_everywhere(mailmerge, relay, shared):
    """Whoever is added to the ledger's list gets nothing of any campaign in it; who complains is added."""
    people = ("ann@example.org", "bo@gone.example", "cy@example.org", "di@example.org")
    mailmerge.campaign(people_csv="email,name\n" + "".join(f"{one},X\n" for one in people))
    export = mailmerge.folder / "export.csv"
    export.write_text("email\ncy@example.org\n")
    mailmerge("send", "spring", "--ledger", shared, "--limit", "1", "--yes")
    added = mailmerge("suppress", "add", "@gone.example", "ann@example.org", "--ledger", shared)
    imported = mailmerge("suppress", "import", export, "--ledger", shared)
    removed = mailmerge("suppress", "remove", "ann@example.org", "--ledger", shared)
    unknown = mailmerge("suppress", "remove", "nobody@example.org", "--ledger", shared)
    done = mailmerge("send", "spring", "--ledger", shared, "--yes")
    listed = mailmerge("suppress", "list", "--ledger", shared)

    assert (added.code, imported.code, removed.code, unknown.code, done.code) == (0, 0, 0, 2, 0), done
    assert arrived(relay) == Counter({"ann@example.org": 1, "di@example.org": 1})
    assert [line.split()[0] for line in listed.out.splitlines()[:2]] == ["@gone.example", "cy@example.org"]
    assert "Nobody" in mailmerge("suppress", "list").out
    letter = next(message for message in relay.messages if message.rcpt_to == ("di@example.org",))
    message_id = letter.content.partition(b"Message-ID: ")[2].split()[0].decode()
    (mailmerge.folder / "box").mkdir()
    (mailmerge.folder / "box" / "1.eml").write_bytes(complaint(message_id, address="di@example.org"))
    assert mailmerge("bounces", "spring", "--ledger", shared, "--eml", mailmerge.folder / "box").code == 0
    assert "di@example.org" in mailmerge("suppress", "list", "--ledger", shared).out
