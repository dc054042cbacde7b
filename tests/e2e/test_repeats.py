"""Who has the message already: four ways to forget who somebody is stop the run, three mailings do not."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import pytest

from campaigns import TO_PEOPLE, campaign_toml
from faultd import FaultServer, hang, say
from servers.command import one_error, statuses

UNNAMED = campaign_toml(top='account = "test"', message=TO_PEOPLE).replace('name = "spring"\n', "")
KEYED = campaign_toml(top='account = "test"', data='key = "id"', message=TO_PEOPLE)
ALLOWED = campaign_toml(
    top='account = "test"',
    data='key = "id"\nduplicates = "allow"\ntypes = { id = "text" }',  # "1.0" is meant literally
    message=f'{TO_PEOPLE}\nsubject = "Invoice {{{{ id }}}}"',
)
IDS = "id,email,name\n{},ana@example.com,Ana\n{},bo@example.net,Bo\n{},cy@example.org,Cy\n"


def send(mailmerge, *options):
    return mailmerge("send", "spring", "--yes", *options)


def sent(mailmerge, *options):
    """Send, and see that it went well."""
    done = send(mailmerge, *options)
    assert done.code == 0, done


def stops(server, done, code, *words):
    """Expect exit 2 with this one error, and nothing at the server but what was there."""
    assert done.code == 2, done
    one_error(done, code, *words)
    assert len(server.messages) == 3


# --- what stops -------------------------------------------------------------------------------------------


def test_a36_a_key_column_added_half_way(mailmerge, sandbox):
    """People were known by their addresses; now each has an id, and those who were written to are named."""
    mailmerge.campaign()
    mailmerge.account(sandbox)
    sent(mailmerge)
    mailmerge.campaign(campaign_toml=KEYED, people_csv=IDS.format(1, 2, 3) + "4,di@example.org,Di\n")

    stopped = send(mailmerge)
    stops(sandbox, stopped, "C471", "3 rows", 'row 2 (ana@example.com, earlier "ana@example.com")')
    assert "--accept-repeats" in stopped.err


@pytest.mark.parametrize("toml", [KEYED, ALLOWED], ids=["one each", "allow"])
def test_a36_ids_exported_anew(toml, mailmerge, sandbox):
    """`1` is `1.0` now: other keys, the same people, also where addresses may repeat."""
    mailmerge.campaign(campaign_toml=toml, people_csv=IDS.format(1, 2, 3))
    mailmerge.account(sandbox)
    sent(mailmerge)
    mailmerge.campaign(campaign_toml=toml, people_csv=IDS.format("1.0", "2.0", "3.0"))

    stops(sandbox, send(mailmerge), "C471", "3 rows", 'row 3 (bo@example.net, earlier "2")')


@pytest.mark.parametrize("files", [{}, {"body_html": "<p>Dear {{ name }}, welcome to the club.</p>\n"}])
def test_a36_a_renamed_folder(files, mailmerge, sandbox):
    """The campaign has the folder's name, so that it is another one now; the message is the very same."""
    toml = (
        UNNAMED.replace('text = "body.txt"\n', 'text = "body.txt"\nhtml = "body.html"\n')
        if files
        else UNNAMED
    )
    campaign = mailmerge.campaign(campaign_toml=toml, **files)
    mailmerge.account(sandbox)
    sent(mailmerge)
    campaign.rename(mailmerge.folder / "autumn")

    stopped = mailmerge("send", "autumn", "--yes")
    stops(sandbox, stopped, "C472", "3 rows already have this very message", "'spring'", "--name spring")
    assert mailmerge("send", "autumn", "--yes", "--name", "spring").code == 0
    assert len(sandbox.messages) == 3


def test_a36_a_renamed_list(mailmerge, sandbox):
    """Without a campaign folder the list's name is the campaign's."""
    folder = mailmerge.campaign()
    mailmerge.account(sandbox)
    options = (
        "--subject",
        "Hi",
        "--text",
        folder / "body.txt",
        "--from",
        "me@example.org",
        "--account",
        "test",
    )
    done = mailmerge("send", "--list", folder / "people.csv", "--yes", *options)
    assert done.code == 0, done
    (folder / "people.csv").rename(folder / "members.csv")

    stopped = mailmerge("send", "--list", folder / "members.csv", "--yes", *options)
    stops(sandbox, stopped, "C472", "'people'", "row 2 (ana@example.com)")


