"""A campaign that is looked at from a machine that has nothing of it but its name and its ledger."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from campaigns import campaign_toml
from mailmerge.campaign import Campaign
from mailmerge.campaign.planning import Planning
from mailmerge.campaign.unsubscribing import unsubscribe_key
from mailmerge.ledger.server_place import ServerPlace
from mailmerge.plan.loading import load
from mailmerge.postgres import PostgresDatabase
from servers.command import EVERYBODY, one_error

if TYPE_CHECKING:
    from servers.command import Done, Mailmerge
    from servers.kept import KeepingSandbox
    from servers.postgres import Postgres

UNSUBSCRIBE = 'unsubscribe = "https://example.org/u/{{ token }}"'
ATTACH = '[[attach]]\npath = "terms.txt"\n'


def stored(mailmerge: Mailmerge, postgres: Postgres, relay: KeepingSandbox) -> tuple[str, ...]:
    """Send two of three rows with a database as ledger, and load the plan; give what names the campaign."""
    mailmerge.account(relay)
    with mailmerge.config.open("a") as file:
        file.write(f'\n[ledgers.office]\nurl = "{postgres.new_database()}"\n')
    folder = mailmerge.campaign(
        campaign_toml=campaign_toml(
            top='account = "test"\nledger = "office"',
            data='group_by = "name"',
            rest=ATTACH,
            message=UNSUBSCRIBE,
        ),
        people_csv="email,name\nana@example.com,Ana\nbo@example.net,Bo\nana@example.com,Ana\ncy@example.org,Cy\n",
        body_txt="Dear {{ name }},\n" + "long " * 18 + "{{ unsubscribe_url }}\n",
        terms_txt="The terms.\n",
    )
    assert mailmerge("send", "spring", "--yes", "--limit", "2").code == 0
    campaign = Campaign.load(folder, environ=mailmerge.environ)
    definition = campaign.definition
    with contextlib.ExitStack() as stack:
        account = definition.account_of_sender()
        plan = Planning(definition, definition.open_list(), account).find(stack)
        assert plan is not None
        place = definition.ledger_place
        assert isinstance(place, ServerPlace)
        ledger = stack.enter_context(place.open_for_writing("spring", create=False))
        assert ledger.server is not None
        load(ledger.server, ledger.number, plan.reader, b"{}", key=unsubscribe_key(definition))
    return "--ledger", "office", "--name", "spring"


def test_any_machine_shows_what_the_folder_s_machine_shows(mailmerge, postgres, relay, tmp_path):
    """Status, report, preview and a decision, with nothing there but the configuration."""
    named = stored(mailmerge, postgres, relay)
    home = mailmerge("status", "spring"), mailmerge("preview", "spring", "--terminal", "--limit", "9")
    assert mailmerge("report", "spring").code == 0
    results = (mailmerge.folder / "spring" / "out" / "results.csv").read_text("utf-8-sig")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for what in ("STATE", "CACHE"):
        mailmerge.environ[f"MAILMERGE_{what}_DIR"] = str(elsewhere / what)

    def there(*words: str) -> Done:
        done: Done = mailmerge(*words, *named, cwd=elsewhere)
        return done

    status, shown = there("status"), there("preview", "--terminal", "--limit", "9")
    report = there("report", "--out", "there")
    assert (status.code, status.out) == (0, home[0].out), status
    assert "2  accepted" in status.out
    assert (elsewhere / "there" / "results.csv").read_text("utf-8-sig") == results
    assert (elsewhere / "there" / "report.html").exists(), report
    assert "rows 2, 4" in shown.out, shown
    assert shown.out == home[1].out
    again = there("requeue", "--rows", "3", "--accepted", "--yes")
    assert again.code == 0, again
    assert "1  accepted" in there("status").out
    assert there("resolve", "--rows", "7").code == 2
    assert "Next: mailmerge send spring " in again.out, again
    assert "where the campaign's folder is" in again.out, again


def test_what_cannot_be_had_from_a_ledger_alone_is_said(mailmerge, postgres, relay, tmp_path):
    """A page, a copy of the list, a name that is mistyped or missing: each is refused with what helps."""
    named = stored(mailmerge, postgres, relay)
    ledger = named[:2]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    one_error(mailmerge("preview", *named, cwd=elsewhere), "C582", "--terminal")
    one_error(mailmerge("report", "--copy", "copy.csv", *named, cwd=elsewhere), "C582", "results.csv")
    for command in ("status", "resolve", "report"):
        wrong = mailmerge(command, *ledger, "--name", "sprign", cwd=elsewhere)
        one_error(wrong, "L705", 'no campaign "sprign"', "it has: spring")
    one_error(mailmerge("status", *ledger, cwd=elsewhere), "C407", "--name NAME")


def test_what_workers_have_is_not_to_be_sent_by_a_plain_send(mailmerge, postgres, relay):
    """The command that a report suggests is one that is not refused while a fleet has the campaign."""
    mailmerge.account(relay)
    with mailmerge.config.open("a") as file:
        file.write(f'\n[ledgers.office]\nurl = "{postgres.new_database()}"\n')
    mailmerge.campaign()
    assert mailmerge("send", "spring", "--yes", "--ledger", "office", "--fleet", "--detach").code == 0
    report = mailmerge("report", "spring", "--ledger", "office")
    assert mailmerge("cancel", "spring", "--ledger", "office").code == 0
    then = mailmerge("report", "spring", "--ledger", "office")

    assert "Next: mailmerge send spring --ledger office --fleet   3 rows left" in report.out, report
    assert "Next: mailmerge send spring --ledger office   3 rows left" in then.out, then


def test_opt_outs_are_kept_before_anything_was_sent(mailmerge, postgres):
    """A database that has no ledger yet lists nobody, and takes the first who opts out."""
    mailmerge.config.write_text(f'[ledgers.office]\nurl = "{postgres.new_database()}"\n')
    nobody = mailmerge("suppress", "list", "--ledger", "office")
    added = mailmerge("suppress", "add", "ana@example.com", "--ledger", "office")

    assert nobody.out.startswith("Nobody:"), nobody
    assert added.out.startswith("Added 1 entry"), added
    assert "ana@example.com" in mailmerge("suppress", "list", "--ledger", "office").out


def test_a_damaged_row_stops_nobody_else(mailmerge, postgres, relay):
    """What is damaged in the database is left out and stays pending; sent again, it is loaded again."""
    mailmerge.account(relay)
    with mailmerge.config.open("a") as file:
        file.write(f'\n[ledgers.office]\nurl = "{postgres.new_database()}"\n')
    mailmerge.campaign()
    send = ("send", "spring", "--yes", "--ledger", "office", "--fleet", "--detach")
    assert mailmerge(*send).code == 0
    with PostgresDatabase.connect(postgres.url(), "here") as db:
        db.execute("UPDATE mailmerge.plan_message SET frame = 'P' WHERE number = 1")
        db.execute("UPDATE mailmerge.plan_row SET checksum = 0 WHERE n = 2")
    named = ("--ledger", "office", "--name", "spring")
    seen = mailmerge("preview", *named, "--eml", "letters", cwd=mailmerge.config.parent)
    worker = mailmerge("worker", "--ledger", "office", "--accounts", "test", "--until-done")
    left = mailmerge("status", *named, "--json")
    report = mailmerge("report", *named, "--out", "seen", cwd=mailmerge.config.parent)
    rows = (mailmerge.config.parent / "seen" / "results.csv").read_text("utf-8-sig").splitlines()

    assert (report.code, seen.code) == (0, 0), (report, seen)
    assert [row.split(",")[0] for row in rows[1:]] == ["2", "3", "4"], rows
    assert "is damaged" in rows[3], rows
    assert "damaged" in seen.err + seen.out, seen
    assert [message.rcpt_to[0] for message in relay.messages] == ["ana@example.com"], worker
    assert "2 rows left out" in worker.err, worker
    assert left.objects[0]["statuses"] == {"accepted": 1, "invalid": 1, "pending": 1}, left
    assert mailmerge(*send).code == 0
    worker = mailmerge("worker", "--ledger", "office", "--accounts", "test", "--until-done")
    assert sorted(message.rcpt_to[0] for message in relay.messages) == sorted(EVERYBODY), worker


def test_purge_reaches_plans_and_sealed_ledgers(mailmerge, postgres, relay):
    """After it nothing in the database or in the file that the campaign was moved away from names anybody.

    While workers have the campaign it is not purged, moved or started again: they would send next to others.
    """
    mailmerge.account(relay)
    with mailmerge.config.open("a") as file:
        file.write(f'\n[ledgers.office]\nurl = "{postgres.new_database()}"\n')
    folder = mailmerge.campaign()
    assert mailmerge("send", "spring", "--yes", "--limit", "1").code == 0
    assert mailmerge("ledger", "move", "spring", "--ledger", "office").code == 0
    assert mailmerge("send", "spring", "--yes", "--ledger", "office", "--fleet", "--detach").code == 0
    busy = mailmerge("purge", "spring", "--ledger", "office", "--yes")
    assert mailmerge("pause", "spring", "--ledger", "office").code == 0
    one_error(mailmerge("ledger", "move", "spring"), "L731", "paused")
    one_error(mailmerge("ledger", "forget", "spring", "--ledger", "office", "--yes"), "L731", "paused")
    assert mailmerge("cancel", "spring", "--ledger", "office").code == 0
    done = mailmerge("purge", "spring", "--ledger", "office", "--yes")

    assert (busy.code, done.code) == (7, 0), (busy, done)
    assert b"example." not in (folder / ".mailmerge" / "ledger.db").read_bytes()
    with PostgresDatabase.connect(postgres.url(), "here") as db:
        tables = [
            name for (name,) in db.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'mailmerge'")
        ]
        named = [name for name in tables if "example." in str(db.rows(f"SELECT * FROM mailmerge.{name}"))]
    assert named == []
    assert len(tables) > 15


def test_two_folders_with_one_name_are_not_one_campaign(mailmerge, postgres, relay):
    """The second is refused until it has a name of its own, or takes the place of the first one."""
    mailmerge.account(relay)
    with mailmerge.config.open("a") as file:
        file.write(f'\n[ledgers.office]\nurl = "{postgres.new_database()}"\n')
    mailmerge.campaign()
    mailmerge.campaign("other", people_csv="email,name\nzoe@example.org,Zoe\n")
    send = ("send", "--yes", "--ledger", "office")
    assert mailmerge(*send, "spring").code == 0
    same, named = mailmerge(*send, "other"), mailmerge(*send, "other", "--name", "autumn")
    taken = mailmerge("ledger", "move", "other", "--ledger", "office")
    there, back = mailmerge("status", "other", "--ledger", "office"), mailmerge(*send, "spring")

    one_error(same, "L756", "give this one another `name`")
    assert (same.code, named.code, taken.code, there.code, back.code) == (8, 0, 0, 0, 8), (taken, back)
    assert [message.rcpt_to[0] for message in relay.messages][3:] == ["zoe@example.org"]


def test_a_ledger_whose_server_is_gone_is_forgotten(mailmerge, postgres, relay):
    """Only this machine's memory of it goes, and the campaign starts again; one of another server stays."""
    mailmerge.account(relay)
    url = postgres.new_database().replace("127.0.0.1", "db.example.org") + "?hostaddr=127.0.0."
    other = url.replace("db.", "nowhere.")
    config = mailmerge.config.read_text("utf-8") + '\n[ledgers.{}]\nurl = "{}"\n'
    mailmerge.config.write_text(config.format("office", f"{url}1"), "utf-8")
    mailmerge.campaign()
    assert mailmerge("send", "spring", "--yes", "--ledger", "office", "--limit", "1").code == 0
    gone = config.format("office", f"{url}2") + config.format("nowhere", f"{other}2").partition("\n\n")[2]
    mailmerge.config.write_text(gone, "utf-8")
    early = mailmerge("send", "spring", "--yes")
    wrong = mailmerge("ledger", "forget", "spring", "--ledger", "nowhere", "--yes")
    mistyped = mailmerge("ledger", "forget", "spring", "--name", "sprint", "--yes")
    done = mailmerge("ledger", "forget", "spring", "--ledger", "office", "--yes")
    anew = mailmerge("send", "spring", "--yes", "--limit", "1", "--accept-repeats")

    assert (early.code, wrong.code, done.code, anew.code) == (8, 8, 0, 0), (early, wrong, done, anew)
    one_error(wrong, "L714", "db.example.org")
    one_error(mistyped, "L780", 'campaign "sprint"')
    assert mistyped.code == 2
    assert "does not answer" in done.out
    assert len(relay.messages) == 2


