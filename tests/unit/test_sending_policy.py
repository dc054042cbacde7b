"""The decision after an outcome, as a table: what it means for the row, and what for the run."""

from __future__ import annotations

import copy
import math
import re
from collections import deque
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from mailmerge.addresses import Address
from mailmerge.errors import AuthError, ConnectionLost, SessionError, TlsError
from mailmerge.model import Envelope, Message, Outcome, Phase, Reply, Scope, Status
from mailmerge.options import CAMPAIGN, SendOptions
from mailmerge.sending.policy import History, Policy, RetryPolicy
from mailmerge.sending.runs import Again, Context, Decision, Reason, RowDecision, RunDecision, RunEnd
from mailmerge.sending.work_queue import Job
from mailmerge.smtp.replies import classify, too_large, unanswered
from mailmerge.smtp.reply_rules import RULES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
SENDER = Address.parse("me@example.org")
RETRY = RetryPolicy(SendOptions().retry)
POLICY = Policy(RETRY, max_rejected=0.05)
WAITING = Policy(RETRY, max_rejected=0.05, wait=True)


def middle() -> float:
    """No jitter."""
    return 0.5


def job(
    *,
    number: int = 1,
    first: datetime | None = None,
    row: int = 2,
    to: tuple[str, ...] = ("u@one.example",),
) -> Job:
    envelope = Envelope(SENDER, tuple(map(Address.parse, to)))
    message = Message(f"<m{row}@x>", f"k{row}", row, envelope, (b"\r\n",))
    return Job(message, number, "u@one.example", NOW, "r", "v", first)


def context(connection: str = "c1", *, fresh: bool = False, steady: float = 0.0, **more) -> Context:
    return Context(job(**more), connection, fresh, NOW, steady, middle)


def history(**known: object) -> History:
    """A run that has learnt this and nothing else."""
    made = History()
    for name, value in known.items():
        assert hasattr(made, name), name
        setattr(made, name, value)
    return made


# --- the table ------------------------------------------------------------------------------------------

ACCEPTED = Outcome(Status.ACCEPTED, Scope.ROW, Phase.CONTENT, Reply(250, ("queued",)))
DOUBT = Outcome(Status.IN_DOUBT, Scope.CONNECTION, Phase.CONTENT, reason="dropped")
SENDER_REFUSED = Outcome(
    Status.PENDING, Scope.CONFIG, Phase.MAIL, Reply(553, ("not you",)), "sender", hint="fix it"
)
AT_RCPT = Outcome(Status.PENDING, Scope.CONFIG, Phase.RCPT, Reply(554, ("relay",)), "relay", hint="sign in")
QUOTED = Outcome(
    Status.DEFERRED, Scope.ROW, Phase.RCPT, Reply(554, ("said: relay",)), "relay", hint="sign in"
)
QUOTA = Outcome(
    Status.DEFERRED, Scope.ACCOUNT, Phase.MAIL, Reply(550, ("limit",)), "quota", 86400.0, hint="tomorrow"
)
TOO_FAST = Outcome(
    Status.DEFERRED, Scope.ACCOUNT, Phase.MAIL, Reply(454, ("rate",)), "rate", 5.0, slower=True
)
REST = Outcome(Status.DEFERRED, Scope.ACCOUNT, Phase.MAIL, Reply(451, ("later",)), "rate", 900.0)
OUT_OF_STEP = Outcome(Status.REJECTED, Scope.CONNECTION, Phase.RCPT, Reply(503, ("order",)), "protocol")
CLOSING = Outcome(Status.PENDING, Scope.CONNECTION, Phase.MAIL, Reply(421, ("closing",)), "server")
CAP = Outcome(Status.PENDING, Scope.CONNECTION, Phase.MAIL, Reply(451, ("MI:DMC",)), "connection_cap")
STORAGE = Outcome(Status.PENDING, Scope.CONNECTION, Phase.MAIL, Reply(452, ("full",)), "storage", 600.0)
DROPPED = Outcome(Status.PENDING, Scope.CONNECTION, Phase.DATA, reason="dropped")
DROPPED_EARLY = replace(DROPPED, phase=Phase.MAIL)
REJECTED = Outcome(Status.REJECTED, Scope.ROW, Phase.RCPT, Reply(550, ("no",)), "recipient")
DOMAIN = Outcome(Status.REJECTED, Scope.ROW, Phase.CONTENT, Reply(550, ("dmarc",)), "domain")
DOMAIN_FOR_NOW = Outcome(Status.DEFERRED, Scope.ROW, Phase.CONTENT, Reply(421, ("dmarc",)), "domain", 3600.0)
DOMAIN_OF_ONE = replace(DOMAIN, refused=((Address.parse("x@Two.example"), Reply(550)),))
SPAM = Outcome(Status.REJECTED, Scope.ROW, Phase.CONTENT, Reply(554, ("spam",)), "content")
NOT_UNDERSTOOD = Outcome(Status.REJECTED, Scope.ROW, Phase.MAIL, Reply(500, ("what?",)), "protocol")
GREYLISTED = Outcome(Status.DEFERRED, Scope.ROW, Phase.RCPT, Reply(451, ("grey",)), "greylist", 300.0)
BUSY = Outcome(Status.DEFERRED, Scope.ROW, Phase.RCPT, Reply(450, ("busy",)), "refused")
SPAM_FOR_NOW = replace(SPAM, status=Status.DEFERRED)

