"""At the terminal: the question before sending, the password prompt, and signals in mid-run."""

from __future__ import annotations

import re
import signal
import subprocess
import threading

import pyte
import pytest
from wcwidth import wcswidth

import faultd
from faultd import FaultServer
from mailmerge.sandbox import FaultPlan
from servers.command import EVERYBODY, Done, Mailmerge, results, statuses, subjects, typed
from servers.kept import KeepingSandbox
from servers.programs import wait_until

QUESTION = "Type the number of messages to send"
PEOPLE = "email,name\n" + "".join(f"p{number}@example.com,P{number}\n" for number in range(12))

needs_terminal = pytest.mark.skipif("sys.platform == 'win32'")


@needs_terminal
def test_the_right_number_sends(mailmerge, sandbox):
    """The plan is shown first; the number of messages, typed, sends them with a bar."""
    mailmerge.campaign()
    mailmerge.account(sandbox)

    done = typed(mailmerge, ["send", "spring"], [(QUESTION, "3")])

    assert done.code == 0, done
    plan, _, after = done.err.partition(QUESTION)
    assert "Me <me@example.org>" in plan
    assert "3 of 3 rows" in plan
    assert "first: ana@example.com, last: cy@example.org" in plan
    assert "3/3" in after
    assert "3 accepted" in done.out
    assert subjects(sandbox.messages) == EVERYBODY


@needs_terminal
@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([""], "Nothing was sent."),
        (["2", ""], "Nothing was sent."),
        (["2", "y", "4"], "That is not 3: nothing was sent."),
    ],
)
def test_any_other_answer_sends_nothing(mailmerge, sandbox, answers, said):
    """Enter, three other numbers, a habitual y: exit 2, and the row states are as before."""
    campaign = mailmerge.campaign()
    mailmerge.account(sandbox)

    done = typed(mailmerge, ["send", "spring"], [(QUESTION, answer) for answer in answers])

    assert done.code == 2, done
    assert said in done.err
    assert sandbox.messages == []
    assert not (campaign / "out").exists()


@needs_terminal
def test_password_is_asked_for_once_and_not_shown(mailmerge, sandbox):
    """Where no place has the secret a terminal is asked, unseen, before anything is sent."""
    mailmerge.campaign()
    mailmerge.account(sandbox)
    del mailmerge.environ["MAILMERGE_SMTP_PASSWORD"]
    question = f"Password for {sandbox.user} at 127.0.0.1:{sandbox.port}:"

    done = typed(mailmerge, ["send", "spring"], [(QUESTION, "3"), (question, sandbox.password)])

    assert done.code == 0, done
    assert done.err.count(question) == 1
    assert f"{question} :" not in done.err
    assert sandbox.password not in done.err + done.out
    assert len(sandbox.messages) == 3


@needs_terminal
def test_a_wrong_number_and_a_wrong_password_are_asked_for_again(mailmerge, sandbox):
    """The plan is shown once, whatever is mistyped; the server's reply appears before the next question."""
    mailmerge.campaign()
    mailmerge.account(sandbox)
    del mailmerge.environ["MAILMERGE_SMTP_PASSWORD"]
    passwords = [("Password for", "wrong"), ("refused the sign-in", "again"), ("refused", sandbox.password)]

    done = typed(mailmerge, ["send", "spring"], [(QUESTION, "12"), (QUESTION, "3"), *passwords])

    assert done.code == 0, done
    assert done.err.count("3 of 3 rows") == 1
    assert "That is not 3." in done.err
    assert len(sandbox.messages) == 3


@needs_terminal
def test_the_third_wrong_password_ends_it(mailmerge, sandbox):
    """More would lock the account: exit 6, nothing sent, the server's words and a hint."""
    mailmerge.campaign()
    mailmerge.account(sandbox)
    del mailmerge.environ["MAILMERGE_SMTP_PASSWORD"]
    passwords = [("Password for", "wrong")] * 3

    done = typed(mailmerge, ["send", "spring"], [(QUESTION, "3"), *passwords])

    assert done.code == 6, done
    assert "error[S601]" in done.err
    assert sandbox.messages == []


@needs_terminal
@pytest.mark.parametrize("where", ["confirmation", "password"])
def test_a39_ctrl_c_at_a_question(mailmerge, sandbox, where):
    """Whoever is asked for the number or the password ends it with one Ctrl-C: exit 130, nothing sent."""
    mailmerge.campaign()
    mailmerge.account(sandbox)
    del mailmerge.environ["MAILMERGE_SMTP_PASSWORD"]
    answers = [(QUESTION, "\x03")] if where == "confirmation" else [(QUESTION, "3"), ("Password for", "\x03")]

    done = typed(mailmerge, ["send", "spring"], answers)

    assert done.code == 130, done
    assert sandbox.messages == []


def interrupted(mailmerge: Mailmerge, server: KeepingSandbox, number: signal.Signals):
    """Begin a run of twelve rows and send it a signal when a few have been taken."""
    process = mailmerge.start("send", "spring", "--yes", "--rate", "20/s")
    try:
        wait_until(lambda: len(server.messages) >= 3, "three messages")
        process.send_signal(number)
    finally:
        done = mailmerge.finish(process)
    return done


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a24_signal_in_mid_run(mailmerge, number, code):
    """The message in flight is finished, results are written, the next run does the rest: nobody twice."""
    campaign = mailmerge.campaign(people_csv=PEOPLE)
    with KeepingSandbox(faults=FaultPlan(delay=0.05)) as server:
        mailmerge.account(server)
        first = interrupted(mailmerge, server, number)

        assert first.code == code, first
        assert "finishing the messages in flight" in first.err
        assert "Next: mailmerge send spring" in first.out
        taken = len(server.messages)
        assert 3 <= taken < 12
        assert statuses(campaign) == ["accepted"] * taken + ["pending"] * (12 - taken)
        assert f"{taken} accepted   {12 - taken} pending" in first.out
        second = mailmerge("send", "spring", "--yes")

    assert second.code == 0, second
    assert statuses(campaign) == ["accepted"] * 12
    assert [message.rcpt_to[0] for message in server.messages] == [
        f"p{number}@example.com" for number in range(12)
    ]


