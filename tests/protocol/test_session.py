"""What servers do to clients, each as a test of the session alone: no sockets, no clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dialogues import FULL, PLAIN, Talk, message
from mailmerge.addresses import Address
from mailmerge.errors import ConnectionLost, ProtocolError
from mailmerge.model import Envelope, Message, Phase, Status
from mailmerge.smtp.state import Completed, Life, StartTls
from mailmerge.smtp.transactions import LAST_CHUNK, ConnectionLimit, needs_stuffing, split, stuffed

OK3 = b"250 forgotten\r\n250 ok\r\n250 ok\r\n"
PROOF = b"250 ok\r\n503 no recipients\r\n250 forgotten\r\n250 here\r\n"


def window(accepted: int) -> Talk:
    """Return a session in window mode that has *accepted* so many messages."""
    talk = Talk(pipeline="window").ready(FULL)
    talk.submits(message(1000))
    talk.heard()
    talk.says(PROOF)
    for number in range(1000, 1000 + accepted):
        if number > 1000:
            talk.submits(message(number))
        talk.releases(number)
        talk.heard()
        talk.says(OK3 + b"250 queued\r\n")
    talk.events.clear()
    return talk


def overlapping(*, content: bool = True) -> Talk:
    """Return a session that waits for the reply to message 1, with the envelope of 2 said."""
    talk = Talk().ready()
    talk.submits(message(1), message(2))
    talk.heard()
    talk.says(b"250 ok\r\n250 ok\r\n354 go\r\n")
    if content:
        talk.releases(1)
        talk.heard()
    talk.events.clear()
    return talk


# --- hazards of real servers -----------------------------------------------------------------------------


def test_hazard_1_reset_before_every_mail_in_a_window() -> None:
    """A failed BDAT without RSET crashes some servers: RSET precedes every MAIL."""
    talk = window(3)
    talk.submits(message(1), message(2))
    talk.releases(1, 2)
    lines = talk.heard().split(b"\r\n")
    mails = [i for i, line in enumerate(lines) if line.startswith(b"MAIL")]
    assert len(mails) == 2
    assert all(lines[i - 1] == b"RSET" for i in mails)
    talk.says(OK3 + b"552 5.3.4 too big\r\n" + OK3 + b"250 queued\r\n")
    assert talk.statuses() == {1: "rejected", 2: "accepted"}


def test_hazard_2_taken_though_refused() -> None:
    """Content taken under a refused envelope may reach somebody: in doubt, and the session ends."""
    talk = window(1)
    talk.submits(message(1))
    talk.releases(1)
    talk.heard()
    talk.says(b"250 forgotten\r\n503 sender already given\r\n250 ok\r\n250 queued\r\n")
    assert talk.statuses() == {1: "in_doubt"}
    assert isinstance(talk.ends()[0].error, ProtocolError)


def test_hazard_3_refusals_shrink_the_window() -> None:
    """Refused messages use up the server's patience: halve, then go one by one until one is accepted."""
    talk = window(7)
    for number, most in ((1, 8), (2, 4), (3, 2)):
        assert talk.session.window_size == most
        talk.submits(message(number))
        assert talk.session.can_accept()
        talk.releases(number)
        talk.heard()
        talk.says(b"250 ok\r\n250 ok\r\n550 5.1.1 no\r\n503 no\r\n")
    assert str(talk.session.mode) == "overlap"
    talk.submits(message(9))
    said = talk.heard()
    assert b"DATA\r\n" in said
    assert said.startswith(b"RSET\r\nMAIL")
    talk.says(b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n")
    talk.releases(9)
    talk.heard()
    talk.says(b"250 queued\r\n")
    assert str(talk.session.mode) == "window"


def test_hazard_4_size_is_checked_at_home() -> None:
    """A message over SIZE never touches the wire; the MAIL command names the size of the others."""
    talk = Talk().ready(b"250-server\r\n250 SIZE 100\r\n")
    talk.submits(message(1, body=b"x" * 200 + b"\r\n"))
    assert talk.heard() == b""
    assert talk.outcomes()[1].reason == "size"
    talk.submits(message(2))
    assert talk.heard() == b"MAIL FROM:<me@example.org> SIZE=21\r\n"


@pytest.mark.parametrize(
    ("message_id", "said"),
    [
        ("<a1.b2@example.org>", b" ENVID=a1.b2@example.org"),
        ("<a+b@example.org>", b""),
        ("<a=b@example.org>", b""),
        (f"<{'x' * 101}@example.org>", b""),
        ("", b""),
    ],
)
def test_a_message_is_named_to_servers_that_report(message_id: str, said: bytes) -> None:
    """Where DSN is offered MAIL has the Message-ID as ENVID, if it can be one; elsewhere never."""
    for offer in ("DSN", "HELP"):
        talk = Talk().ready(f"250-server\r\n250 {offer}\r\n".encode())
        talk.submits(replace(message(1), message_id=message_id))
        assert talk.heard() == b"MAIL FROM:<me@example.org>" + (said if offer == "DSN" else b"") + b"\r\n"


@pytest.mark.parametrize(
    ("replies", "mode", "ends"),
    [
        (b"250 ok\r\n503 no\r\n250 ok\r\n250 ok\r\n", "window", False),
        (b"250 ok\r\n250 taken?\r\n250 ok\r\n250 ok\r\n", "overlap", False),
        (b"550 no\r\n503 no\r\n250 ok\r\n250 ok\r\n", "overlap", False),
        (b"250 ok\r\n503 no\r\n500 what is XXXX\r\n250 ok\r\n250 ok\r\n", "overlap", True),
    ],
)
def test_hazards_5_and_6_trial(replies: bytes, mode: str, ends: bool) -> None:
    """Only a server that discards the chunk of a refused BDAT gets a window of them."""
    talk = Talk(pipeline="window").ready(FULL)
    talk.submits(message(1))
    assert talk.heard().endswith(b"BDAT 6 LAST\r\nXXXX\r\nRSET\r\nNOOP\r\n")
    talk.says(replies)
    assert talk.session.mode == mode
    assert bool(talk.ends()) is ends
    assert (talk.session.life is Life.CLOSED) is ends
    if ends:
        assert talk.statuses() == {1: "pending"}
        assert talk.heard() == b""


def test_hazard_7_421_that_answers_on() -> None:
    """A 421 counts as its command's reply; later replies still settle what they belong to."""
    talk = window(3)
    talk.submits(message(1), message(2))
    talk.releases(1, 2)
    talk.heard()
    talk.says(OK3 + b"250 queued\r\n250 forgotten\r\n421 too many messages\r\n503 no\r\n")
    assert talk.statuses() == {1: "accepted"}
    assert not talk.session.can_accept()
    talk.says(b"503 no\r\n")
    assert talk.statuses() == {1: "accepted", 2: "pending"}
    assert talk.outcomes()[2].reason == "connection_cap"
    assert len(talk.ends()) == 1
    assert talk.session.take_connection_limit() == ConnectionLimit(4, stated=True)


def test_whole_behind_a_421_is_in_doubt() -> None:
    """What was written whole and never answered is in doubt, also behind a 421."""
    talk = window(3)
    talk.submits(message(1), message(2))
    talk.releases(1, 2)
    talk.heard()
    talk.says(OK3 + b"421 4.3.2 closing\r\n")
    talk.loses()
    assert talk.statuses() == {1: "pending", 2: "in_doubt"}


def test_hazard_8_replies_after_a_write_error() -> None:
    """A failed write does not skip the replies that are still under way."""
    talk = window(7)
    talk.submits(*(message(n) for n in range(1, 4)))
    talk.releases(1, 2)
    talk.heard()
    talk.session.write_failed(ConnectionLost("broken pipe"))
    talk.events += talk.session.take_events()
    assert talk.heard() == b""
    talk.says(OK3 + b"250 queued\r\n")
    talk.loses()
    assert talk.statuses() == {1: "accepted", 2: "in_doubt", 3: "pending"}
    assert talk.ends()[0].error


@pytest.mark.parametrize("octets", range(0, 260, 7))
def test_hazard_9_doubt_is_counted_in_octets(octets: int) -> None:
    """At a drop exactly the messages whose last octet had left are in doubt."""
    talk = window(7)
    talk.submits(message(1), message(2), message(3))
    talk.releases(1, 2, 3)
    said = talk.heard(octets)
    talk.loses()
    whole = said.count(b"hello\r\n")
    assert list(talk.statuses().values()) == ["in_doubt"] * whole + ["pending"] * (3 - whole)


def test_hazard_11_no_content_before_354() -> None:
    """Content never leaves before the server has asked for it."""
    talk = overlapping(content=False)
    assert talk.heard() == b""
    talk.releases(1)
    said = talk.heard()
    assert said.startswith(b"Subject: 1\r\n")
    assert said.endswith(b"\r\n.\r\nMAIL FROM:<me@example.org>\r\nRCPT TO:<to2@example.net>\r\nDATA\r\n")


@pytest.mark.parametrize(
    "ehlo", [b"250 server\r\n", b"250-server\r\n250 CHUNKING\r\n", b"250-x\r\n250 XXXXXXXA\r\n"]
)
@pytest.mark.parametrize("pipeline", ["auto", "overlap", "window"])
def test_hazard_12_only_what_is_offered(ehlo: bytes, pipeline: str) -> None:
    """Without PIPELINING in the last EHLO, one command waits for one reply."""
    talk = Talk(pipeline=pipeline).ready(ehlo)
    talk.submits(message(1))
    assert not talk.session.can_accept()
    for line in (b"MAIL", b"RCPT", b"DATA"):
        said = talk.heard()
        assert said.startswith(line)
        assert said.count(b"\r\n") == 1
        talk.says(b"354 go\r\n" if line == b"DATA" else b"250 ok\r\n")
    assert talk.needed() == [1]


@pytest.mark.parametrize("reply", [b"354 go\r\n", b"220 hi\r\n250 ok\r\n250 ok\r\n250 ok\r\n"])
def test_shifted_replies_end_the_session(reply: bytes) -> None:
    """A reply of the wrong kind shows that the count has slipped: nothing more is said."""
    talk = Talk().ready()
    talk.submits(message(1))
    talk.heard()
    talk.says(reply)
    assert isinstance(talk.ends()[0].error, ProtocolError)
    assert talk.statuses() == {1: "pending"}
    assert talk.heard() == b""


def test_b5_reply_to_what_was_not_said_yet() -> None:
    """A reply that waits while its command is still queued belongs to nobody."""
    talk = Talk().ready()
    talk.submits(message(1))
    talk.says(b"250 ok\r\n")
    assert isinstance(talk.ends()[0].error, ProtocolError)
    assert talk.statuses() == {1: "pending"}


# --- release and gate ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, LAST_CHUNK - 30, LAST_CHUNK, 3 * LAST_CHUNK])
@pytest.mark.parametrize("mode", ["off", "overlap", "window"])
def test_release_gate(size: int, mode: str) -> None:
    """The release is asked for once, when only the last chunk is left; without it the end stays."""
    talk = Talk(pipeline=mode).ready(FULL)
    sent = message(1, body=b"y" * size + b"\r\n")
    talk.submits(sent)
    said = talk.heard()
    for reply in (
        (PROOF,) if mode == "window" else (b"250 a\r\n250 b\r\n354 c\r\n",) if mode == "overlap" else ()
    ):
        talk.says(reply)
    if mode == "off":
        for reply in (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
            talk.says(reply)
            said = talk.heard()
    small = sent.size <= LAST_CHUNK - 3
    if not small and mode != "off":
        assert talk.needed() == []
    said += talk.heard()
    assert talk.needed() == [1]
    early = said.count(b"y")
    assert (early == 0) == small or size == LAST_CHUNK - 30
    assert early <= max(0, sent.size - LAST_CHUNK + 3)
    talk.releases(1)
    said += talk.heard()
    assert said.count(b"y") == size
    assert talk.needed() == [1]
    talk.says((OK3 if mode == "window" else b"") + b"250 queued\r\n")
    assert talk.statuses() == {1: "accepted"}


def test_unreleased_is_pending_at_a_drop() -> None:
    """A message whose end was held back is not in doubt."""
    talk = overlapping(content=False)
    talk.loses("S613")
    assert talk.statuses() == {1: "pending", 2: "pending"}
    assert talk.outcomes()[1].phase is Phase.DATA
    assert talk.outcomes()[1].reason == "timeout"


def test_late_releases_and_unknown_tokens_are_ignored() -> None:
    """A release for a message that has its outcome already changes nothing."""
    talk = Talk().ready()
    talk.submits(message(1))
    talk.heard()
    talk.says(b"250 ok\r\n250 ok\r\n451 no\r\n")
    talk.releases(1, 99)
    assert talk.statuses() == {1: "deferred"}


# --- content ---------------------------------------------------------------------------------------------

SEGMENT = st.lists(st.sampled_from([b".", b"\r\n", b"\r", b"\n", b"a", b".\r\n", b""]), max_size=5).map(
    b"".join
)


@given(st.lists(SEGMENT, max_size=6))
def test_b13_dots(segments: list[bytes]) -> None:
    """Dots at the beginning of a line are found across segments, and the reader gets the same text."""
    content = b"".join(segments)
    begins = content.startswith(b".") or b"\n." in content
    assert needs_stuffing(segments) is begins
    wire = b"".join(stuffed(segments))
    assert b"\n.\r" not in wire
    assert wire.removeprefix(b".").replace(b"\n..", b"\n.") == content


@pytest.mark.parametrize(
    ("segments", "wire"),
    [
        ((b"a\r\n", b".\r\nb\r\n"), b"a\r\n..\r\nb\r\n.\r\n"),
        ((b"a",), b"a\r\n.\r\n"),
        ((), b".\r\n"),
        ((b"a\r", b"\n"), b"a\r\n.\r\n"),
    ],
)
def test_end_of_content(segments: tuple[bytes, ...], wire: bytes) -> None:
    """The content ends with a dot on its own line, whatever the message ends with."""
    talk = Talk().ready()
    talk.submits(
        Message("<1@x>", "1", 1, Envelope(Address("a", "b.example"), (Address("c", "d.example"),)), segments)
    )
    talk.heard()
    talk.says(b"250 ok\r\n250 ok\r\n354 go\r\n")
    talk.releases(1)
    assert talk.heard() == wire


@given(st.lists(st.integers(0, 2 * LAST_CHUNK), max_size=5))
def test_split(sizes: list[int]) -> None:
    """Splitting keeps every octet in order and keeps back as much as the last chunk may have."""
    segments = [bytes([65 + i]) * size for i, size in enumerate(sizes)]
    head, tail = split(segments, b".\r\n")
    assert b"".join([*head, tail]) == b"".join(segments) + b".\r\n"
    assert len(tail) <= LAST_CHUNK
    assert len(tail) == min(LAST_CHUNK, sum(sizes) + 3)


# --- misuse ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("local", ["a\r\nRCPT TO:<x@y>", "a b", "a>", "é", "a\0"])
def test_c10_envelope(local: str) -> None:
    """What is not an address is our bug, and is never sent."""
    talk = Talk().ready()
    bad = Message("<1@x>", "1", 1, Envelope(Address("me", "x.example"), (Address(local, "y.example"),)), ())
    with pytest.raises(RuntimeError):
        talk.session.submit(bad, 1)
    assert talk.heard() == b""


def test_no_room_no_offer() -> None:
    """Offering without room is our bug."""
    talk = Talk(pipeline="off").ready()
    talk.submits(message(1))
    with pytest.raises(RuntimeError):
        talk.session.submit(message(2), 2)
    with pytest.raises(RuntimeError):
        talk.session.quit()


def test_nothing_is_said_in_the_wrong_state() -> None:
    """The table refuses a step outside its states before an octet is queued."""
    talk = Talk(starttls=True, private=False)
    talk.says(b"220 hi\r\n")
    talk.heard()
    assert talk.session.start_tls is StartTls.OWED
    with pytest.raises(RuntimeError):
        talk.session.noop()
    assert talk.heard() == b""


def test_endless_sign_in() -> None:
    """A server that asks again and again is left."""
    from mailmerge.smtp.sasl import Credentials

    talk = Talk(credentials=Credentials("ann", "password", lambda: "s3cret"))
    talk.says(b"220 hi\r\n")
    talk.heard()
    talk.says(b"250-x\r\n250 AUTH PLAIN\r\n")
    for _ in range(9):
        talk.heard()
        talk.says(b"334 \r\n")
        if talk.ends():
            break
    assert isinstance(talk.ends()[0].error, ProtocolError)


def test_c9_echoed_secrets_are_masked() -> None:
    """A server that repeats the secret puts it into neither transcript nor error."""
    from mailmerge.smtp.sasl import Credentials

    lines: list[str] = []
    talk = Talk(credentials=Credentials("ann", "password", lambda: "s3cret"), transcript=lines.append)
    talk.says(b"220 hi\r\n")
    talk.heard()
    talk.says(b"250-x\r\n250 AUTH PLAIN\r\n")
    talk.heard()
    talk.says(b"535 5.7.8 s3cret AGFubgBzM2NyZXQ= is wrong\r\n")
    error = talk.ends()[0].error
    assert error
    assert error.reply
    shown = "\n".join([*lines, str(error), str(error.reply), repr(error.reply)])
    assert "s3cret" not in shown
    assert "AGFubgBzM2NyZXQ" not in shown
    assert "is wrong" in error.message


# --- anything at all -------------------------------------------------------------------------------------

REPLY = st.sampled_from(
    [
        b"250 ok\r\n",
        b"354 go\r\n",
        b"550 5.1.1 no\r\n",
        b"450 later\r\n",
        b"421 bye\r\n",
        b"250-x\r\n",
        b"\0",
        b"",
    ]
)


@given(
    st.sampled_from(["off", "overlap", "window"]),
    st.lists(st.tuples(REPLY, st.booleans(), st.integers(0, 300)), max_size=30),
    st.integers(0, 3),
)
def test_any_server_each_message_has_one_outcome(
    pipeline: str, moves: list[tuple[bytes, bool, int]], extra: int
) -> None:
    """Whatever a server says: one outcome a message, one end, and doubt only about what was released."""
    talk = Talk(pipeline=pipeline).ready(FULL if extra else PLAIN)
    number = 0
    offered: set[int] = set()
    released: set[int] = set()
    for reply, release, octets in moves:
        while talk.session.can_accept():
            number += 1
            recipients = [f"r{i}@example.net" for i in range(1 + (number % 3 == 2))]
            offered.add(number)
            talk.submits(message(number, *recipients))
        if release:
            released |= set(talk.needed())
            talk.releases(*talk.needed())
        talk.heard(octets)
        talk.says(reply)
        if talk.ends():
            break
    talk.loses()
    completed = [event.token for event in talk.events if isinstance(event, Completed)]
    assert sorted(completed) == sorted(offered)
    assert len(talk.ends()) == 1
    assert talk.events[-1] == talk.ends()[0]
    assert talk.session.in_flight == 0
    needed = talk.needed()
    assert len(needed) == len(set(needed))
    for token, outcome in talk.outcomes().items():
        if outcome.status in {Status.IN_DOUBT, Status.ACCEPTED}:
            assert token in released
