"""The trial of a server's pipelining: every way of handing over, every way to fail, at every reply."""

from __future__ import annotations

import pytest

from dialogues import FULL, PLAIN, Talk, message, summary
from mailmerge.model import Scope, Status
from mailmerge.smtp.endpoint import ServerProfile
from mailmerge.smtp.state import Overlap

REPLIES = {
    "503": "503 5.5.1 Bad sequence of commands",
    "500": "500 5.5.1 Invalid command: Pipelining not supported",
    "554": "554 5.5.0 Error: SMTP protocol synchronization",
    "421": "421 4.7.0 synchronization error",
}
KINDS = (*REPLIES, "crash", "silent")


def overlapping() -> Talk:
    """Return a session with an unknown server, the envelope of 2 said behind message 1."""
    talk = Talk(borne=None).ready(PLAIN)
    talk.submits(message(1), message(2))
    talk.heard()
    talk.says(b"250 ok\r\n250 ok\r\n354 go\r\n")
    talk.releases(1)
    talk.heard()
    return talk


def in_window() -> Talk:
    """Return a session with an unknown server, the envelope of 3 said behind the content of 2."""
    talk = Talk(pipeline="window", borne=None).ready(FULL)
    talk.submits(message(1))
    talk.heard()
    talk.says(b"250 ok\r\n503 no recipients\r\n250 forgotten\r\n250 here\r\n")
    talk.releases(1)
    talk.heard()
    talk.says(b"250 ok\r\n250 ok\r\n250 ok\r\n250 queued\r\n")
    talk.submits(message(2))
    assert talk.heard().endswith(b"DATA\r\n"), "its 354 confirms what was settled before the trial"
    talk.says(b"250 forgotten\r\n250 ok\r\n250 ok\r\n354 go\r\n")
    talk.submits(message(3))
    talk.releases(2)
    said = talk.heard()
    assert said.count(b"BDAT") == 1, "the second one's command rides with the first one's end"
    assert talk.needed() == [1, 2], "its content is held back"
    return talk


SOUND = {
    overlapping: ["250 queued", "250 ok", "250 ok", "354 go"],
    in_window: ["250 queued", "250 forgotten", "250 ok", "250 ok"],
}


