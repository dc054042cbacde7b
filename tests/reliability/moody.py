"""A server whose mood changes: it drops, defers, rejects and forgets to answer, by dice or on command.

It is strict about one thing: a message counts as taken before the server even tries to say so. What the
client never hears of is in the books all the same, and that is what the invariants are checked against.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from faultd import Accepted, Dropped, FaultServer, abort, drop, say, say_and_drop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

    from faultd import Fault, Peer

    Taken = Callable[["Peer", Accepted], "Fault | None"]

__all__ = ["Dice", "MoodyServer", "taken_unsaid"]

EXTENSIONS = {
    "off": ("SIZE 1000000", "8BITMIME"),
    "overlap": ("PIPELINING", "SIZE 1000000", "8BITMIME"),
    "window": ("PIPELINING", "CHUNKING", "SIZE 1000000", "8BITMIME"),
}
"""What a server has to offer for each way of handing messages over."""


def taken_unsaid(peer: Peer) -> bytes | None:
    """Take the message and cut the connection in place of the answer."""
    raise Dropped


class Dice:
    """Faults of one verb, each with the share of cases it strikes; the rest goes well."""

    def __init__(self, random: Random, faults: Mapping[Fault, float]) -> None:
        self._random = random
        self._faults = dict(faults)

    def get(self, _time: int) -> Fault | None:
        """Roll: one of the faults, or None."""
        point = self._random.random()
        for fault, share in self._faults.items():
            if point < share:
                return fault
            point -= share
        return None


def moods(random: Random) -> dict[str, Dice]:
    """Return the moods of the kill loop: about one message in seven meets some misfortune."""
    busy = say("450 4.2.1 mailbox busy")
    unknown = say("550 5.1.1 no such user")
    closing = say_and_drop("421 4.3.2 closing")
    return {
        "connect": Dice(random, {closing: 0.02, drop: 0.02}),
        "MAIL": Dice(random, {drop: 0.01, closing: 0.01, abort: 0.005}),
        "RCPT": Dice(random, {unknown: 0.02, busy: 0.02, drop: 0.01}),
        "DATA": Dice(random, {say("451 4.3.0 not now"): 0.01, drop: 0.01}),
        "refuse": Dice(random, {say("451 4.3.0 not now"): 0.01, say("554 5.6.0 no"): 0.01, drop: 0.015}),
        "taken": Dice(random, {taken_unsaid: 0.015, abort: 0.005}),
    }


class MoodyServer(FaultServer):
    """A `FaultServer` with an address, moods, and books that are never behind.

    Besides the verbs there are two moments: ``refuse``, the content is here whole and not taken yet, and
    ``taken``, it is in the books and nobody was told.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        faults: Mapping[str, Fault | Mapping[int, Fault] | Dice] | None = None,
        *,
        mode: str = "overlap",
    ) -> None:
        super().__init__(faults, extensions=EXTENSIONS[mode])  # type: ignore[arg-type]

    def idle(self, seconds: float = 5.0) -> bool:
        """Wait until every client has gone and everything it left behind was read."""
        return self.wait_for(lambda: not any(thread.is_alive() for thread in self._threads[1:]), seconds)

    def change_mood(self, faults: Mapping[str, Fault | Mapping[int, Fault] | Dice]) -> None:
        """Behave differently from now on; counting starts again."""
        self.faults = dict(faults)  # type: ignore[arg-type]
        self.seen.clear()

    def _take(self, peer: Peer, verb: str, content: bytes) -> None:
        message = Accepted(peer.sender or b"", tuple(peer.recipients), content)
        peer.reset()
        if not message.recipients:
            peer.send(b"503 5.5.1 no recipients\r\n")
            return
        refusal = self._fault("refuse")
        if refusal is not None:
            peer.send(refusal(peer) or b"")
            return
        self.accepted.append(message)
        unsaid = self._fault("taken")
        peer.send((unsaid(peer) or b"") if unsaid else b"250 2.0.0 taken\r\n")

    def _fault(self, moment: str) -> Fault | None:
        self.seen[moment] += 1
        fault = self.faults.get(moment)
        return fault if fault is None or callable(fault) else fault.get(self.seen[moment])


def pace(seconds: float) -> Fault:
    """Take messages no faster than one every *seconds*."""

    def fault(_peer: Peer) -> bytes:
        time.sleep(seconds)
        return b"250 2.0.0 taken, slowly\r\n"

    return fault