ON = RunDecision(answered=True)
ROW_ALONE = replace(ON, retire=True, set_aside=True)
ALONE = MappingProxyType({"accepted": 3, "troubled": MappingProxyType({"k2": 2})})
SUSPECTED = replace(ON, suspicion=True)
SUSPECTS = {f"k{row}": job(row=row, to=(f"a@{name}.example",)) for row, name in ((3, "two"), (4, "three"))}
ELSEWHERE = RunDecision(retire=True)
UNTRIED = RowDecision(Status.PENDING, counts=False)
NEXT = RowDecision(Status.PENDING, counts=False, again=Again.NEXT)
LAST = RowDecision(Status.PENDING, counts=False, again=Again.LAST)
IN_DOUBT = RowDecision(Status.IN_DOUBT, counts=False)
REFUSED = RowDecision(Status.REJECTED)
EXPIRED = RowDecision(Status.EXPIRED)
IN_VAIN = "the server asked us to wait 4 times without accepting a message in between"


def due(after: timedelta, *, counts: bool = True) -> RowDecision:
    return RowDecision(Status.DEFERRED, NOW + after, counts=counts)


def tripped(message: str, outcome: Outcome, hint: str) -> RunEnd:
    return RunEnd(Reason.BREAKER, message, hint, outcome=outcome)


def paused(said: str, outcome: Outcome, seconds: float, hint: str | None = None) -> RunEnd:
    return RunEnd(Reason.ACCOUNT_PAUSE, said, hint, None, NOW + timedelta(seconds=seconds), outcome)


LOST = "3 connections in a row were lost with messages handed over and not answered"
LOST_HINT = "decide about the rows in doubt; check whether a firewall or proxy cuts connections"
SPAM_HINT = "it looks like spam to the server: change the text or the links, and start with a few rows"


class Line(NamedTuple):
    """One line of the table."""

    outcome: Outcome
    row: RowDecision
    run: RunDecision
    history: Mapping[str, object] = MappingProxyType({})
    about: Context = context()
    policy: Policy = POLICY


