"""When refusals stop being about rows and start being about us: then the run stops, rows untouched."""

from __future__ import annotations

from collections import deque

from msgspec import Struct

from mailmerge.model import Outcome, Scope, Status
from mailmerge.validation import percent

_LAST = 200


class Trip(Struct, frozen=True):
    """Why the run must stop."""

    reason: str
    hint: str | None = None


class Breaker:
    """Watches the outcomes of one run.

    It trips at 10 rejected rows in a row, when more than the share *max_rejected* (from 0 to 1) of the last
    200 rows was rejected, at 3 connections in a row that leave rows in doubt, at 3 contents refused in a
    row, at the second protocol error, and at the fourth pause that the account was ordered without anything
    accepted in between.
    """

    def __init__(
        self,
        max_rejected: float,
        *,
        in_a_row: int = 10,
        doubts: int = 3,
        contents: int = 3,
        pauses: int = 4,
    ) -> None:
        self._max_rejected = max_rejected
        # Rounded, because 29 % of 200 must be 58, and not a little less.
        self._limit = round(max_rejected * _LAST, 6)
        self._in_a_row = in_a_row
        self._doubts = doubts
        self._contents = contents
        self._pauses = pauses
        self._last: deque[bool] = deque(maxlen=_LAST)
        self._run_of = dict.fromkeys(("rejected", "doubt", "content", "pause"), 0)
        self._protocol = 0
        self._lost = ""
        """The connection that left the latest row in doubt."""

    def note(self, outcome: Outcome, connection: str = "") -> Trip | None:
        """Take note of one outcome; tell if it is the one too many.

        One lost connection is one misfortune, however many messages were in flight on it: *connection*
        names it.
        """
        if outcome.status is Status.ACCEPTED:
            self._run_of = dict.fromkeys(self._run_of, 0)
            self._last.append(False)
            return None
        if outcome.status is Status.IN_DOUBT:
            return self._note_doubt(connection)
        if outcome.scope is not Scope.ROW and outcome.status is not Status.REJECTED:
            return None
        trip = self._note_content(outcome)
        if outcome.status is Status.REJECTED:
            trip = trip or self._note_rejected(outcome)
        return trip

    def note_pause(self) -> Trip | None:
        """Take note that the server made the account pause."""
        self._run_of["pause"] += 1
        if self._run_of["pause"] < self._pauses:
            return None
        return Trip(f"the server ordered {self._pauses} pauses and took nothing in between")

    def _note_doubt(self, connection: str) -> Trip | None:
        if connection and connection == self._lost:
            return None
        self._lost = connection
        self._run_of["doubt"] += 1
        if self._run_of["doubt"] < self._doubts:
            return None
        return Trip(
            f"{self._doubts} connections in a row were lost with messages handed over and not answered",
            hint="see `mailmerge resolve`; is something between you and the server cutting connections?",
        )

    def _note_content(self, outcome: Outcome) -> Trip | None:
        if outcome.reason != "content":
            self._run_of["content"] = 0
            return None
        self._run_of["content"] += 1
        if self._run_of["content"] < self._contents:
            return None
        return Trip(
            f"the server refused the content of {self._contents} messages in a row",
            hint="it looks like spam to the server: change the text or the links, and begin with a few rows",
        )

    def _note_rejected(self, outcome: Outcome) -> Trip | None:
        self._last.append(True)
        self._run_of["rejected"] += 1
        if outcome.reason == "protocol":
            self._protocol += 1
            if self._protocol >= 2:
                return Trip(
                    "the server twice did not understand us", hint="run it with --transcript FILE and look"
                )
        if self._run_of["rejected"] >= self._in_a_row:
            return Trip(
                f"{self._in_a_row} rows in a row were rejected", hint="look at the replies before going on"
            )
        if sum(self._last) > self._limit:
            return Trip(
                f"more than {percent(self._max_rejected)} of the last {_LAST} rows were rejected",
                hint="clean the list, or allow more with send.max_rejected",
            )
        return None