def test_messages_go_when_nobody_will_send_them_any_more(mailmerge, postgres, relay):
    """The last worker removes messages and files from the database, but not where they are to be kept."""
    mailmerge.account(relay)
    with mailmerge.config.open("a") as file:
        file.write(f'\n[ledgers.office]\nurl = "{postgres.new_database()}"\n')
    mailmerge.campaign(campaign_toml=campaign_toml(top='account = "test"', rest=ATTACH), terms_txt="Terms.\n")
    left = []
    for wanted in (("--limit", "1"), ("--rows", "3", "--keep-plan"), ()):
        done = mailmerge("send", "spring", "--yes", "--ledger", "office", "--fleet", "--detach", *wanted)
        assert done.code == 0, done
        worker = mailmerge("worker", "--ledger", "office", "--accounts", "test", "--until-done")
        assert worker.code == 0, worker
        with PostgresDatabase.connect(postgres.url(), "here") as db:
            counted = [db.row(f"SELECT count(*) FROM {table}")[0] for table in ("plan_message", "blob_piece")]
        left.append(counted)

    again = mailmerge("send", "spring", "--yes", "--ledger", "office", "--fleet", "--detach")

    assert (again.code, "workers are sending" in again.out + again.err) == (0, False), again
    assert left == [[3, 1], [3, 1], [0, 0]]
    assert sorted(message.rcpt_to[0] for message in relay.messages) == sorted(EVERYBODY)
    assert mailmerge("status", "--ledger", "office", "--name", "spring").out.count("3  accepted") == 1


def test_who_opted_out_meanwhile_is_not_left_to_be_sent(mailmerge, postgres, relay):
    """When the workers are done, status and report count such a row as suppressed, and suggest no `send`."""
    mailmerge.account(relay)
    with mailmerge.config.open("a") as file:
        file.write(f'\n[ledgers.office]\nurl = "{postgres.new_database()}"\n')
    mailmerge.campaign()
    assert mailmerge("send", "spring", "--yes", "--ledger", "office", "--fleet", "--detach").code == 0
    assert mailmerge("suppress", "add", "bo@example.net", "--ledger", "office").code == 0
    worker = mailmerge("worker", "--ledger", "office", "--accounts", "test", "--until-done")
    status = mailmerge("status", "spring", "--ledger", "office", "--json")
    report = mailmerge("report", "spring", "--ledger", "office")

    assert len(relay.messages) == 2, worker
    assert status.objects[0]["statuses"] == {"accepted": 2, "suppressed": 1}, status
    assert "2 accepted   1 suppressed" in report.out, report
    assert "Next:" not in report.out, report