TABLE = {
    "accepted": Line(ACCEPTED, RowDecision(Status.ACCEPTED), ON),
    # The answer is lost.
    "in doubt": Line(DOUBT, IN_DOUBT, ELSEWHERE),
    "in doubt, the second connection": Line(DOUBT, IN_DOUBT, ELSEWHERE, {"doubts": 1, "lost": "c0"}),
    "in doubt, the third connection": Line(
        DOUBT,
        IN_DOUBT,
        replace(ELSEWHERE, stop=replace(tripped(LOST, DOUBT, LOST_HINT), scope=Scope.CONNECTION)),
        {"doubts": 2, "lost": "c0"},
    ),
    "in doubt, another message of one connection": Line(
        DOUBT, IN_DOUBT, ELSEWHERE, {"doubts": 2, "lost": "c1"}
    ),
    # About our set-up.
    "sender refused": Line(
        SENDER_REFUSED,
        UNTRIED,
        RunDecision(
            stop=RunEnd(Reason.REFUSED, "the server refused: 553 not you", "fix it", outcome=SENDER_REFUSED)
        ),
    ),
    "refused at the first recipient": Line(
        AT_RCPT,
        UNTRIED,
        RunDecision(stop=RunEnd(Reason.REFUSED, "the server refused: 554 relay", "sign in", outcome=AT_RCPT)),
    ),
    "refused at a recipient, others were accepted": Line(AT_RCPT, due(MINUTE), SUSPECTED, {"accepted": 1}),
    "refused at a recipient, another one of the row was taken": Line(
        replace(AT_RCPT, refused=((Address.parse("x@one.example"), Reply(554)),)),
        due(MINUTE),
        SUSPECTED,
        about=Context(job(to=("u@one.example", "x@one.example")), "c1", False, NOW, 0.0, middle),
    ),
    "another server's opinion of us": Line(QUOTED, due(MINUTE), SUSPECTED),
    "another server's opinion, the third domain in a row": Line(
        QUOTED,
        UNTRIED,
        replace(
            ON,
            given_back=(job(row=3, to=("a@two.example",)), job(row=4, to=("a@three.example",))),
            stop=RunEnd(
                Reason.REFUSED,
                "the server refused rows of 3 domains in a row: 554 said: relay",
                "sign in",
                outcome=QUOTED,
            ),
        ),
        {"suspicions": SUSPECTS},
    ),
    "once that is confirmed, whoever is in flight": Line(
        QUOTED, UNTRIED, ON, {"suspicions": SUSPECTS, "confirmed": True}
    ),
    "another server's opinion, the third row of two domains": Line(
        QUOTED,
        due(MINUTE),
        SUSPECTED,
        {"suspicions": {f"k{row}": job(row=row, to=("a@two.example",)) for row in (3, 4)}},
    ),
    "another server's opinion, the tenth row of two domains": Line(
        QUOTED,
        due(MINUTE),
        replace(
            SUSPECTED,
            stop=RunEnd(
                Reason.BREAKER,
                "10 rows in a row were refused for what may be about the sender: 554 said: relay",
                "sign in",
                outcome=QUOTED,
                scope=Scope.ACCOUNT,
            ),
        ),
        {"suspicions": {f"k{row}": job(row=row, to=("a@two.example",)) for row in range(3, 12)}},
    ),
    # About the account.
    "quota": Line(
        QUOTA,
        due(DAY, counts=False),
        RunDecision(
            stop=RunEnd(Reason.QUOTA, "account limit reached: 550 limit", "tomorrow", None, NOW + DAY, QUOTA)
        ),
    ),
    "too fast": Line(TOO_FAST, NEXT, RunDecision(slower=True, pause=5.0)),
    "too fast, the third time": Line(TOO_FAST, NEXT, RunDecision(slower=True, pause=30.0), {"orders": 2}),
    "too fast, the fourth time": Line(
        TOO_FAST,
        NEXT,
        RunDecision(slower=True, stop=paused("the server asks for a pause: 454 rate", TOO_FAST, 1200)),
        {"orders": 3},
    ),
    "too fast, the rest of a window": Line(TOO_FAST, NEXT, RunDecision(), {"paused_until": 3.0, "orders": 1}),
    "too fast, once the pause is over": Line(
        TOO_FAST,
        NEXT,
        RunDecision(slower=True, pause=10.0),
        {"paused_until": 3.0, "orders": 1},
        context(steady=3.0),
    ),
    "rest": Line(REST, LAST, RunDecision(stop=paused("the server asks for a pause: 451 later", REST, 900))),
    "rest, asked to wait": Line(REST, LAST, RunDecision(pause=900.0), policy=WAITING),
    "rest, the third time": Line(
        REST, LAST, RunDecision(pause=3600.0), {"orders": 2, "long_pauses": 2}, policy=WAITING
    ),
    "rest, the fourth time": Line(
        REST,
        LAST,
        RunDecision(stop=paused("the server asks for a pause: 451 later", REST, 7200, IN_VAIN)),
        {"orders": 3, "long_pauses": 3},
        policy=WAITING,
    ),
    "rest, nobody knows how long": Line(
        replace(REST, retry_after=None), LAST, RunDecision(pause=900.0), policy=WAITING
    ),
    "a minute's rest is simply obeyed": Line(replace(REST, retry_after=60.0), LAST, RunDecision(pause=60.0)),
    "a second more is not": Line(
        replace(REST, retry_after=61.0),
        LAST,
        RunDecision(
            stop=paused("the server asks for a pause: 451 later", replace(REST, retry_after=61.0), 61)
        ),
    ),
    # About the connection.
    "out of step": Line(OUT_OF_STEP, REFUSED, ELSEWHERE),
    "out of step, the second time": Line(
        OUT_OF_STEP,
        REFUSED,
        replace(
            ELSEWHERE,
            stop=tripped(
                "the server reported two protocol errors",
                OUT_OF_STEP,
                "rerun with --transcript FILE to see the session",
            ),
        ),
        {"protocol_errors": 1},
    ),
    "a cap on messages": Line(CAP, LAST, ELSEWHERE),
    "closing": Line(CLOSING, LAST, ELSEWHERE),
    "closing at the first message": Line(
        CLOSING, LAST, RunDecision(retire=True, closing=True), {"closings": 1}, context(fresh=True)
    ),
    "closing at the first message, the third time": Line(
        CLOSING,
        LAST,
        RunDecision(
            retire=True,
            closing=True,
            stop=RunEnd(
                Reason.NETWORK, "the server keeps closing the connection: 421 closing", outcome=CLOSING
            ),
        ),
        {"closings": 2},
        context(fresh=True),
    ),
    "a cap at the first message, the third time": Line(
        CAP, LAST, ELSEWHERE, {"closings": 2}, context(fresh=True)
    ),
    "no storage, once": Line(STORAGE, LAST, ELSEWHERE),
    "no storage, once, asked to wait": Line(STORAGE, LAST, ELSEWHERE, policy=WAITING),
    "no storage": Line(
        STORAGE,
        LAST,
        RunDecision(retire=True, stop=paused("the server asks for a pause: 452 full", STORAGE, 600)),
        {"troubles": 1},
    ),
    "no storage, asked to wait": Line(
        STORAGE, LAST, RunDecision(retire=True, pause=600.0), {"troubles": 1}, policy=WAITING
    ),
    "no storage for one row alone": Line(STORAGE, due(timedelta(seconds=660)), ROW_ALONE, {**ALONE}),
    "closing at one row alone": Line(CLOSING, due(MINUTE), ROW_ALONE, {**ALONE}, context(fresh=True)),
    "a cap for one row alone": Line(CAP, due(MINUTE), ROW_ALONE, {**ALONE}),
    "rest for one row alone": Line(
        REST, due(timedelta(seconds=990)), replace(ROW_ALONE, retire=False), {**ALONE}
    ),
    "for one row alone, its last try": Line(CAP, EXPIRED, ROW_ALONE, {**ALONE}, context(number=8)),
    "nothing was accepted in between": Line(CAP, LAST, ELSEWHERE, {"accepted": 3, "troubled": {"k2": 3}}),
    "a farewell to a row in flight": Line(replace(CLOSING, reason="dropped"), NEXT, ELSEWHERE, {**ALONE}),
    "dropped before the content": Line(DROPPED_EARLY, NEXT, ELSEWHERE),
    "dropped": Line(DROPPED, NEXT, RunDecision(retire=True, dropped=True)),
    "dropped twice": Line(DROPPED, LAST, RunDecision(retire=True, dropped=True), {"drops": {"k2": 1}}),
    "dropped five times": Line(
        DROPPED, due(MINUTE), RunDecision(retire=True, dropped=True), {"drops": {"k2": 4}}
    ),
    "dropped five times at the eighth try": Line(
        DROPPED, EXPIRED, RunDecision(retire=True, dropped=True), {"drops": {"k2": 4}}, context(number=8)
    ),
    "another row was dropped four times": Line(
        DROPPED, NEXT, RunDecision(retire=True, dropped=True), {"drops": {"k3": 4}}
    ),
    # About the row.
    "rejected": Line(REJECTED, REFUSED, ON),
    "rejected, the ninth in a row": Line(REJECTED, REFUSED, ON, {"rejected": 8}),
    "rejected, the tenth in a row": Line(
        REJECTED,
        REFUSED,
        replace(
            ON,
            stop=tripped("10 rows in a row were rejected", REJECTED, "look at the replies before continuing"),
        ),
        {"rejected": 9},
    ),
    "rejected, the eleventh of the last 200": Line(
        REJECTED,
        REFUSED,
        replace(
            ON,
            stop=tripped(
                "more than 5% of the last 200 rows were rejected",
                REJECTED,
                "clean the list, or allow more with send.max_rejected",
            ),
        ),
        {"latest": deque([True] * 10 + [False] * 9)},
    ),
    "rejected, the tenth of the last 200": Line(
        REJECTED, REFUSED, ON, {"latest": deque([True, False] + [True] * 9 + [False] * 189, maxlen=200)}
    ),
    "its domain refuses us": Line(DOMAIN, REFUSED, replace(ON, blocked=frozenset({"one.example"}))),
    "its domain refuses us for now": Line(
        DOMAIN_FOR_NOW, due(timedelta(minutes=66)), replace(ON, blocked=frozenset({"one.example"}))
    ),
    "the domain of one recipient refuses us": Line(
        DOMAIN_OF_ONE, REFUSED, replace(ON, blocked=frozenset({"two.example"}))
    ),
    "its content, the second in a row": Line(SPAM, REFUSED, ON, {"contents": 1}),
    "its content, the third in a row": Line(
        SPAM,
        REFUSED,
        replace(
            ON,
            stop=tripped("the server refused the content of 3 messages in a row", SPAM, SPAM_HINT),
        ),
        {"contents": 2},
    ),
    "its content for now, the third in a row": Line(
        SPAM_FOR_NOW,
        due(MINUTE),
        replace(
            ON,
            stop=tripped("the server refused the content of 3 messages in a row", SPAM_FOR_NOW, SPAM_HINT),
        ),
        {"contents": 2},
    ),
    "not understood": Line(NOT_UNDERSTOOD, REFUSED, ON),
    "not understood, the second time": Line(
        NOT_UNDERSTOOD,
        REFUSED,
        replace(
            ON,
            stop=tripped(
                "the server reported two protocol errors",
                NOT_UNDERSTOOD,
                "rerun with --transcript FILE to see the session",
            ),
        ),
        {"protocol_errors": 1},
    ),
    "deferred": Line(BUSY, due(MINUTE), ON),
    "deferred by many counts for no breaker": Line(
        BUSY, due(MINUTE), ON, {"rejected": 9, "protocol_errors": 1}
    ),
    "deferred, a time was asked for": Line(GREYLISTED, due(timedelta(seconds=330)), ON),
    "deferred, the third try": Line(BUSY, due(15 * MINUTE), ON, about=context(number=3)),
    "deferred, the eighth try": Line(BUSY, EXPIRED, ON, about=context(number=8)),
    "deferred, two days after the first": Line(
        BUSY, EXPIRED, ON, about=context(number=2, first=NOW - 2 * DAY)
    ),
}


