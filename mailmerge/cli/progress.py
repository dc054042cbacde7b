"""A run as its user watches and stops it: a bar, or occasional lines; the first signal, and the second."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from mailmerge.cli.output import emit, note
from mailmerge.model import Counts
from mailmerge.text import duration, local_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tqdm import tqdm

    from mailmerge.sending.runs import Progress
_WAITS = {
    "rate": "the rate",
    "deferred": "rows that were deferred until then",
    "hours": "sending hours begin then",
    "network": "no connection",
    "account": "the server asked for a pause",
    "campaign_lock": "at most: another process is working on this campaign",
    "account_lock": "at most: another process is sending with this account",
    "opt-outs": "the list of opt-outs cannot be read",
    "workers": "waiting for a worker: none is sending this campaign",
    "ledger": "the ledger cannot be reached; the workers stop by themselves, and continue when it is back",
}
FINISHING = "finishing the messages in flight ... (press again to stop immediately)"
LINE_EVERY = 30.0
"""Seconds between two lines where stderr is not a terminal."""


class _ProgressDisplay:
    """A bar on a terminal, or a line now and then elsewhere; use it as a context manager."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def _line_is_due(self) -> bool:
        due = time.monotonic() - self._last_line >= LINE_EVERY
        if due:
            self._last_line = time.monotonic()
        return due


class Bar(_ProgressDisplay):
    """Shows the progress of one run."""

    def __init__(self, *, quiet: bool = False, as_json: bool = False) -> None:
        super().__init__()
        self._quiet = quiet
        self._as_json = as_json
        self._total: int | None = None
        self._done = 0
        self._counts = Counts()
        self._paced = False
        """Whether a wait for the rate was shown."""
        self._until = datetime.now(UTC)
        """The end of the last one."""

    def begin(self, total: int) -> None:
        """Start with the number of messages to send."""
        self._total = total
        if not self._quiet and total and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit="msg", file=sys.stderr, dynamic_ncols=True, mininterval=0.2)

    def observe(self, progress: Progress) -> None:
        """Show one step of the sender."""
        if progress.status is not None:
            if self._as_json:
                self._emit(progress)
            self._advance(progress.counts)
        elif progress.waiting and progress.until:
            until = local_time(progress.until, datetime.now(UTC), seconds=True)
            text = f"waiting until {until} ({_WAITS[progress.waiting]})"
            if progress.waiting == "rate":
                self._say_pace(text, progress.until)
            else:
                self.say(text)
        elif progress.waiting:
            self.say(_WAITS[progress.waiting])
        else:
            self._count(progress.counts)

    def _count(self, counts: Counts) -> None:
        """Show what others have done so far."""
        if counts == self._counts:
            return
        if self._as_json:
            emit("progress", statuses=counts.by_status)
        self._done = counts.total - 1
        if self._bar is not None:
            self._bar.n = self._done
        self._advance(counts)

    def _say_pace(self, text: str, until: datetime) -> None:
        """Show a wait that may come before every message: on the bar, elsewhere a line now and then."""
        # A rehearsal's clock runs ahead of ours: a wait is as long as it is later than the one before it.
        long = (until - max(self._until, datetime.now(UTC))).total_seconds() > LINE_EVERY
        self._until = until
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self._words()}  {text}")
        elif not self._quiet and (self._line_is_due() or long or not self._paced):
            note(text)
        self._paced = True

    @staticmethod
    def _emit(progress: Progress) -> None:
        reply = progress.outcome.reply if progress.outcome else None
        emit(
            "outcome",
            row=progress.row,
            address=progress.address,
            status=progress.status,
            code=reply.code if reply else None,
            reply=str(reply) if reply else "",
        )

    def _advance(self, counts: Counts) -> None:
        self._done += 1
        self._counts = counts
        if self._bar is not None:
            self._bar.set_postfix_str(self._words(), refresh=False)
            self._bar.update(1)
        elif not self._quiet and self._line_is_due():
            total = f" of {self._total:,}" if self._total is not None else ""
            note(f"{self._done:,}{total}: {self._words()}")

    def _words(self) -> str:
        from mailmerge.report.summary import WORDS

        return "  ".join(f"{WORDS[status]} {count:,}" for status, count in self._counts.by_status.items())

    def say(self, text: str) -> None:
        """Write a line without tearing the bar."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        elif not self._quiet:
            note(text)


class PlanningTime:
    """Shows how long planning will take where files are made for rows; otherwise planning is quick.

    Args:
        quiet: say nothing.

    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet

    def __call__(self, rows: int) -> None:
        """Ignore how many rows are done."""

    def takes(self, seconds: float) -> None:
        """Show how long it will take."""
        if not self._quiet:
            note(
                f"making the files takes about {duration(seconds)}; "
                "Ctrl-C stops it, and the next command continues from there"
            )


