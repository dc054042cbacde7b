"""How far a run has got: a bar on a terminal, a line now and then elsewhere, JSON lines on request."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Self

from mailmerge.cli.output import note
from mailmerge.report.summary import WORDS

if TYPE_CHECKING:
    from tqdm import tqdm

    from mailmerge.delivery.sender import Progress
    from mailmerge.model import Status

LINE_EVERY = 30.0
"""Seconds between two lines where stderr is no terminal."""


class Bar:
    """Shows the progress of one run; use it as a context manager."""

    def __init__(self, *, quiet: bool = False, as_json: bool = False) -> None:
        self._quiet = quiet
        self._as_json = as_json
        self._bar: tqdm[Any] | None = None
        self._total: int | None = None
        self._done = 0
        self._counts: dict[Status, int] = {}
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def begin(self, total: int) -> None:
        """Say how many messages there are to send."""
        self._total = total
        if not self._quiet and total and sys.stderr.isatty():
            from tqdm import tqdm  # noqa: PLC0415  80 ms, and only where there is a terminal

            self._bar = tqdm(total=total, unit="msg", file=sys.stderr, dynamic_ncols=True, mininterval=0.2)

    def observe(self, progress: Progress) -> None:
        """Take in one step of the sender."""
        raise NotImplementedError

    def _advance(self, status: Status) -> None:
        self._done += 1
        self._counts[status] = self._counts.get(status, 0) + 1
        if self._bar is not None:
            self._bar.set_postfix_str(self._words(), refresh=False)
            self._bar.update(1)
        elif not self._quiet and time.monotonic() - self._last_line >= LINE_EVERY:
            self._last_line = time.monotonic()
            total = f" of {self._total:,}" if self._total is not None else ""
            note(f"{self._done:,}{total}: {self._words()}")

    def _words(self) -> str:
        return "  ".join(f"{WORDS[status]} {count:,}" for status, count in self._counts.items())

    def say(self, text: str) -> None:
        """Write a line without tearing the bar."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        elif not self._quiet:
            note(text)