@pytest.mark.parametrize("line", TABLE.values(), ids=TABLE.keys())
def test_the_decision(line: Line) -> None:
    """Outcome and history in, row and run out."""
    decision = line.policy.decide(line.outcome, history(**line.history), line.about)
    assert decision == Decision(line.row, line.run)


def outcomes_there_are() -> Iterator[Outcome]:
    """Every outcome that a reply, or the lack of one, can lead to."""
    for rule in RULES:
        meaning = rule.meaning
        yield Outcome(
            meaning.status,
            meaning.scope,
            rule.phases[0] if rule.phases else Phase.MAIL,
            Reply(rule.codes[0] if rule.codes and rule.codes[0] > 99 else 450),
            meaning.reason,
            meaning.retry_after,
            meaning.slower,
            meaning.hint,
        )
    for code in (250, 450, 550):
        yield classify(Reply(code), Phase.CONTENT)
    for whole in (True, False):
        yield unanswered(Phase.DATA, written_whole=whole)
        yield replace(unanswered(Phase.MAIL, written_whole=whole), reply=Reply(421))
    yield too_large(2, 1)


_OWN_LINES = frozenset({"quota", "content", "protocol", "domain"})


def kind(outcome: Outcome) -> tuple[Status, Scope, str]:
    """What the decision looks at, apart from numbers."""
    return outcome.status, outcome.scope, outcome.reason if outcome.reason in _OWN_LINES else ""


