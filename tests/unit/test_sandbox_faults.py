"""The sandbox server's misfortunes: how they are said, and how often they strike."""

from __future__ import annotations

from random import Random

import pytest

from mailmerge.errors import CampaignFileError
from mailmerge.model import Phase, Scope
from mailmerge.providers import get_provider, sign_in_refusals
from mailmerge.sandbox.faults import Command, Cut, FaultInjector, FaultPlan, Refusal
from mailmerge.smtp.replies import ReplyParser, classify


class Hand:
    """A clock that the test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def injector(plan: FaultPlan, clock: Hand | None = None) -> FaultInjector:
    """Return a plan at work whose random numbers are always the same."""
    return FaultInjector(plan, Random(7), clock or Hand())


def test_the_words_of_the_command_line() -> None:
    """Each option becomes a value; an option that was not given is not a fault."""
    plan = FaultPlan.parse(
        ["450:2%", "auth:535:1%", "content:554 5.7.1 spam:0.5"], drop="3%", greylist="5m", per_connection=4
    )
    assert plan.refusals == (
        Refusal(450, 0.02),
        Refusal(535, 0.01, Command.AUTH),
        Refusal(554, 0.5, Command.CONTENT, "5.7.1 spam"),
    )
    assert (plan.drop, plan.greylist, plan.per_connection, plan.per_minute) == (0.03, 300.0, 4, None)
    assert FaultPlan.parse() == FaultPlan()


def test_a_recipient_that_does_not_exist_is_refused_every_time() -> None:
    """Only the named one, however its letters are written."""
    at_work = injector(FaultPlan.parse(refused=("Bo@Example.net",)))
    replies = [at_work.no_such_user(who) for who in ("bo@example.net", "BO@example.net", "ana@example.net")]
    assert replies == ["550 5.1.1 No such user here"] * 2 + [None]


@pytest.mark.parametrize(
    "wrong",
    [
        {"refusals": ["2%"]},
        {"refusals": ["quit:421:2%"]},
        {"refusals": ["250:2%"]},
        {"drop": "101%"},
        {"drop": "some"},
        {"greylist": "five"},
        {"refuse_sign_in": "gmial"},
    ],
)
def test_what_is_no_fault(wrong: dict[str, object]) -> None:
    """Anything else is an error with a hint."""
    with pytest.raises(CampaignFileError) as caught:
        FaultPlan.parse(**wrong)  # type: ignore[arg-type]
    assert (caught.value.code, bool(caught.value.hint)) == ("C490", True)


def test_shares_are_met() -> None:
    """Over ten thousand messages every misfortune strikes as often as it was said to."""
    some = injector(FaultPlan(refusals=(Refusal(450, 0.02),), drop=0.3, drop_after_data=0.1))
    count = 10_000
    assert sum(some.refusal(Command.RCPT) is not None for _ in range(count)) == pytest.approx(200, rel=0.3)
    assert sum(some.drops() for _ in range(count)) == pytest.approx(1000, rel=0.15)
    cuts = [some.cut() for _ in range(count)]
    for cut in Cut:
        assert cuts.count(cut) == pytest.approx(1000, rel=0.15)
    assert some.refusal(Command.MAIL) is None


def test_caps() -> None:
    """A connection brings so many messages, a minute so many begin; a minute later there is room again."""
    clock = Hand()
    some = injector(FaultPlan(per_connection=2, per_minute=3), clock)
    assert [some.begin(0), some.begin(1)] == [None, None]
    assert str(some.begin(2)).startswith("421 4.7.0 Too many messages")
    assert some.begin(0) is None
    assert str(some.begin(0)).startswith("454 4.7.0 Throttling failure")
    clock.now = 60.0
    assert some.begin(0) is None


def test_greylisting() -> None:
    """Each pair of sender and recipient waits for itself, from the first time it was seen."""
    clock = Hand()
    some = injector(FaultPlan(greylist=300), clock)
    assert some.greylisted("a", "x")
    clock.now = 299.0
    assert some.greylisted("a", "x")
    assert some.greylisted("a", "y")
    clock.now = 300.0
    assert not some.greylisted("a", "x")
    assert some.greylisted("a", "y")


@pytest.mark.parametrize("name", sign_in_refusals())
def test_providers_words(name: str) -> None:
    """Every provider named is one of our presets, and its words mean that a person must act."""
    assert get_provider(name)
    assert injector(FaultPlan(refuse_sign_in=name)).refusal(Command.AUTH) == sign_in_refusals()[name]
    (reply,) = ReplyParser().feed(sign_in_refusals()[name].encode() + b"\r\n")
    assert classify(reply, Phase.AUTH).scope is Scope.CONFIG