def test_a24_a_run_in_the_background_does_not_hear_ctrl_c(mailmerge):
    """A script starts ``mailmerge send &`` with SIGINT ignored: it continues, and SIGTERM still ends it."""
    mailmerge.campaign(people_csv=PEOPLE)
    with KeepingSandbox(faults=FaultPlan(delay=0.05)) as server:
        mailmerge.account(server)
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process = mailmerge.start("send", "spring", "--yes", "--rate", "20/s")
        finally:
            signal.signal(signal.SIGINT, before)
        try:
            wait_until(lambda: len(server.messages) >= 2, "two messages")
            process.send_signal(signal.SIGINT)
            wait_until(lambda: len(server.messages) >= 5, "three more messages")
            process.send_signal(signal.SIGTERM)
        finally:
            done = mailmerge.finish(process)

        assert done.code == 143, done
        assert done.err.count("finishing the messages in flight") == 1
        assert 5 <= len(server.messages) < 12


def test_a24_second_signal_leaves_at_once(mailmerge):
    """Whoever cannot wait leaves a row in doubt: it is named, and only sent again if told."""
    campaign = mailmerge.campaign()
    handed_over = threading.Event()

    def hang(peer: faultd.Peer) -> None:
        handed_over.set()
        faultd.hang(peer)

    with FaultServer({"content": {2: hang}}) as server:
        mailmerge.account(server)
        process = mailmerge.start("send", "spring", "--yes", "--pipeline", "off")
        try:
            assert handed_over.wait(20)
            process.send_signal(signal.SIGINT)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
            process.send_signal(signal.SIGINT)
        finally:
            first = mailmerge.finish(process)
        assert first.code == 130, first
        assert "stopping immediately" in first.err

        doubt = mailmerge("resolve", "spring")
        assert doubt.code == 0, doubt
        assert "row 3  bo@example.net  handed over" in doubt.out
        second = mailmerge("send", "spring", "--yes")
        assert second.code == 4, second
        assert "mailmerge resolve spring" in second.out
        assert statuses(campaign) == ["accepted", "in_doubt", "accepted"]
        again = mailmerge("resolve", "spring", "--resend")
        assert "1 row will be sent again by the next run.\nNext: mailmerge send spring" in again.out
        assert mailmerge("send", "spring", "--yes").code == 0

    assert [message.recipients for message in server.accepted] == [
        (b"ana@example.com",),
        (b"cy@example.org",),
        (b"bo@example.net",),
    ]
    assert [row["status"] for row in results(campaign)] == ["accepted"] * 3


def screen(done: Done, columns: int) -> pyte.Screen:
    """Show what was written as a terminal shows it."""
    shown = pyte.Screen(columns, 200)
    pyte.Stream(shown).feed(done.err)
    return shown


def colours(shown: pyte.Screen) -> dict[str, set[tuple[str, bool]]]:
    """Return the words that are not in the usual colour, each with colour and weight."""
    found: dict[str, set[tuple[str, bool]]] = {}
    for number, line in enumerate(shown.display):
        for word in re.finditer(r"in doubt|\w+", line):
            char = shown.buffer[number][wcswidth(line[: word.start()])]
            if char.fg != "default":
                found.setdefault(word[0], set()).add((char.fg, char.bold))
    return found


@needs_terminal
@pytest.mark.parametrize("columns", [40, 110])
def test_a_narrow_and_a_wide_terminal_show_all_of_it(mailmerge, columns):
    """The plan is wrapped, and states have their colours; the same text without any under NO_COLOR."""
    people = "email,name\nana@example.com,王小明\nbo@example.net,欧阳娜娜\ncy@example.org,Cy\n"
    mailmerge.campaign("春季通知", people_csv=people)
    with KeepingSandbox(faults=FaultPlan(refused=("bo@example.net",))) as server:
        mailmerge.account(server)
        sent = typed(mailmerge, ["send", "春季通知"], [(QUESTION, "3")], columns=columns, term="xterm")
    assert sent.code == 3, sent
    status = typed(mailmerge, ["status", "春季通知"], [], columns=columns, term="xterm")
    mailmerge.environ["NO_COLOR"] = "1"
    plain = typed(mailmerge, ["status", "春季通知"], [], columns=columns, term="xterm")

    after = screen(sent, columns)
    painted = colours(after)
    assert painted.pop("accepted") == {("green", False)}
    assert painted.pop("rejected") == {("red", False)}
    assert painted == {}
    plan = sent.err.partition(QUESTION)[0].splitlines()
    assert max(map(wcswidth, plan)) <= columns
    assert "Me <me@example.org>" in " ".join(" ".join(plan).split())
    assert colours(screen(status, columns)) == {"accepted": {("green", False)}, "rejected": {("red", False)}}
    assert "\x1b" not in plain.err
    assert screen(plain, columns).display == screen(status, columns).display
