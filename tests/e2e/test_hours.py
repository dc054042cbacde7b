"""When a run begins and how: at a time, within hours, the first few before the others."""

from __future__ import annotations

import re
import signal
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from mailmerge.sandbox import FaultPlan, Refusal
from servers.command import EVERYBODY, statuses, typed
from servers.kept import KeepingSandbox


def test_a_run_begins_at_its_time(mailmerge, relay):
    """The plan says when, nothing leaves before, and all of it after; status knows that it is alive."""
    campaign = mailmerge.campaign()
    mailmerge.account(relay, timezone="Asia/Tokyo")
    begins = datetime.now(UTC) + timedelta(seconds=6)
    running = mailmerge.start("send", "spring", "--yes", "--at", begins.isoformat(timespec="milliseconds"))
    waiting = None
    while datetime.now(UTC) < begins - timedelta(seconds=0.2):
        assert not relay.messages
        if begins - datetime.now(UTC) < timedelta(seconds=3) and waiting is None:
            waiting = mailmerge("status", "spring")
        time.sleep(0.1)
    done = mailmerge.finish(running)

    assert done.code == 0, done
    assert "begins " in done.err
    assert waiting is not None
    alive = re.compile(r"\(still running\)|A run is sending it now")
    assert alive.search(waiting.out), waiting
    assert not alive.search(mailmerge("status", "spring").out)
    assert statuses(campaign) == ["accepted"] * 3


def test_a_time_that_has_passed_is_said(mailmerge, relay):
    """A campaign that is resumed begins immediately; whoever mistyped the year can see it."""
    mailmerge.campaign()
    mailmerge.account(relay)

    done = mailmerge("send", "spring", "--yes", "--at", "2025-12-01 09:00")

    assert done.code == 0, done
    assert "begins now: 2025-12-01 09:00 has passed" in done.err


def test_a_closed_window_is_waited_for_and_can_be_left(mailmerge, relay):
    """Nothing is sent, the plan names the hours, and a stop ends the wait immediately."""
    mailmerge.campaign()
    hour = (datetime.now(UTC) + timedelta(hours=3)).hour
    mailmerge.account(relay, timezone="UTC")
    window = f"{hour:02}:00-{(hour + 1) % 24:02}:00"
    running = mailmerge.start("send", "spring", "--yes", "--window", window)
    time.sleep(4)
    running.send_signal(signal.SIGINT)
    began = time.monotonic()
    done = mailmerge.finish(running)

    assert done.code == 130, done
    assert time.monotonic() - began < 5
    assert f"within {hour:02}:00-" in done.err
    assert not relay.messages


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--at", "tomorrow"), "2026-12-01 09:00"),
        (("--window", "8-18"), "08:00-18:00"),
        (("--set", "send.timezone=Europe/Berlim"), "Europe/Berlin"),
        (("--set", "send.quiet_hours=Xyz 10:00-11:00"), "Mon, Tue"),
    ],
)
def test_what_are_no_hours_is_told(mailmerge, relay, arguments, words):
    """Each is refused before anything is sent, with one that could be meant."""
    mailmerge.campaign()
    mailmerge.account(relay)

    done = mailmerge("send", "spring", "--yes", *arguments)

    assert done.code == 2, done
    assert words in done.err, done


def test_the_first_few_go_before_the_others(mailmerge, relay):
    """Where all of them were accepted the others follow; the limit counts both."""
    campaign = mailmerge.campaign()
    mailmerge.account(relay)
    some = mailmerge("send", "spring", "--yes", "--first", "1", "--limit", "2")
    rest = mailmerge("send", "spring", "--yes", "--first", "5")

    assert (some.code, rest.code) == (0, 0), some
    assert (rest.err.count("  Send "), rest.out.count("accepted")) == (1, 1), rest
    assert [message.rcpt_to for message in relay.messages] == [(address,) for address in EVERYBODY]
    assert statuses(campaign) == ["accepted"] * 3


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_the_others_can_be_declined(mailmerge, relay):
    """They stay pending; what went out before is not called nothing, and is not a failure."""
    campaign = mailmerge.campaign()
    mailmerge.account(relay)
    question = "or Enter to stop"
    done = typed(mailmerge, ["send", "spring", "--first", "1"], [(question, "1"), (question, "")])

    assert done.code == 0, done
    assert "The others were not sent." in done.err
    assert "Nothing was sent" not in done.err
    assert statuses(campaign) == ["accepted", "pending", "pending"]


def test_the_others_wait_where_the_first_were_refused(mailmerge):
    """One refusal is enough: a person looks at it, and the others are still pending."""
    campaign = mailmerge.campaign()
    with KeepingSandbox(tls="none", user=None, faults=FaultPlan(refusals=(Refusal(550, 1.0),))) as relay:
        mailmerge.account(relay)
        done = mailmerge("send", "spring", "--yes", "--first", "1")

    assert done.code == 3, done
    assert "The others were not sent" in done.err
    assert statuses(campaign) == ["rejected", "pending", "pending"]