def test_a36_another_name(mailmerge, sandbox):
    """Also for a dry run; `--accept-repeats` sends to everybody again, and has to be typed."""
    campaign = mailmerge.campaign()
    mailmerge.account(sandbox)
    sent(mailmerge)

    stops(sandbox, send(mailmerge, "--name", "summer"), "C472", "'spring'")
    stops(sandbox, mailmerge("send", "spring", "--dry-run", "--name", "summer"), "C472", "'spring'")
    assert statuses(campaign) == ["accepted"] * 3
    wrong = send(mailmerge, "--name", "summer", "--set", "send.accept_repeats=true")
    assert wrong.code == 2, wrong
    sent(mailmerge, "--name", "summer", "--accept-repeats")
    assert len(sandbox.messages) == 6


def test_a36_only_rows_of_this_run_stop_it(mailmerge, sandbox):
    """A row that is new under the new name can be sent by itself."""
    people = "email,name\nana@example.com,Ana\nbo@example.net,Bo\ncy@example.org,Cy\ndi@example.org,Di\n"
    mailmerge.campaign()
    mailmerge.account(sandbox)
    sent(mailmerge)
    mailmerge.campaign(people_csv=people)

    sent(mailmerge, "--name", "summer", "--rows", "5")
    assert [message.rcpt_to[0] for message in sandbox.messages[3:]] == ["di@example.org"]
    assert send(mailmerge, "--name", "summer").code == 2


def test_a36_a_copied_folder_that_both_go_on_with(mailmerge, sandbox):
    """Two ledgers of one campaign do not know of each other; the machine does."""
    campaign = mailmerge.campaign()
    mailmerge.account(sandbox)
    sent(mailmerge, "--limit", "1")
    shutil.copytree(campaign, mailmerge.folder / "copy")
    sent(mailmerge)

    done = mailmerge("send", "copy", "--yes")
    assert done.code == 8, done
    one_error(done, "L712", "is a copy of the one in")
    assert mailmerge("ledger", "forget", "copy", "--yes").code == 0
    done = mailmerge("send", "copy", "--yes")
    stops(sandbox, done, "C472", "3 rows", "that campaign can be continued where it is")


def test_a36_with_accepted_changes_any_version_counts(mailmerge, sandbox):
    """Whoever has the message as it was does not get it as it is now, under whatever key."""
    mailmerge.campaign()
    mailmerge.account(sandbox)
    sent(mailmerge)
    changed = {"body_txt": "Other words for {{ name }}.\n", "people_csv": IDS.format(1, 2, 3)}
    mailmerge.campaign(campaign_toml=KEYED, **changed)

    stops(sandbox, send(mailmerge, "--accept-changes"), "C471", "3 rows")


def test_a36_a_key_that_is_still_in_the_list(mailmerge, sandbox):
    """The address was written to as another row: this one is a duplicate, wherever it is in the list."""
    mailmerge.campaign(campaign_toml=KEYED, people_csv=IDS.format(1, 2, 3))
    mailmerge.account(sandbox)
    sent(mailmerge)
    first = IDS.format(1, 2, 3).replace("id,email,name\n", "id,email,name\n9,ana@example.com,Ana again\n")
    campaign = mailmerge.campaign(campaign_toml=KEYED, people_csv=first)

    sent(mailmerge)
    assert len(sandbox.messages) == 3
    assert statuses(campaign) == ["duplicate", "accepted", "accepted", "accepted"]


def test_a36_a_killed_run(mailmerge):
    """What was handed over when it was killed is known, before anybody has looked at its ledger."""
    mailmerge.campaign()
    with FaultServer({"content": {2: hang}}, extensions=()) as server:
        mailmerge.account(server)
        running = mailmerge.start("send", "spring", "--yes")
        try:
            assert server.wait_for(lambda: server.seen["content"] == 2, 10)
        finally:
            running.kill()
            running.communicate()

    stopped = send(mailmerge, "--name", "summer")
    assert stopped.code == 2, stopped
    one_error(stopped, "C472", "2 rows", "row 2 (ana@example.com), row 3 (bo@example.net)")


