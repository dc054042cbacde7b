"""Tables where a terminal is, plain lines where not."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from mailmerge.campaign.reporting import Report
from mailmerge.cli import tables
from mailmerge.cli.report_view import show_report
from mailmerge.model import Counts, Delivery, Result, Status
from mailmerge.report.summary import Summary
from mailmerge.text import width

if TYPE_CHECKING:
    from collections.abc import Callable

CHINESE = "邮箱不存在，请检查收件人地址是否正确后重新发送，谢谢您的合作"


class Terminal(io.StringIO):
    """A stream that says it is one."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def report() -> Report:
    """Make a report with a refusal in Chinese and one that would steer a terminal."""
    summary = Summary()
    for row, reply in ((2, ""), (3, CHINESE), (4, CHINESE), (5, "\x1b]0;owned\x07[red]no")):
        delivery = Delivery(
            key=f"k{row}",
            row=row,
            address=f"a{row}@example.org",
            status=Status.REJECTED if reply else Status.ACCEPTED,
            code=550 if row < 5 else 554,
            reply=reply or "Ok",
            updated=datetime(2026, 11, 22, tzinfo=UTC),
        )
        summary.add(Result(row, delivery.key, delivery.address, delivery.status, "", delivery))
    return Report("spring", summary, 3)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], str]:
    """Run something with a terminal of 50 columns for stdout, and give what it wrote."""
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)

    def run(show: Callable[[], None]) -> str:
        with contextlib.redirect_stdout(Terminal()) as stream:
            show()
        return stream.getvalue()

    return run


def test_plain_lines_where_no_terminal_is(capsys):
    """Scripts get the lines they always got."""
    show_report(report())
    lines = capsys.readouterr().out.splitlines()

    assert lines[:3] == [
        "1 accepted   3 rejected",
        f"  rejected      2  550 {CHINESE}  rows 3, 4 (all @example.org)",
        r"                1  554 \x1b]0;owned\x07[red]no  row 5",
    ]


def test_a_table_fits_the_terminal(shown, monkeypatch):
    """Wide characters count twice, nothing is cut off, nothing steers the terminal."""
    monkeypatch.setenv("NO_COLOR", "1")
    text = shown(lambda: show_report(report()))
    table = text.splitlines()[1:-1]

    assert max(map(width, table)) <= 50
    assert all(character in text for character in CHINESE)
    assert r"\x1b]0;owned\x07" in "".join(text.split())
    assert "[red]" in "".join(text.split())
    assert "\x1b" not in text


def test_colours_only_where_they_are_wanted(shown):
    """Without NO_COLOR the states are coloured."""
    text = shown(lambda: tables.show_counts(Counts({Status.ACCEPTED: 3, Status.IN_DOUBT: 1})))

    assert "\x1b[32maccepted" in text
    assert "75.0 %" in text


def test_rich_is_loaded_for_terminals_only():
    """A run without a terminal never pays for it."""
    code = (
        "import sys; from mailmerge.cli import status, report_view; "
        "print('rich' in sys.modules, 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "False"]
