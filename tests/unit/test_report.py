"""Result files and the summary."""

from __future__ import annotations

import csv
import json
import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from mailmerge.model import Delivery, Result, Status
from mailmerge.output_folder import OutputFolder
from mailmerge.report.failed_rows import write_failed_text
from mailmerge.report.result_files import NAMES, ReportFiles
from mailmerge.report.summary import Summary, standing_line

if TYPE_CHECKING:
    from pathlib import Path


def result(
    row: int | None, status: Status, *, reply: str = "", code: int | None = None, **more: str
) -> Result:
    """Make one row's result."""
    delivery = None
    if code or reply:
        delivery = Delivery(
            key=f"k{row}",
            row=row or 0,
            address=more.get("address", f"a{row}@example.org"),
            status=status,
            attempts=1,
            code=code,
            enhanced=more.get("enhanced", ""),
            reply=reply,
            updated=datetime(2026, 11, 22, 10, 0, tzinfo=UTC),
        )
    return Result(
        row,
        f"k{row}",
        more.get("address", f"a{row}@example.org"),
        status,
        more.get("detail", ""),
        delivery,
    )


RESULTS = [
    result(2, Status.ACCEPTED, code=250, reply="Ok: queued as 4X"),
    result(3, Status.REJECTED, code=550, enhanced="5.1.1", reply="no such user", address="x@corp.example"),
    result(
        4, Status.REJECTED, code=550, enhanced="5.1.1", reply="no such user here", address="y@corp.example"
    ),
    result(5, Status.IN_DOUBT, reply="connection lost", detail="connection lost"),
    result(6, Status.INVALID, detail="line break in `first`"),
    result(7, Status.DUPLICATE, detail="repeats row 2"),
]


def read(path: Path) -> list[dict[str, str]]:
    """Read a CSV file as a spreadsheet would."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_results_hold_every_row_in_both_forms(tmp_path: Path) -> None:
    """CSV and JSON lines agree row by row."""
    summary = Summary()
    ReportFiles(OutputFolder(tmp_path / "out")).write(RESULTS, summary.add)
    rows = read(tmp_path / "out" / "results.csv")
    objects = [
        json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text("utf-8").splitlines()
    ]
    assert [row["status"] for row in rows] == [str(r.status) for r in RESULTS]
    assert [entry["row"] for entry in objects] == [2, 3, 4, 5, 6, 7]
    assert tuple(rows[0]) == NAMES
    assert rows[1]["reply"] == "no such user"


def test_results_are_marked_as_utf_8_for_excel_and_private(tmp_path: Path) -> None:
    """The file starts with a byte order mark and only its owner can read it."""
    ReportFiles(OutputFolder(tmp_path)).write(
        [result(2, Status.ACCEPTED, address="王@example.org")], Summary().add
    )
    path = tmp_path / "results.csv"
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_cell_or_reply_cannot_become_a_formula(tmp_path: Path, start: str) -> None:
    """What would start a formula in a spreadsheet gets an apostrophe in front."""
    hostile = f"{start}HYPERLINK(1)"
    ReportFiles(OutputFolder(tmp_path)).write(
        [result(2, Status.REJECTED, code=550, reply=hostile)], Summary().add
    )
    assert read(tmp_path / "results.csv")[0]["reply"] == "'" + hostile


def test_failed_keeps_the_original_columns_and_adds_what_went_wrong(tmp_path: Path) -> None:
    """The file can be corrected and used as a list: the list's own cells are as they were."""
    rows = [(("=x, y", "x@corp.example"), RESULTS[1], "abc")]
    assert write_failed_text(OutputFolder(tmp_path), ["Name", "email"], rows) == 1
    (row,) = read(tmp_path / "failed.csv")
    assert row == {
        "Name": "=x, y",
        "email": "x@corp.example",
        "mailmerge_status": "rejected",
        "mailmerge_code": "550",
        "mailmerge_reply": "no such user",
        "mailmerge_row": "3",
        "mailmerge_key": "k3",
        "mailmerge_mark": "abc",
    }


def test_failed_of_an_earlier_run_is_removed_when_nothing_failed(tmp_path: Path) -> None:
    """An old failed.csv of ours never lies about a good run."""
    write_failed_text(OutputFolder(tmp_path), ["email"], [(["a@x.org"], RESULTS[1], "abc")])
    assert (tmp_path / "failed.csv").exists()
    assert write_failed_text(OutputFolder(tmp_path), ["email"], []) == 0
    assert not (tmp_path / "failed.csv").exists()


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    """Results are replaced whole or not at all."""
    files = ReportFiles(OutputFolder(tmp_path))
    files.write(RESULTS[:1], Summary().add)
    before = (tmp_path / "results.csv").read_bytes()

    def broken() -> object:
        yield RESULTS[0]
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="space"):
        files.write(broken(), Summary().add)  # type: ignore[arg-type]
    assert (tmp_path / "results.csv").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [".written", "results.csv", "results.jsonl"]