# --- what does not stop -----------------------------------------------------------------------------------


def test_a36_next_month_with_another_letter(mailmerge, sandbox):
    """The same people, another letter, another name: a new mailing."""
    mailmerge.campaign()
    mailmerge.account(sandbox)
    sent(mailmerge)
    mailmerge.campaign(body_txt="Dear {{ name }},\n\nnews of the next month.\n")

    sent(mailmerge, "--name", "december")
    assert len(sandbox.messages) == 6


def test_a36_statements_with_other_amounts(mailmerge, sandbox):
    """The same template over other amounts, under another name, makes other messages."""
    body = "Dear {{ name }},\n\nyou owe {{ amount }}.\n"
    people = "email,name,amount\nana@example.com,Ana,{}\nbo@example.net,Bo,{}\ncy@example.org,Cy,{}\n"
    mailmerge.campaign(body_txt=body, people_csv=people.format(1, 2, 3))
    mailmerge.account(sandbox)
    sent(mailmerge)
    mailmerge.campaign(body_txt=body, people_csv=people.format(4, 5, 6))

    sent(mailmerge, "--name", "december")
    assert len(sandbox.messages) == 6


def test_a36_several_invoices_a_customer(mailmerge, sandbox):
    """Where addresses may repeat, another row with the address is another letter; settled ones may leave."""
    rows = [f"{number},ana@example.com,Ana,{number}.50\n" for number in range(1, 6)]
    mailmerge.campaign(campaign_toml=ALLOWED, people_csv="id,email,name,amount\n" + "".join(rows[:2]))
    mailmerge.account(sandbox)
    sent(mailmerge)
    mailmerge.campaign(campaign_toml=ALLOWED, people_csv="id,email,name,amount\n" + "".join(rows[1:]))

    sent(mailmerge)
    assert len(sandbox.messages) == 5


# --- what is kept -----------------------------------------------------------------------------------------


def kept(mailmerge):
    """Return everything in the database of messages."""
    path = mailmerge.folder / "home" / "state" / "campaigns.db"
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT * FROM message").fetchall()


def test_a36_only_what_was_sent_is_kept(mailmerge, sandbox):
    """A check, a preview, a rehearsal, a test to oneself and a dry run leave nothing; a refusal neither."""
    mailmerge.campaign()
    mailmerge.account(sandbox)
    for words in (("check",), ("preview", "--no-open"), ("rehearse",), ("send", "--dry-run")):
        command, *options = words
        assert mailmerge(command, "spring", *options).code == 0
    assert mailmerge("test", "spring", "--to", "me@example.org").code == 0
    assert kept(mailmerge) == []
    with FaultServer({"RCPT": {2: say("550 5.1.1 no such user")}}, extensions=()) as server:
        mailmerge.account(server)
        assert send(mailmerge, "--set", "send.max_rejected=100%").code == 3

    assert len(kept(mailmerge)) == 2


def test_a36_purge_forgets(mailmerge, sandbox):
    """Nothing of the campaign is kept, what others sent is; nobody is stopped on its account."""
    mailmerge.campaign()
    mailmerge.account(sandbox)
    sent(mailmerge)
    sent(mailmerge, "--name", "other", "--subject", "Something else")
    done = mailmerge("purge", "spring", "--yes")
    assert done.code == 0, done

    assert len(kept(mailmerge)) == 3
    sent(mailmerge, "--name", "summer")
    assert len(sandbox.messages) == 9


def test_a36_no_address_is_kept(mailmerge, sandbox):
    """The database has hashes; what can be guessed cannot be compared without the key that is in it."""
    mailmerge.campaign()
    mailmerge.account(sandbox)
    sent(mailmerge)

    state = mailmerge.folder / "home" / "state"
    found = b"".join(path.read_bytes() for path in state.rglob("*") if path.is_file())
    assert b"ana" not in found
    assert len(kept(mailmerge)) == 3