def test_the_table_is_complete() -> None:
    """No reply rule leads to an outcome that no line of the table is about, nor is a line about nothing."""
    assert {kind(line.outcome) for line in TABLE.values()} == {kind(found) for found in outcomes_there_are()}


def test_only_the_row_s_own_fault_uses_up_a_try() -> None:
    """Whatever else a server says, the row has as many tries as before."""
    for outcome in outcomes_there_are():
        row = POLICY.decide(outcome, History(), context()).row
        about_the_row = outcome.scope is Scope.ROW or outcome.status is Status.REJECTED
        assert row.counts is about_the_row, outcome


def test_every_order_to_rest_says_how_long() -> None:
    """A provider's words for "not now" are of no use without a time."""
    for outcome in outcomes_there_are():
        assert outcome.scope is not Scope.ACCOUNT or outcome.retry_after, outcome


@given(
    outcomes=st.lists(st.sampled_from([line.outcome for line in TABLE.values()]), max_size=30),
    wait=st.booleans(),
)
def test_deciding_changes_nothing(outcomes: list[Outcome], wait: bool) -> None:
    """The same question has the same answer; only learning changes a history."""
    policy, known = WAITING if wait else POLICY, History()
    for number, outcome in enumerate(outcomes):
        about = context(f"c{number // 2}", fresh=number % 2 == 0, steady=number * 10.0, row=number % 3)
        before = copy.deepcopy(vars(known))
        first = policy.decide(outcome, known, about)
        assert policy.decide(outcome, known, about) == first
        assert vars(known) == before
        known.learn(outcome, first, about)


# --- what is learnt -------------------------------------------------------------------------------------


def learnt(known: History) -> dict[str, object]:
    """What differs from a run that has learnt nothing, without the latest rows and who met trouble."""
    fresh = vars(History())
    beside = {"latest", "accepted", "troubled", "troubles", "same_row", "same_times"}
    return {name: value for name, value in vars(known).items() if value != fresh[name] and name not in beside}


