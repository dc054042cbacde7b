"""The rows that failed: their file, sending them again, correcting them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import openpyxl
import pytest

from campaigns import TO_PEOPLE, campaign_toml
from faultd import FaultServer, say
from servers.command import one_error, results

PEOPLE = Path(__file__).parents[1] / "data" / "lists" / "people.xlsx"
LIBRE = campaign_toml(
    top='account = "test"', data='source = "people.xlsx"\nsheet = "People"', message=TO_PEOPLE
)
BODY = """\
{{ zip }} {{ amount }} {{ share }} {{ due }} {{ "%.1f" % amount }} {{ seen_at }} {{ opens }}
{{ worked }} {{ "yes" if member else "no" }} {{ total }} {{ code }} {{ phone }}
"""
NOBODY = say("550 5.1.1 no such user")


@pytest.fixture
def refused(mailmerge):
    """A campaign over a workbook that LibreOffice made, after every row was refused; with its server."""
    campaign = mailmerge.campaign(campaign_toml=LIBRE, body_txt=BODY)
    (campaign / "people.xlsx").write_bytes(PEOPLE.read_bytes())
    toml = campaign / "campaign.toml"
    toml.write_text(toml.read_text().replace("{{ name }}", "{{ first_name }}"))
    with FaultServer({"RCPT": {1: NOBODY, 2: NOBODY}}, extensions=()) as server:
        mailmerge.account(server)
        done = mailmerge("send", "spring", "--yes", "--skip-invalid", "--set", "send.max_rejected=100%")
        assert done.code == 3, done
        assert "failed.xlsx (3 rows, ready to fix and resend)" in done.out
        yield campaign, server


def test_the_failed_rows_of_a_workbook_are_a_workbook(refused):
    """Dates are dates, leading zeros stay, and failed.csv is not written."""
    campaign, _ = refused
    sheet = openpyxl.load_workbook(campaign / "out" / "failed.xlsx")["People"]
    rows = [dict(zip([cell.value for cell in sheet[1]], row, strict=True)) for row in sheet.iter_rows(2)]
    assert [(row["mailmerge_status"].value, row["mailmerge_row"].value) for row in rows] == [
        ("rejected", "2"),
        ("rejected", "4"),
        ("invalid", "5"),
    ]
    assert rows[0]["mailmerge_key"].value == "wei@example.org"
    assert rows[0]["due"].value == datetime(2026, 3, 5)  # noqa: DTZ001
    assert (rows[0]["zip"].value, rows[0]["zip"].number_format) == (1067, "00000")
    assert not (campaign / "out" / "failed.csv").exists()
    assert "failed.xlsx" in (campaign / "out" / "report.html").read_text("utf-8")


def test_requeue_finds_people_in_failed_xlsx(mailmerge, refused):
    """Those in the file get another chance, whatever else there is in it."""
    campaign, server = refused
    book = openpyxl.load_workbook(campaign / "out" / "failed.xlsx")
    book["People"].delete_rows(2)
    book.save(campaign / "mine.xlsx")

    done = mailmerge("requeue", "spring", "--from", campaign / "mine.xlsx")
    assert done.out.startswith("Requeued 1 row."), done
    mailmerge("send", "spring", "--yes", "--skip-invalid")

    assert [message.recipients[0] for message in server.accepted] == [b"jerome@example.org"]


def test_purge_removes_failed_xlsx(mailmerge, refused):
    """It is personal data."""
    campaign, _ = refused
    done = mailmerge("purge", "spring", "--yes")
    assert done.code == 0, done
    assert not (campaign / "out" / "failed.xlsx").exists()


def test_failed_xlsx_as_a_list_sends_the_campaigns_rows(mailmerge, refused):
    """After `requeue` the file as it was written means its rows: the messages are those of the list."""
    campaign, server = refused
    failed = campaign / "out" / "failed.xlsx"
    looked = mailmerge("check", "spring", "--list", failed, "--json")
    assert "mailmerge_" not in looked.out + looked.err, looked

    assert mailmerge("requeue", "spring", "--from", failed).out.startswith("Requeued 2 rows."), refused
    done = mailmerge("send", "spring", "--list", failed, "--yes", "--skip-invalid")

    assert done.code == 3, done
    assert [message.recipients[0] for message in server.accepted] == [
        b"wei@example.org",
        b"jerome@example.org",
    ]
    content = server.accepted[0].content.replace(b"=\r\n", b"")
    assert b"01067 1,234.50 =E2=82=AC 26% 05.03.2026 1234.5 2026-03-05 14:30 09:05" in content


@pytest.fixture
def one_refused(mailmerge):
    """A campaign of three whose second was refused; with its server."""
    campaign = mailmerge.campaign()
    with FaultServer({"RCPT": {2: NOBODY}}, extensions=()) as server:
        mailmerge.account(server)
        done = mailmerge("send", "spring", "--yes")
        assert done.code == 3, done
        yield campaign, server


def edit(path, old, new):
    """Change text in a file as a spreadsheet program would write it again."""
    text = path.read_text("utf-8-sig")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8-sig")


def test_a_row_edited_in_two_files_is_not_sent(mailmerge, one_refused):
    """Both places are named, and nothing goes out."""
    campaign, server = one_refused
    edit(campaign / "out" / "failed.csv", "bo@example.net,Bo", "bo@example.net,Bob")
    edit(campaign / "people.csv", "bo@example.net,Bo", "bo@example.net,Robert")

    done = mailmerge("check", "spring", "--list", "spring/out/failed.csv")

    assert done.code == 3, done
    assert "bo@example.net was edited here and in spring/people.csv (row 3 there)" in done.out + done.err
    assert "spring/out/failed.csv" in done.out + done.err
    assert len(server.accepted) == 2


def test_a_corrected_row_supersedes_the_refused_one(mailmerge, one_refused):
    """Totals, status and exit code come right, the old row is never sent again, and requeue says why."""
    campaign, server = one_refused
    failed = campaign / "out" / "failed.csv"
    edit(failed, "bo@example.net", "bob@example.net")

    done = mailmerge("send", "spring", "--list", failed, "--yes")

    assert done.code == 0, done
    assert [message.recipients[0] for message in server.accepted][2:] == [b"bob@example.net"]
    (status,) = mailmerge("status", "spring", "--json").objects
    assert status["statuses"] == {"duplicate": 1, "accepted": 3}
    old = next(row for row in results(campaign) if row["key"] == "bo@example.net")
    assert (old["row"], old["status"], old["detail"]) == ("", "duplicate", "superseded by bob@example.net")

    again = mailmerge("send", "spring", "--yes")
    assert again.code == 0, again
    assert len(server.accepted) == 3
    old = next(row for row in results(campaign) if row["key"] == "bo@example.net")
    assert (old["row"], old["status"], old["detail"]) == ("3", "duplicate", "superseded by bob@example.net")
    refused = mailmerge("requeue", "spring", "--rows", "3")
    one_error(refused, "D158", "bo@example.net (superseded by bob@example.net)")
    assert refused.code == 2
    assert mailmerge("requeue", "spring").out.startswith("Requeued 0 rows.")


def test_a_correction_that_is_refused_too_supersedes_nothing_yet(mailmerge, one_refused):
    """Both count as rejected; the next correction, once accepted, supersedes both."""
    campaign, server = one_refused
    failed = campaign / "out" / "failed.csv"
    edit(failed, "bo@example.net", "bob@example.net")
    server.faults["RCPT"] = {4: NOBODY}
    done = mailmerge("send", "spring", "--list", failed, "--yes", "--set", "send.max_rejected=100%")
    assert done.code == 3, done
    (status,) = mailmerge("status", "spring", "--json").objects
    assert status["statuses"] == {"accepted": 2, "rejected": 2}

    newest = max((campaign / "out").glob("failed*.csv"), key=lambda path: path.stat().st_mtime)
    edit(newest, "bob@example.net", "robert@example.net")
    done = mailmerge("send", "spring", "--list", newest, "--yes")

    assert done.code == 0, done
    (status,) = mailmerge("status", "spring", "--json").objects
    assert status["statuses"] == {"accepted": 3, "duplicate": 2}


def test_a_row_corrected_to_somebody_elses_address_is_not_lost(mailmerge, one_refused):
    """It is that person's row, which was written to; the refused one stays rejected."""
    campaign, server = one_refused
    failed = campaign / "out" / "failed.csv"
    edit(failed, "bo@example.net", "cy@example.org")

    done = mailmerge("send", "spring", "--list", failed, "--yes")

    assert done.code == 3, done
    (status,) = mailmerge("status", "spring", "--json").objects
    assert status["statuses"] == {"accepted": 2, "rejected": 1}
    assert len(server.accepted) == 2


