"""A reply too many, too few or in the wrong place: what the rows say afterwards, in every mode."""

from __future__ import annotations

import random

import pytest

from dialogues import Talk, message
from mailmerge.smtp.state import Completed, InStep, ReleaseNeeded, Revised

MODES = ("off", "grouped", "overlap", "window")
FAULTS = ("surplus 2yz", "surplus 4yz", "surplus 5yz", "missing", "swapped")
ROUND_TRIP = 0.05
SYNC_EVERY = 0.8
TIMES = 6
EHLO = "250-server\r\n250-PIPELINING\r\n250 CHUNKING"


class Server:
    """A sound server, but for what happens to the replies of one message.

    No row that it refuses is next to another one: two refusals that trade places look like two refusals.
    """

    def __init__(self, fault: str, strikes: int, chance: random.Random) -> None:
        self.taken: set[int] = set()
        self._fault = fault
        self._strikes = strikes
        self._chance = chance
        self._buffer = b""
        self._row = 0
        self._recipient = False
        self._in_content = False
        self._messages = 0
        self._struck = False

    def hears(self, octets: bytes) -> list[str]:
        """Take what came in, and return what is said to it."""
        self._buffer += octets
        replies: list[str] = []
        while (answer := self._next()) is not None:
            replies.append(answer)
        if self._messages >= self._strikes and replies and not self._struck:
            self._struck = True
            self._strike(replies)
        return replies

    def _strike(self, replies: list[str]) -> None:
        place = self._chance.randrange(len(replies))
        if self._fault == "missing":
            del replies[place]
        elif self._fault == "swapped":
            other = max(place - 1, 0)
            replies[place], replies[other] = replies[other], replies[place]
        else:
            reply = {"2": "250 2.0.0 more", "4": "450 4.2.0 more", "5": "554 5.0.0 more"}
            replies.insert(place, reply[self._fault[-3]])

    def _next(self) -> str | None:
        line, found, after = self._buffer.partition(b"\r\n.\r\n" if self._in_content else b"\r\n")
        if not found:
            return None
        if self._in_content:
            self._in_content, self._buffer = False, after
            return self._take()
        if line.startswith(b"BDAT "):
            size = int(line.split()[1])
            if len(after) < size:
                return None
            self._buffer = after[size:]
            return self._take() if self._recipient else "503 5.5.1 no recipients"
        self._buffer = after
        return self._command(line)

    def _command(self, line: bytes) -> str:
        match line[:4]:
            case b"MAIL":
                self._recipient = False
            case b"RCPT":
                self._row = int(line.split(b"to")[1].split(b"@")[0])
                self._messages += 1
                self._recipient = self._row % 14 != 3
                return "250 2.1.5 ok" if self._recipient else "550 5.1.1 no such user"
            case b"DATA":
                self._in_content = self._recipient
                return "354 go" if self._recipient else "503 5.5.1 no recipients"
            case b"QUIT":
                return "221 bye"
        return "250 2.0.0 ok"

    def _take(self) -> str:
        self._recipient = False
        if self._row % 14 == 7:
            return "554 5.7.1 no"
        self.taken.add(self._row)
        return "250 2.0.0 taken"


class Run:
    """One session over a line with a delay, in virtual time."""

    def __init__(self, mode: str, server: Server, rows: int) -> None:
        self.statuses: dict[int, str] = {}
        self.began: dict[int, float] = {}
        self.now = 0.0
        self._server = server
        self._rows = list(range(rows, 0, -1))
        self._talk = Talk(pipeline=mode)
        self._in_step = 0.0
        self._talk.says(b"220 hi\r\n")
        self._talk.heard()
        self._talk.says(EHLO.encode() + b"\r\n")
        if mode == "window":
            self._talk.submits(message(self._next()))
            self._talk.heard()
            self._talk.says(b"250 ok\r\n503 no recipients\r\n250 ok\r\n250 ok\r\n")

    def _next(self) -> int:
        row = self._rows.pop()
        self.began[row] = self.now
        return row

    def go(self) -> Run:
        """Run to the end of the session, whatever that is."""
        session, quiet = self._talk.session, 0
        while not session.closed:
            session.allow(overlap=True, sync=self.now - self._in_step >= SYNC_EVERY)
            while self._rows and session.can_accept():
                self._talk.submits(message(self._next()))
            said = self._turn()
            if not self._rows and not session.in_flight and session.ready and not session.awaited:
                session.quit()
                said += self._talk.heard()
            self.now += ROUND_TRIP
            replies = self._server.hears(said)
            for reply in replies:
                if not session.closed:
                    self._talk.says(reply.encode() + b"\r\n")
            needed = self._learn()
            if needed and not session.closed:
                self._talk.releases(*needed)
            quiet = 0 if said or replies else quiet + 1
            if quiet > 3 and not session.closed:
                self._talk.loses("S613")
                self._learn()
        return self

    def _turn(self) -> bytes:
        said = self._talk.heard()
        while needed := self._learn():
            self._talk.releases(*needed)
            said += self._talk.heard()
        return said

    def _learn(self) -> list[int]:
        """Take what was reported; return whose release is asked for."""
        events, self._talk.events = self._talk.events, []
        for event in events:
            if isinstance(event, Completed | Revised):
                self.statuses[event.token] = str(event.outcome.status)
            elif isinstance(event, InStep):
                self._in_step = self.now
        return [event.token for event in events if isinstance(event, ReleaseNeeded)]


def judge(run: Run, server: Server) -> None:
    """Check every row against what the server meant."""
    for row, status in run.statuses.items():
        if status == "accepted":
            assert row in server.taken, row
        elif status in {"rejected", "deferred", "pending"}:
            assert row not in server.taken, (row, status)
        else:
            assert status == "in_doubt"
            assert run.now - run.began[row] <= 1.0 + 4 * ROUND_TRIP, row


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", FAULTS)
def test_b31_rows_after_a_session_out_of_step(mode: str, fault: str) -> None:
    """No row is in a state that the server did not mean, and only the last second's rows are in doubt."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201  shown where the test fails
    chance = random.Random(seed)
    for _ in range(TIMES):
        rows = chance.randrange(5, 2000 if mode == "window" else 60)
        server = Server(fault, chance.randrange(1, rows + 1), chance)
        judge(Run(mode, server, rows).go(), server)