@pytest.mark.parametrize(
    ("outcome", "before", "after"),
    [
        (ACCEPTED, {}, {}),
        (
            ACCEPTED,
            {"rejected": 1, "contents": 1, "doubts": 1, "orders": 1, "long_pauses": 1, "protocol_errors": 1},
            {"protocol_errors": 1},
        ),
        (ACCEPTED, {"setbacks": 2, "setback_since": 5.0, "closings": 1}, {"setback_since": 5.0}),
        (BUSY, {"setbacks": 2, "closings": 1, "rejected": 4, "contents": 2}, {"rejected": 4}),
        (REJECTED, {"rejected": 4}, {"rejected": 5}),
        (SPAM, {}, {"rejected": 1, "contents": 1}),
        (NOT_UNDERSTOOD, {}, {"rejected": 1, "protocol_errors": 1}),
        (OUT_OF_STEP, {"setbacks": 2}, {"setbacks": 2, "rejected": 1, "protocol_errors": 1}),
        (DOUBT, {}, {"doubts": 1, "lost": "c1"}),
        (DOUBT, {"doubts": 1, "lost": "c1"}, {"doubts": 1, "lost": "c1"}),
        (DOUBT, {"doubts": 1, "lost": "c0"}, {"doubts": 2, "lost": "c1"}),
        (SENDER_REFUSED, {"rejected": 1}, {"rejected": 1}),
        (ACCEPTED, {"suspicions": dict(SUSPECTS)}, {}),
        (BUSY, {"suspicions": dict(SUSPECTS)}, {}),
        (QUOTED, {"suspicions": dict(SUSPECTS)}, {"suspicions": dict(SUSPECTS), "confirmed": True}),
        (TOO_FAST, {}, {"orders": 1, "paused_until": 105.0}),
        (TOO_FAST, {"paused_until": 101.0}, {"paused_until": 101.0}),
        (replace(REST, retry_after=60.0), {}, {"orders": 1, "paused_until": 160.0}),
        (REST, {}, {"orders": 1, "long_pauses": 1, "paused_until": 1000.0}),
        (CLOSING, {}, {"closings": 1}),
        (DROPPED, {"drops": {"k2": 1}}, {"drops": {"k2": 2}}),
        (DROPPED, {"drops": {"k3": 1}}, {"drops": {"k2": 1, "k3": 1}}),
        (DROPPED_EARLY, {}, {}),
    ],
)
def test_an_outcome_is_learnt(outcome: Outcome, before: dict[str, object], after: dict[str, object]) -> None:
    """What it adds to the counts in a row, ends them, or says about how long to wait."""
    known, about = history(**copy.deepcopy(before)), context(fresh=True, steady=100.0)
    known.learn(outcome, WAITING.decide(outcome, known, about), about)
    assert learnt(known) == after


def test_accepted_and_rejected_rows_make_the_share() -> None:
    """Others are not among the latest rows."""
    known = History()
    for outcome in (ACCEPTED, REJECTED, BUSY, DOUBT, OUT_OF_STEP, CAP, ACCEPTED):
        known.learn(outcome, POLICY.decide(outcome, known, context()), context())
    assert list(known.latest) == [False, True, True, False]


def test_a_sign_in_that_succeeds_is_learnt() -> None:
    """The next one that is put off is the first again; a pause is waited for from now on."""
    known = History()
    known.learn_failure(RunDecision(pause=600.0), 100.0)
    assert learnt(known) == {"put_off": 1, "paused_until": 700.0}
    known.learn_failure(RunDecision(pause=600.0), 700.0)
    assert known.put_off == 2
    known.learn_opened()
    assert learnt(known) == {"connected": True, "paused_until": 1300.0}


def ends_at(
    outcomes: list[Outcome], policy: Policy = POLICY, *, connections: int = 1
) -> tuple[int, Reason] | None:
    """Decide and learn one after the other; tell which outcome ends the run, and why."""
    known = History()
    for number, outcome in enumerate(outcomes, 1):
        about = context(f"c{number // connections}", fresh=True, steady=number * 1e6)
        run = policy.decide(outcome, known, about).run
        if run.stop is not None:
            return number, run.stop.reason
        known.learn(outcome, Decision(RowDecision(outcome.status), run), about)
    return None


def test_ten_rejected_rows_in_a_row_are_enough() -> None:
    """An accepted one in between restarts the count; a deferred one does not."""
    policy = Policy(RETRY, max_rejected=1.0)
    assert ends_at([REJECTED] * 12, policy) == (10, Reason.BREAKER)
    assert ends_at(([REJECTED] * 9 + [ACCEPTED]) * 3, policy) is None
    assert ends_at([REJECTED] * 9 + [BUSY, REJECTED], policy) == (11, Reason.BREAKER)