def test_a_requeued_row_that_was_corrected_meanwhile_is_not_sent(mailmerge, one_refused):
    """The correction counts for the row in the list, too, although it was pending again."""
    campaign, server = one_refused
    failed = campaign / "out" / "failed.csv"
    assert mailmerge("requeue", "spring", "--from", failed).out.startswith("Requeued 1 row.")
    edit(failed, "bo@example.net", "bob@example.net")
    assert mailmerge("send", "spring", "--list", failed, "--yes").code == 0

    done = mailmerge("send", "spring", "--yes")

    assert done.code == 0, done
    assert [message.recipients[0] for message in server.accepted][2:] == [b"bob@example.net"]


def test_edited_results_are_never_overwritten(mailmerge, one_refused):
    """Notes in results.csv and a half-corrected failed.csv stay; where the new ones are is said."""
    campaign, _ = one_refused
    for name, what in (("results.csv", "no such user"), ("failed.csv", "bo@example.net,Bo")):
        edit(campaign / "out" / name, what, "MY NOTE")

    done = mailmerge("send", "spring", "--yes")

    assert done.code == 3, done
    for name in ("results", "failed"):
        assert "MY NOTE" in (campaign / "out" / f"{name}.csv").read_text("utf-8-sig")
        assert "MY NOTE" not in (campaign / "out" / f"{name}-2.csv").read_text("utf-8-sig")
        assert f"{name}.csv is kept as you edited it: the new one is {name}-2.csv" in done.out + done.err
    assert "results-2.csv   results.jsonl   failed-2.csv (1 row" in done.out
    assert "failed-2.csv" in (campaign / "out" / "report.html").read_text("utf-8")
    assert mailmerge("purge", "spring", "--yes").code == 0
    assert not list((campaign / "out").glob("*.csv"))


