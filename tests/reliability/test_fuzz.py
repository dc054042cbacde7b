"""Random servers: whatever comes over the wire, nothing but a session's own errors ever comes out."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from faultd import Dropped, FaultServer, endless
from mailmerge.addresses import Address
from mailmerge.campaign.connect import hand_over
from mailmerge.errors import SessionError
from mailmerge.model import Envelope, Message, Status
from mailmerge.smtp.connection import Connection, Deadlines, Endpoint
from soak.replies_target import one_input, seeds

if TYPE_CHECKING:
    from faultd import Fault, Peer

HASTE = Deadlines(**dict.fromkeys(Deadlines.__struct_fields__, 0.05))
MESSAGE = Message(
    "<1@example.org>",
    "1",
    1,
    Envelope(Address("me", "example.org"), (Address("you", "example.net"),)),
    (b"Subject: hi\r\n\r\n", b"hello\r\n"),
)
VERBS = ("connect", "EHLO", "MAIL", "RCPT", "DATA", "content", "BDAT", "RSET", "NOOP", "QUIT")
LINES = st.one_of(
    st.sampled_from(
        [
            b"250 ok\r\n",
            b"250-PIPELINING\r\n",
            b"250-CHUNKING\r\n250 SIZE 9\r\n",
            b"354 go\r\n",
            b"421 bye\r\n",
            b"450 4.2.0 later\r\n",
            b"550 5.1.1 no\r\n",
            b"334 \r\n",
            b"220 hello\r\n",
            b"2",
            b"\0",
            b"\x16\x03\x01",
            b"\r\n",
            b"250 x\n",
        ]
    ),
    st.binary(max_size=40),
)
SPEECH = st.lists(LINES, max_size=4).map(b"".join)


def speech(data: bytes, *, then_drop: bool) -> Fault:
    """Send *data*, and perhaps go."""

    def fault(peer: Peer) -> bytes:
        peer.send(data)
        if then_drop:
            raise Dropped
        return data[:3]  # what the server itself makes of it; sent as a second, broken reply

    return fault


@given(
    words=st.dictionaries(st.sampled_from(VERBS), st.tuples(SPEECH, st.booleans()), max_size=3),
    pipeline=st.sampled_from(["off", "overlap", "window"]),
)
def test_b04_random_octets_from_a_server(words: dict[str, tuple[bytes, bool]], pipeline: str) -> None:
    """Connection, session and parser together: an outcome or a session error, within the deadlines."""
    faults = {verb: speech(data, then_drop=drop) for verb, (data, drop) in words.items()}
    with FaultServer(faults, extensions=("PIPELINING", "CHUNKING")) as server:
        there = Endpoint("127.0.0.1", server.port, "none", "me.example")
        connection = Connection(there, pipeline=pipeline, deadlines=HASTE)  # type: ignore[arg-type]
        result: Status | SessionError
        try:
            connection.open()
            result = hand_over(connection, MESSAGE).status
        except SessionError as error:
            result = error
        finally:
            connection.close()
    assert result is Status.ACCEPTED or words
    assert isinstance(result, Status) or (result.code.startswith("S6") and str(result).isprintable()), result


@pytest.mark.parametrize("verb", ["connect", "EHLO", "MAIL", "content"])
@pytest.mark.parametrize(
    "line",
    [b"250-more and more\r\n" * 500, b"x" * 100_000, b"250-" + b"y" * 900 + b"\r\n"],
    ids=["lines", "no line end", "long lines"],
)
def test_b03_memory_is_bounded(verb: str, line: bytes) -> None:
    """A reply that never ends is given up long before it fills anything."""
    with FaultServer({verb: endless(line)}) as server:
        connection = Connection(Endpoint("127.0.0.1", server.port, "none", "me.example"))
        tracemalloc.start()
        found = ""
        try:
            connection.open()
            found = hand_over(connection, MESSAGE).status
        except SessionError as error:
            found = error.code
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            connection.close()
    assert found in {"S630", "S633", Status.PENDING, Status.IN_DOUBT}
    assert peak < 4_000_000


@settings(max_examples=100)
@example(data=b"")
@given(data=st.binary(max_size=400))
def test_the_target_of_the_fuzzer(data: bytes) -> None:
    """What the long fuzz run does, for a moment: random octets ..."""
    one_input(data)


@pytest.mark.parametrize("seed", list(seeds()))
def test_the_seeds_of_the_fuzzer(seed: bytes) -> None:
    """... and whole dialogues, also broken off and cut in other places."""
    for length in range(0, len(seed), 7):
        one_input(seed[:length])
    one_input(bytes([seed[0] | 12]) + b"".join(b"\xf3" + seed[i : i + 3] for i in range(1, len(seed), 3)))