class RowCounter(_ProgressDisplay, PlanningTime):
    """Shows how many rows were looked at: a bar on a terminal, elsewhere a line now and then."""

    def __init__(self) -> None:
        _ProgressDisplay.__init__(self)
        PlanningTime.__init__(self)

    def __call__(self, rows: int) -> None:
        """Show how many rows are done."""
        if self._bar is None and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(unit=" rows", file=sys.stderr, leave=False)
        if self._bar is not None:
            self._bar.update(rows - self._bar.n)
        elif self._line_is_due():
            note(f"{rows:,} rows checked")


STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that ask us to end: Ctrl-C, a `kill`, and a terminal that goes away."""


class StoppedError(SystemExit):
    """A signal that ends the command immediately."""


class SignalHandler(ABC):
    """Handles the signals that ask us to end, while it is entered.

    A signal that was ignored when we were started remains ignored: shells start commands in the background
    like this, and the Ctrl-C at their terminal is meant for another command.
    """

    def __init__(self, code: int) -> None:
        self.flag = threading.Event()
        """Set when the work is to stop."""
        self.code = code
        """The exit code for the signal that came."""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in STOPPING:
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @abstractmethod
    def _handle(self, number: int, _frame: object) -> None:
        """Do what a signal asks for."""


class GracefulStop(SignalHandler):
    """Turns the signals that ask us to end into a request to stop, while it is entered.

    Before `begin`, and within `at_once`, nothing has been handed over whose reply must be waited for: there
    the first signal ends the command.

    What ends the command is an exception from a signal's handler, and such an exception can be lost: `input`
    swallows whatever happens while it flushes the other streams. So it is raised again where sending would
    begin, and at the end.
    """

    def __init__(self, finishing: str = FINISHING) -> None:
        super().__init__(code=130)
        self._finishing = finishing
        self._begun = False
        self._ending = False

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        super().__exit__(kind)
        if kind is None:
            self._end()

    def begin(self) -> None:
        """Note that from now on messages are handed over: those in flight are waited for."""
        self._end()
        self._begun = True

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal end the block with a `StoppedError`, and ask the run to stop as well."""
        begun, self._begun = self._begun, False
        try:
            yield
            self._end()
        except StoppedError:
            self._ending = False
            self.flag.set()
            raise
        finally:
            self._begun = begun

    def _end(self) -> None:
        """End the command if a signal asked for it and its exception was lost."""
        if self._ending:
            raise StoppedError(self.code)

    def _handle(self, number: int, _frame: object) -> None:
        self.code = 128 + number
        if not self._begun:
            self._ending = True
            _tell("\nstopped: nothing more was sent\n")
            raise StoppedError(self.code)
        if self.flag.is_set():
            # The ledger has the states: rows on the wire will be in doubt.
            _tell("\nstopping immediately; messages in flight are now in doubt\n")
            raise SystemExit(self.code)
        self.flag.set()
        _tell(f"\n{self._finishing}\n")


def _tell(text: str) -> None:
    # The reader may be gone, or a line half written: the signal counts anyway.
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        sys.stderr.write(text)