def test_a_stopped_run_keeps_the_list_that_it_was_given(mailmerge, one_refused):
    """What it suggests works: the rows that are left are still in the file."""
    campaign, server = one_refused
    failed = campaign / "out" / "failed.csv"
    mailmerge("requeue", "spring", "--from", failed)
    server.faults["RCPT"] = {4: say("450 4.2.1 try again later")}
    done = mailmerge("send", "spring", "--list", failed, "--yes")
    assert done.code == 5, done
    assert failed.exists()


def test_the_failed_rows_of_another_list_are_rows_of_that_one(mailmerge):
    """A run over ``--list`` leaves rows of that list, not of the one that the campaign file names."""
    campaign = mailmerge.campaign()
    (campaign / "april.csv").write_text("email,name\ndi@example.com,Di\ned@example.net,Ed\n")
    with FaultServer({"RCPT": {2: NOBODY}}, extensions=()) as server:
        mailmerge.account(server)
        assert mailmerge("send", "spring", "--list", "spring/april.csv", "--yes").code == 3
        edit(campaign / "april.csv", "Ed", "Edward")
        mailmerge("requeue", "spring", "--from", "spring/out/failed.csv")
        done = mailmerge("send", "spring", "--list", "spring/out/failed.csv", "--yes")

    assert done.code == 0, done
    assert b"Hello Edward" in server.accepted[1].content
