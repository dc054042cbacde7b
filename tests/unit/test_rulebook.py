"""The rules of others: each has a source and a date, says what it must, and is used where it belongs."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from mailmerge.addresses import mail_domains
from mailmerge.campaign.check import check
from mailmerge.clock import VirtualClock
from mailmerge.model import Phase, Reply, Scope, Status
from mailmerge.providers import providers
from mailmerge.rulebook import OLD_AFTER, Rule, RuleKind, old, rulebook, rules_of
from mailmerge.smtp.replies import classify
from servers.programs import unmeasured

if TYPE_CHECKING:
    from campaigns import CampaignFactory

NEWEST = date(2030, 1, 1)
"""Nobody has checked anything in the future of this version."""


@pytest.mark.parametrize("rule", rulebook().values(), ids=lambda rule: rule.name)
def test_a_rule_has_a_source_and_a_date(rule: Rule) -> None:
    """Whoever made it is quoted by an https address, and the day is one on which this program existed."""
    assert rule.kind in get_args(RuleKind)
    assert rule.source.startswith("https://")
    assert " " not in rule.source
    assert date(2026, 1, 1) <= rule.checked < NEWEST
    assert rule.title
    assert rule.says.endswith(".")
    assert (rule.kind in {"bulk", "refusal"}) == bool(rule.hint)
    assert (rule.kind == "refusal") == bool(rule.codes)
    assert (rule.kind == "bulk") == bool(rule.programs) == bool(rule.at_least)


@pytest.mark.parametrize("kind", get_args(RuleKind))
def test_the_rules_of_one_kind_are_those_of_the_whole_book(kind: RuleKind) -> None:
    """They are read without the others, and are the same."""
    assert rules_of(kind) == tuple(rule for rule in rulebook().values() if rule.kind == kind)
    assert rules_of(kind)


def test_the_laws_that_people_ask_about_are_named() -> None:
    """United States, Canada, European Union, Germany, United Kingdom: address, consent, a way out."""
    told = {rule.name: rule.says for rule in rules_of("law")}
    assert set(told) == {"can-spam", "casl", "eprivacy", "gdpr", "uwg", "pecr"}
    assert "postal address" in told["can-spam"]
    assert "mailing address" in told["casl"]
    assert "Impressum" in told["uwg"]


def test_one_click_is_asked_by_gmail_and_yahoo_and_not_by_outlook() -> None:
    """What is required of bulk senders differs."""
    asked = {rule.title: rule.says for rule in rules_of("bulk")}
    assert "one-click unsubscribing in marketing mail" in asked["Gmail"]
    assert "one-click unsubscribing honoured" in asked["Yahoo"]
    assert "one-click unsubscribing is not required" in asked["Outlook.com"]


def test_programs_of_bulk_rules_are_those_of_known_domains() -> None:
    """A name that no address has would make a rule that never fires."""
    known = {facts.mail_program for facts in mail_domains().values()}
    assert {program for rule in rules_of("bulk") for program in rule.programs} <= known


@pytest.mark.parametrize("rule", rules_of("refusal"), ids=lambda rule: rule.name)
def test_a_refusal_is_recognised_with_its_hint(rule: Rule) -> None:
    """5yz refuses the row and its domain, 4yz lets it wait; both say what to do."""
    for code in rule.codes:
        text = f"your mail {' '.join(rule.words)}"
        for kind, status in ((5, Status.REJECTED), (4, Status.DEFERRED)):
            subject, detail = map(int, code.split("."))
            reply = Reply(450 if kind == 4 else 550, (text,), (kind, subject, detail), b"")
            outcome = classify(reply, Phase.CONTENT)
            assert (outcome.scope, outcome.status, outcome.hint) == (Scope.ROW, status, rule.hint)


def test_what_was_checked_long_ago_is_old() -> None:
    """The day itself is not, the next one is; the oldest comes first."""
    today = date(2027, 6, 30)
    limit = today - OLD_AFTER
    assert old([limit], today) == []
    assert old([limit - timedelta(1), today, limit - timedelta(9)], today) == [
        limit - timedelta(9),
        limit - timedelta(1),
    ]


def test_old_rules_are_told_in_one_line_of_check(campaign_factory: CampaignFactory) -> None:
    """However many there are; while they are young nothing is said."""
    oldest = min(rule.checked for rule in rulebook().values())
    campaign = campaign_factory()
    start = datetime(oldest.year, oldest.month, oldest.day, 12, tzinfo=UTC)

    def notices(days: int) -> list[str]:
        plan = check(campaign.definition, clock=VirtualClock(start + timedelta(days)))
        return [line for line in plan.notices if "last checked" in line]

    assert notices(180) == []
    (line,) = notices(181)
    assert line.endswith(f"was last checked on {oldest}, 181 days ago: a newer version may know more.")


def test_an_old_preset_of_the_account_is_told_too(campaign_factory: CampaignFactory) -> None:
    """Its limits are what the run relies on."""
    preset = next(provider for provider in providers() if provider.name == "gmail")
    campaign = campaign_factory(top='account = "gmail"', message='from = "me@gmail.com"')
    now = datetime(preset.checked.year, preset.checked.month, preset.checked.day, tzinfo=UTC)
    plan = check(campaign.definition, clock=VirtualClock(now + timedelta(181)))
    assert any(f"last checked on {preset.checked}, 181 days ago" in line for line in plan.notices)


def test_the_page_about_providers_is_current() -> None:
    """``docs/providers.md`` is what ``scripts/write-providers-page`` would write."""
    root = Path(__file__).parents[2]
    command = [sys.executable, str(root / "scripts" / "write-providers-page"), "--print"]
    env = unmeasured()  # the checkout's package would be measured beside the wheel's
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True, env=env)
    written = done.stdout
    assert (root / "docs" / "providers.md").read_text("utf-8") == written
    for rule in rulebook().values():
        assert f"[{rule.title}]({rule.source}), {rule.checked}: {rule.says}" in written