def test_a_share_of_the_last_two_hundred_is_enough() -> None:
    """5 % of 200 are ten: the eleventh is too much, but old ones are forgotten."""
    assert ends_at([REJECTED, ACCEPTED] * 20) == (21, Reason.BREAKER)
    assert ends_at(([REJECTED] + [ACCEPTED] * 24) * 50) is None


def test_a_share_is_counted_exactly() -> None:
    """Of any whole percentage of 200 the very number is allowed, and one more is not."""
    for percentage in range(1, 100):
        policy, allowed = Policy(RETRY, max_rejected=percentage / 100), percentage * 2
        for rejected in (allowed - 1, allowed):
            latest = deque([False] * (199 - rejected) + [True] * rejected, maxlen=200)
            run = policy.decide(REJECTED, history(latest=latest), context()).run
            assert (run.stop is not None) == (rejected == allowed), percentage


@given(text=st.from_regex(r"[0-9]{1,2}(\.[0-9]{1,12})?", fullmatch=True).map(lambda number: f"{number}%"))
def test_any_percentage_of_the_file_is_a_limit(text: str) -> None:
    """From the campaign file to the words at the end a percentage keeps all its digits."""
    assume(float(text[:-1]) > 0)
    policy = Policy(RETRY, max_rejected=CAMPAIGN["send"]["max_rejected"].type.read(text))
    allowed = math.floor(float(text[:-1]) * 2 + 1e-9)
    latest = [True] * allowed
    if allowed:
        assert policy.decide(REJECTED, history(latest=deque(latest[1:])), context()).run.stop is None
    stop = policy.decide(REJECTED, history(latest=deque(latest)), context()).run.stop
    assert stop is not None
    shown = re.search(r"more than (\S+)% of the last 200", stop.message)
    assert shown
    assert float(shown[1]) == pytest.approx(float(text[:-1]))
    assert "e" not in shown[1]


def test_a4_three_lost_connections_in_a_row_are_enough() -> None:
    """However many messages each of them left in doubt; an accepted one in between restarts the count."""
    assert ends_at([DOUBT] * 3) == (3, Reason.BREAKER)
    assert ends_at([DOUBT, DOUBT, ACCEPTED] * 4) is None
    assert ends_at([DOUBT] * 200, connections=64) == (128, Reason.BREAKER)


def test_a_server_that_is_out_of_step_again_and_again_ends_it() -> None:
    """Each time a row had looked accepted first; a long list tolerates one such connection now and then."""
    few, many = history(), history(accepted=100)
    for number in range(3):
        for known in (few, many):
            about = context(connection=f"c{number}")
            assert WAITING.decide(DOUBT, known, about).run.stop is None
            known.learn(ACCEPTED, WAITING.decide(ACCEPTED, known, about), about)
            known.take_back(ACCEPTED, about.connection)
    stop = WAITING.decide(DOUBT, few, context(connection="c2")).run.stop
    assert stop is not None
    assert stop.reason is Reason.BREAKER
    assert WAITING.decide(DOUBT, many, context(connection="c2")).run.stop is None


def test_refused_contents_and_protocol_errors_end_it_early() -> None:
    """Three contents in a row, deferred or rejected; two protocol errors in all."""
    assert ends_at([SPAM_FOR_NOW, SPAM, REJECTED, SPAM, SPAM_FOR_NOW, SPAM]) == (6, Reason.BREAKER)
    assert ends_at([NOT_UNDERSTOOD, ACCEPTED, OUT_OF_STEP]) == (3, Reason.BREAKER)


def test_pauses_without_progress_end_it() -> None:
    """The fourth long pause with nothing accepted in between is the last; refusals are not progress."""
    assert ends_at([REST, REST, REST, ACCEPTED, REST, REST, REST], WAITING) is None
    assert ends_at([REST, REST, REJECTED, REST, REST], WAITING) == (5, Reason.ACCOUNT_PAUSE)


def test_b6_three_closings_in_a_row_are_enough() -> None:
    """An answered message in between restarts the count."""
    assert ends_at([CLOSING] * 3) == (3, Reason.NETWORK)
    assert ends_at([CLOSING, CLOSING, BUSY] * 3) is None


def test_a27_short_pauses_are_obeyed_and_long_ones_only_on_demand() -> None:
    """5, 10 and 30 seconds; the twenty minutes after that end the run unless it is to wait."""
    assert ends_at([TOO_FAST] * 4) == (4, Reason.ACCOUNT_PAUSE)
    assert ends_at([TOO_FAST] * 4, WAITING) is None


