"""What commands write: results to stdout, everything else to stderr, no terminal control characters."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from mailmerge.check.diagnostics import diagnostic_lines, listing
from mailmerge.cli.terminal import coloured, columns, fitted, painted, windowed
from mailmerge.errors import CampaignFileError
from mailmerge.model import Severity
from mailmerge.streams import point_nowhere
from mailmerge.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mailmerge.check.diagnostics import DiagnosticCollector, Group
    from mailmerge.model import Diagnostic, Status


def out(text: str = "", *states: Status, word: str | None = None) -> None:
    """Write one line of a result to stdout; the names of these *states* in colour where wanted.

    *word*: what this line says instead of the name of its state.
    """
    _line(text, states, word)


def note(text: str = "") -> None:
    """Write one line of progress or advice to stderr."""
    _line(text, err=True)


def emit(kind: str, **values: Any) -> None:
    """Write one JSON object on a line of stdout: *kind* is its type, ``v`` the version of this format."""
    _write(json.dumps({"v": 1, "type": kind, **values}, ensure_ascii=False, default=str))


def _line(text: str, states: Iterable[Status] = (), word: str | None = None, *, err: bool = False) -> None:
    """Write a line, wrapped and coloured for its terminal."""
    stream = sys.stderr if err else sys.stdout
    shown = "\n".join(fitted(printable(text), columns(stream)))
    colours = coloured(stream)
    _write(painted(shown, states, word) if colours else shown, err=err, color=colours)


def _write(text: str, *, err: bool = False, color: bool | None = None) -> None:
    """Write a line; if its reader has gone away, this line and all later ones are dropped.

    A reader that goes away does not stop the sending: what matters is in the ledger.
    """
    try:
        click.echo(text, err=err, color=color)
    except BrokenPipeError:
        point_nowhere((sys.stderr if err else sys.stdout).fileno())


def show_diagnostics(diagnostics: Iterable[Diagnostic]) -> None:
    """Show problems on stderr, one after another."""
    for diagnostic in diagnostics:
        _show(diagnostic_lines(diagnostic))


def show_bug(error: Exception, what: str, *, whole: bool) -> None:
    """Show that *what* failed because of a bug of ours; *whole*: with the traceback, without any secret."""
    if whole:
        _write(traceback_of(error), err=True)
    note(f"error: {what}. This is a bug in mailmerge ({type(error).__name__}).")
    if not whole:
        note("   = hint: add -v to see the traceback, and please report it")


def traceback_of(error: Exception) -> str:
    """Return the traceback without any secret that it may quote."""
    import traceback

    from mailmerge.masking import mask_known

    return mask_known("".join(traceback.format_exception(error)))


def show_problems(problems: DiagnosticCollector, *, err: bool = True, most: int = 10) -> None:
    """Show collected problems, each group once, at most *most* of them."""
    _show(listing(problems, most=most), err=err)


def _show(text: Iterable[str], *, err: bool = True) -> None:
    for line in windowed(text, columns(sys.stderr if err else sys.stdout)):
        _line(line, err=err)


def diagnostic_values(group: Group) -> dict[str, Any]:
    """Return one group of problems as plain values for JSON."""
    first = group.first
    place = first.place
    return {
        "code": first.code,
        "severity": str(first.severity),
        "message": first.message,
        "hint": first.hint,
        "path": place.path if place else None,
        "line": place.line if place else None,
        "column": place.column if place else None,
        "cell": place.cell if place else None,
        "count": group.count,
        "rows": group.rows,
        "stops": first.severity is Severity.ERROR,
    }


def interactive() -> bool:
    """Return whether a person can answer: stdin and stderr are a terminal."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def require_person(hint: str = "add --yes to continue without confirmation") -> None:
    """Refuse to ask where nobody can answer.

    Raises:
        CampaignFileError: not running in a terminal; *hint* says what to do instead.

    """
    if not interactive():
        raise CampaignFileError(
            "cannot ask for confirmation: not running in a terminal", code="C480", hint=hint
        )
