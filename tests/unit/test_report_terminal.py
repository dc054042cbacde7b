"""Tables where a terminal is, plain lines where not."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from mailmerge.campaign.results import Report
from mailmerge.cli.report_view import show_counts, show_report
from mailmerge.masking import Secret
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


def fail(words: str) -> None:
    """Make an error with a traceback."""
    raise ZeroDivisionError(words)


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


def test_a_bug_that_cost_the_page_is_said_in_a_sentence(capsys):
    """After the results: one sentence and what to do, no traceback."""
    show_report(replace(report(), page_error=ZeroDivisionError("x")))
    said = capsys.readouterr()

    assert said.out.startswith("1 accepted   3 rejected")
    sentence, hint = said.err.splitlines()
    assert sentence.startswith("error: the report page could not be made; the results are complete.")
    assert sentence.endswith("This is a bug in mailmerge (ZeroDivisionError).")
    assert hint == "   = hint: add -v to see the traceback, and please report it"


def test_a_bug_that_cost_the_page_is_shown_whole_on_request(capsys):
    """With ``-v`` the traceback comes first, masked, and then the sentence."""
    secret = Secret("correct horse battery")
    with pytest.raises(ZeroDivisionError) as caught:
        fail(f"by {secret.reveal()}")
    show_report(replace(report(), page_error=caught.value), verbose=True)
    said = capsys.readouterr().err

    assert said.startswith("Traceback (most recent call last):\n")
    assert "ZeroDivisionError: by ****\n" in said
    assert said.splitlines()[-1].startswith("error: the report page could not be made")


def test_a_page_that_the_disk_refuses_is_said_with_the_reason(capsys):
    """It is not a bug of ours, and the results are complete."""
    error = OSError(28, "No space left on device")
    show_report(replace(report(), folder=Path("out"), page_error=error))

    assert "could not be written ([Errno 28] No space left on device)" in capsys.readouterr().err


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
    text = shown(lambda: show_counts(Counts({Status.ACCEPTED: 3, Status.IN_DOUBT: 1})))

    assert "\x1b[32maccepted" in text
    assert "75.0 %" in text


def test_rich_is_loaded_for_terminals_only():
    """A run without a terminal never pays for it."""
    code = (
        "import sys; from mailmerge.cli import after, report_view; "
        "print('rich' in sys.modules, 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "False"]