def test_the_summary_adds_up_and_names_rows_replies_and_domain() -> None:
    """Counts add up to the list; refusals of one kind are one line with their rows."""
    summary = Summary()
    for entry in RESULTS:
        summary.add(entry)
    assert summary.counts.total == len(RESULTS)
    assert summary.headline() == ("1 accepted   2 rejected   1 in doubt   1 invalid   1 duplicate")
    text = list(summary.lines())
    assert text[0] == "  rejected      2  550 5.1.1 no such user  rows 3, 4 (all @corp.example)"
    assert text[1] == "  in doubt      1  connection lost  row 5"
    assert text[2] == "  invalid       1  line break in `first`  row 6"


def test_the_summary_stays_small_with_many_kinds_of_refusal() -> None:
    """Past a handful of kinds the rest is one line that points to the results."""
    summary = Summary()
    for number in range(100):
        summary.add(result(number + 2, Status.REJECTED, code=500 + number % 50, reply=f"no {number}"))
    text = list(summary.lines())
    assert len(text) <= 10
    assert "see results.csv" in text[-1]


# --- the status of a row --------------------------------------------------------------------------------

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
AT = f"{datetime(2026, 11, 22, 10, 0, tzinfo=UTC).astimezone():%H:%M}"
UNTIL = f"{datetime(2026, 11, 22, 10, 15, tzinfo=UTC).astimezone():%H:%M}"


def stands(status: Status, detail: str = "", went_out: bool | None = None, **delivery: object) -> str:
    """Return the status of a row to which this happened."""
    known = Delivery("k", 2, "b@x.org", status, updated=datetime(2026, 11, 22, 10, 0, tzinfo=UTC))
    contacted = replace(known, **delivery) if delivery else None
    return standing_line(Result(2, "k", "b@x.org", status, detail, contacted), NOON, went_out=went_out)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (stands(Status.PENDING), "Pending: not sent yet"),
        (stands(Status.DUPLICATE, "repeats row 30"), "Not sent: repeats row 30"),
        (stands(Status.SUPPRESSED, "b@x.org is suppressed"), "Not sent: b@x.org is suppressed"),
        (stands(Status.INVALID, "no address"), "Not sent: no address"),
        (stands(Status.INVALID, "no address", code=451, reply="wait"), "Not sent: no address"),
        (stands(Status.SKIPPED, "where"), "Not sent: excluded by `where`"),
        (stands(Status.ACCEPTED, went_out=True, code=250), f"Accepted {AT}; this went out"),
        (
            stands(Status.ACCEPTED, went_out=False, code=250),
            f"Accepted {AT}; changed since; the message that was sent is not kept",
        ),
        (stands(Status.ACCEPTED, "edited", code=250), f"Accepted {AT}; edited"),
        (
            stands(Status.ACCEPTED, went_out=True, reason="resolved as accepted"),
            f"Accepted {AT}, as a person decided; this went out",
        ),
        (
            stands(
                Status.DEFERRED,
                code=451,
                enhanced="4.7.1",
                reply="try later",
                next_at=datetime(2026, 11, 22, 10, 15, tzinfo=UTC),
            ),
            f"Deferred until {UNTIL}: 451 4.7.1 try later",
        ),
        (stands(Status.IN_DOUBT, attempts=1), f"In doubt since {AT}: see `resolve`"),
        (stands(Status.HANDING_OVER, attempts=1), f"Handing over since {AT}: no reply yet"),
        (
            stands(Status.REJECTED, code=550, enhanced="5.1.1", reply="no such user"),
            f"Rejected {AT}: 550 5.1.1 no such user",
        ),
        (
            stands(Status.REJECTED, code=550, reply="550-no such user"),
            f"Rejected {AT}: 550-no such user",
        ),
        (stands(Status.EXPIRED, code=451, reply="wait"), f"Expired {AT}: 451 wait"),
        (stands(Status.PENDING, attempts=1, reason="requeued"), f"Pending since {AT}: requeued"),
        (stands(Status.PENDING, attempts=1), f"Pending since {AT}"),
    ],
)
def test_one_line_says_where_a_row_stands(line: str, said: str) -> None:
    """The state, since when, and what it means for the message that is shown."""
    assert line == said


def test_a_moment_of_another_day_has_its_date() -> None:
    """A page is looked at on other days, too."""
    moment = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
    assert stands(Status.REJECTED, updated=moment, code=550) == (
        f"Rejected {moment.astimezone():%Y-%m-%d %H:%M}: 550"
    )