@pytest.mark.parametrize("place", range(4), ids=["content", "first", "second", "third"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("begin", SOUND, ids=lambda begin: begin.__name__)
def test_b30_whatever_fails_wherever(begin, kind: str, place: int) -> None:
    """No row is rejected, one at most is in doubt, and only if its own reply never came."""
    talk = begin()
    for reply in SOUND[begin][:place]:
        talk.says(reply.encode() + b"\r\n")
    times = 4 - place if kind in {"503", "500"} else int(kind in REPLIES)
    for _ in range(times):
        if not talk.session.closed:
            talk.says(REPLIES[kind].encode() + b"\r\n")
    if not talk.session.closed:
        talk.loses("S613" if kind == "silent" else "S610")
    statuses = list(talk.statuses().values())
    assert set(statuses) <= {"accepted", "pending", "in_doubt"}
    assert statuses.count("in_doubt") == (place == 0 and kind in {"crash", "silent"})
    assert talk.session.overlap is Overlap.FAILED
    assert talk.session.overlap_failure


@pytest.mark.parametrize("reply", ["550 5.7.1 Out of order", "501 5.5.4 Syntax", "451 4.5.0 Not now"])
def test_b30_a_refused_rset_is_never_about_a_row(reply: str) -> None:
    """Whatever the words: in a trial, the first command behind a chunk was refused for coming early."""
    talk = in_window()
    talk.says(b"250 queued\r\n")
    for _ in range(4):
        if not talk.session.closed:
            talk.says(reply.encode() + b"\r\n")
    assert list(talk.statuses().values()) == ["accepted", "accepted", "pending"]
    assert talk.outcomes()[3].scope is Scope.CONNECTION
    assert talk.session.overlap is Overlap.FAILED


@pytest.mark.parametrize("begin", SOUND, ids=lambda begin: begin.__name__)
def test_b30_refused_and_closed_is_not_about_the_set_up(begin) -> None:
    """The sender was accepted a moment ago: its refusal behind a message stops no run."""
    talk = begin()
    talk.says(b"250 queued\r\n550 5.7.1 Out of order\r\n")
    if not talk.session.closed:
        talk.loses("S610")
    outcome = list(talk.outcomes().values())[-1]
    assert (outcome.status, outcome.scope, outcome.reason) == (
        Status.PENDING,
        Scope.CONNECTION,
        "pipelining",
    )


@pytest.mark.parametrize(
    "replies",
    [
        ["250 queued", "503 5.5.1 need MAIL", "503 5.5.1 need MAIL", "503 5.5.1 need MAIL"],
        ["250 queued", "503 5.5.1 need MAIL"],
        ["250 queued", "220 ready again"],
        ["250 queued", "354 go"],
        ["250 queued", "334 "],
    ],
    ids=["one_swallowed", "three_swallowed", "greeting", "354", "334"],
)
@pytest.mark.parametrize("begin", SOUND, ids=lambda begin: begin.__name__)
def test_b30_a_trial_whose_replies_do_not_match(begin, replies: list[str]) -> None:
    """It has failed like any other, so it is not tried again; only the message in front may be in doubt."""
    talk = begin()
    for reply in replies:
        if not talk.session.closed:
            talk.says(reply.encode() + b"\r\n")
    if not talk.session.closed:
        talk.loses("S613")
    *before, first, second = talk.statuses().values()
    assert set(before) <= {"accepted"}
    assert first in {"accepted", "in_doubt"}
    assert second == "pending"
    assert talk.session.overlap is Overlap.FAILED
    assert talk.session.overlap_failure


@pytest.mark.parametrize("begin", SOUND, ids=lambda begin: begin.__name__)
def test_a_sound_server_passes(begin) -> None:
    """Sound replies prove it, and the next message may begin before the last is answered."""
    talk = begin()
    talk.says("".join(f"{reply}\r\n" for reply in SOUND[begin]).encode())
    talk.releases(2 if begin is overlapping else 3)
    talk.heard()
    if begin is in_window:
        talk.says(b"250 queued\r\n")
        talk.submits(message(4))
    assert talk.session.overlap is Overlap.PASSED
    assert talk.session.can_accept()


def test_a_greeting_that_is_known() -> None:
    """A server that is known by its greeting, or by what it offers, is not tried."""
    for greeting, offers in ((b"220 Dovecot ready.\r\n", PLAIN), (b"220 hi\r\n", PLAIN + b"")):
        talk = Talk(borne=None, not_bearing=("dovecot", "pipelining"))
        talk.says(greeting)
        talk.heard()
        talk.says(offers)
        assert talk.session.mode == "grouped"
        assert not talk.session.overlap_failure


def test_only_one_connection_finds_out() -> None:
    """With several sessions an unknown server still costs one row at most."""
    profile = ServerProfile()
    assert [profile.may_try("a"), profile.may_try("b"), profile.may_try("a")] == [True, False, True]
    profile.found(borne=False, failure="it closed the connection")
    assert (profile.borne, profile.trying) == (False, "")


def test_334_is_not_354() -> None:
    """Any other 3yz than 354 to DATA is a reply to something else."""
    talk = Talk().ready(PLAIN)
    talk.submits(message(1))
    talk.heard()
    talk.says(b"250 ok\r\n250 ok\r\n334 go\r\n")
    assert talk.statuses() == {1: "pending"}
    assert summary(talk.ends()[0]) == "closed S632"


@pytest.mark.parametrize("surplus", [b"250 extra\r\n", b"451 4.3.0 extra\r\n"])
def test_b31_quit_answered_with_the_last_message_s_reply(surplus: bytes) -> None:
    """Behind the last message no 354 will tell: the reply to QUIT does, where it cannot be meant for QUIT."""
    talk = Talk().ready(PLAIN)
    talk.submits(message(1))
    talk.heard()
    talk.says(b"250 ok\r\n250 ok\r\n354 go\r\n")
    talk.releases(1)
    talk.heard()
    talk.says(surplus)
    talk.session.quit()
    talk.heard()
    talk.says(b"554 5.7.1 no\r\n" if surplus.startswith(b"250") else b"250 queued\r\n250 forgotten\r\n")
    assert summary(talk.events[-2]) == "revised 1 in_doubt"