def test_a_blocked_domain_is_told_with_the_rows_that_were_left() -> None:
    """Only domains that cost a row, in counts that add up."""
    known = History()
    assert not known.leaves(job())
    known.learn(DOMAIN, POLICY.decide(DOMAIN, known, context()), context())
    assert list(known.notes()) == []
    assert known.leaves(job())
    assert list(known.notes()) == [
        "one.example refuses mail from this sender: 1 more row for that domain was not attempted"
    ]


# --- connections that fail ------------------------------------------------------------------------------


NO_ROUTE = ConnectionLost("no route", hint="look")
NO_HOST = ConnectionLost("no such host", exit_code=2)
NOT_NOW = AuthError("454 later", exit_code=5)
NOT_YET = ConnectionLost("421 later", exit_code=5, retry_after=60.0)
WRONG = AuthError("535 no")
UNTRUSTED = TlsError("self-signed", code="S621")
CUT_OFF = TlsError("handshake broke off")


def end(reason: Reason, error: SessionError, later: timedelta | None = None) -> RunDecision:
    return RunDecision(
        stop=RunEnd(reason, error.message, error.hint, error, None if later is None else NOW + later)
    )


@pytest.mark.parametrize(
    ("error", "opening", "known", "policy", "run"),
    [
        (NO_ROUTE, True, {}, POLICY, RunDecision(reconnect=1.0)),
        (NO_ROUTE, True, {"setbacks": 2}, POLICY, end(Reason.NETWORK, NO_ROUTE)),
        (NO_ROUTE, True, {"setbacks": 2, "connected": True}, POLICY, RunDecision(reconnect=4.0)),
        (
            NO_ROUTE,
            True,
            {"setbacks": 15, "connected": True, "setback_since": -541.0},
            POLICY,
            end(Reason.NETWORK, NO_ROUTE),
        ),
        (
            NO_ROUTE,
            True,
            {"setbacks": 15, "connected": True, "setback_since": -540.0},
            POLICY,
            RunDecision(reconnect=60.0),
        ),
        (NO_HOST, True, {}, POLICY, end(Reason.NETWORK, NO_HOST)),
        (NO_HOST, True, {"connected": True}, POLICY, RunDecision(reconnect=1.0)),
        (NOT_NOW, True, {}, POLICY, end(Reason.ACCOUNT_PAUSE, NOT_NOW, 10 * MINUTE)),
        (NOT_NOW, True, {}, WAITING, RunDecision(pause=600.0)),
        (NOT_NOW, True, {"put_off": 2}, WAITING, end(Reason.ACCOUNT_PAUSE, NOT_NOW, 10 * MINUTE)),
        (NOT_YET, True, {}, POLICY, RunDecision(pause=60.0)),
        (NOT_YET, False, {"connected": True}, POLICY, RunDecision(reconnect=1.0)),
        (WRONG, True, {}, WAITING, end(Reason.REFUSED, WRONG)),
        (WRONG, False, {"connected": True}, POLICY, end(Reason.REFUSED, WRONG)),
        (UNTRUSTED, True, {"connected": True}, POLICY, end(Reason.REFUSED, UNTRUSTED)),
        (CUT_OFF, True, {}, POLICY, end(Reason.REFUSED, CUT_OFF)),
        (CUT_OFF, True, {"connected": True}, POLICY, RunDecision(reconnect=1.0)),
        (None, False, {"connected": True, "setbacks": 6}, POLICY, RunDecision(reconnect=60.0)),
        (
            None,
            False,
            {"connected": True, "setbacks": 15, "setback_since": -600.0},
            POLICY,
            RunDecision(stop=RunEnd(Reason.NETWORK, "the connection was lost repeatedly")),
        ),
    ],
)
def test_a_connection_that_fails(
    error: SessionError | None, opening: bool, known: dict[str, object], policy: Policy, run: RunDecision
) -> None:
    """Sign-in and TLS end the run, an unknown host at the start, too; else it is tried again for a while."""
    assert policy.decide_failure(error, history(**known), NOW, 0.0, opening=opening) == run


def test_setbacks_are_counted_from_the_first_one() -> None:
    """An answered message ends them, and with them the time since when."""
    known = history(connected=True)
    for steady in (100.0, 101.0, 103.0):
        known.learn_failure(POLICY.decide_failure(None, known, NOW, steady, opening=False), steady)
    assert (known.setbacks, known.setback_since, known.retry_at) == (3, 100.0, 107.0)
    known.learn(BUSY, POLICY.decide(BUSY, known, context()), context())
    known.learn_failure(POLICY.decide_failure(None, known, NOW, 900.0, opening=False), 900.0)
    assert (known.setbacks, known.setback_since, known.retry_at) == (1, 900.0, 901.0)
