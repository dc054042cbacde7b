"""``mailmerge report`` after real runs."""

from __future__ import annotations

import json
import re
import stat
from typing import TYPE_CHECKING

import openpyxl

from mailmerge import Campaign, Status
from servers.command import one_error

if TYPE_CHECKING:
    from pathlib import Path


def sent(mailmerge, sandbox) -> Path:
    """Send the small campaign, and give its folder."""
    folder: Path = mailmerge.campaign()
    mailmerge.account(sandbox)
    done = mailmerge("send", "spring", "--yes")
    assert done.code == 0, done
    assert "Report:  spring/out/report.html" in done.out.splitlines()
    return folder


def test_every_run_leaves_a_private_page(mailmerge, sandbox):
    """It says who sent, how many rows there are, and is the owner's alone."""
    page = sent(mailmerge, sandbox) / "out" / "report.html"
    text = page.read_text("utf-8")

    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert f"{sandbox.user}" in text
    assert "3 of 3 rows accepted by 127.0.0.1." in text
    assert "Dear Ana" not in text


def test_all_files_again_from_the_ledger(mailmerge, sandbox):
    """Workbook, copy and page are made when they are asked for."""
    folder = sent(mailmerge, sandbox)
    (folder / "out" / "report.html").unlink()
    done = mailmerge("report", "spring", "--xlsx", "--copy", "people.status.csv")

    assert done.code == 0, done
    assert (folder / "out" / "report.html").exists()
    assert openpyxl.load_workbook(folder / "out" / "results.xlsx")["results"]["D4"].value == "accepted"
    copied = (mailmerge.folder / "people.status.csv").read_text("utf-8").splitlines()
    assert copied[0] == "email,name,mailmerge_status,mailmerge_code,mailmerge_reply"
    assert copied[1].startswith("ana@example.com,Ana,accepted,250")


def test_a_page_can_be_left_out(mailmerge, sandbox):
    """--no-html leaves the page as it is."""
    folder = sent(mailmerge, sandbox)
    page = folder / "out" / "report.html"
    page.write_text("mine", "utf-8")
    done = mailmerge("report", "spring", "--no-html", "--json")

    assert page.read_text("utf-8") == "mine"
    assert done.objects[0]["page"] is None


def test_f43_redacted_files_are_beside_the_others(mailmerge, sandbox):
    """The folder for sharing names nobody; purge empties it as well."""
    folder = sent(mailmerge, sandbox)
    done = mailmerge("report", "spring", "--redact")
    shared = folder / "out" / "redacted"

    assert "Report:  spring/out/redacted/report.html" in done.out
    assert "ana@" not in (shared / "report.html").read_text("utf-8")
    rows = [json.loads(line) for line in (shared / "results.jsonl").read_text("utf-8").splitlines()]
    assert [row["address"].partition("@")[2] for row in rows] == ["example.com", "example.net", "example.org"]
    for path in shared.iterdir():
        assert not re.search(rb"spring|people", path.read_bytes()), path
    assert mailmerge("report", "spring", "--redact", "--copy", "x.csv").code == 2
    assert mailmerge("purge", "spring", "--yes").code == 0
    assert list(shared.iterdir()) == []
    assert not (folder / "out" / "report.html").exists()


def test_a_copy_must_be_of_the_same_kind_and_not_the_list(mailmerge, sandbox):
    """Nothing is written over the list."""
    folder = sent(mailmerge, sandbox)
    before = (folder / "people.csv").read_bytes()

    one_error(mailmerge("report", "spring", "--copy", "copy.xlsx"), "D154", "copy.csv")
    one_error(mailmerge("report", "spring", "--copy", "spring/people.csv"), "D154", "is the list itself")
    assert (folder / "people.csv").read_bytes() == before


def test_the_decision_names_the_very_campaign(mailmerge, sandbox):
    """With another name, the commands of the page have it, too."""
    folder = mailmerge.campaign()
    mailmerge.account(sandbox)
    assert mailmerge("send", "spring", "--yes", "--name", "May issue", "--limit", "1").code == 0
    text = (folder / "out" / "report.html").read_text("utf-8")

    assert "mailmerge send spring --name &#39;May issue&#39;" in text


def test_a_report_is_a_frame(mailmerge, sandbox, monkeypatch):
    """From the ledger, without another file."""
    folder = sent(mailmerge, sandbox)
    for name, value in mailmerge.environ.items():
        monkeypatch.setenv(name, value)
    frame = Campaign.load(folder).report().to_dataframe()

    assert frame["status"].tolist() == [Status.ACCEPTED] * 3
    assert frame["row"].tolist() == [2, 3, 4]
