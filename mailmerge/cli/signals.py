"""Signals: the first lets the run finish what is in flight, the second stops it immediately."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from typing import Any, Self


class GracefulStop:
    """Turns SIGINT and SIGTERM into a request to stop while it is entered.

    One that was ignored when we were started stays so: shells start commands in the background like this, and
    the Ctrl-C at their terminal is meant for another.
    """

    def __init__(self) -> None:
        self.flag = threading.Event()
        self.code = 130
        """The exit code that tells which signal it was."""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: object) -> None:
        self.code = 128 + number
        if self.flag.is_set():
            # The states are as the ledger has them: rows on the wire will be in doubt.
            _say("\nstopping immediately; messages in flight are now in doubt\n")
            raise SystemExit(self.code)
        self.flag.set()
        _say("\nfinishing the messages in flight ... (press again to stop immediately)\n")


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the reader may be gone: the signal counts all the same
        sys.stderr.write(text)
