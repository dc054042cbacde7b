"""What this machine knows of the messages that went out, beside the ledgers."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from ledger_rows import attempt
from mailmerge.ledger.attempts import Revision, Settlement
from mailmerge.ledger.ledger import Ledger
from mailmerge.ledger.registry import CampaignRegistry
from mailmerge.model import Attempt, Outcome, Phase, Reply, Scope, Status
from reliability.bench import Bench
from reliability.moody import MoodyServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mailmerge.sending.runs import Progress

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


def digest(key: str) -> str:
    return key.encode().hex().rjust(64, "0")


def ledger(folder: Path, name: str = "spring") -> Ledger:
    folder.mkdir(exist_ok=True)
    opened = Ledger.open(folder / "ledger.db", name, now=lambda: NOW)
    opened.note_version("v1", {})
    return opened


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[CampaignRegistry]:
    with CampaignRegistry(tmp_path / "state" / "campaigns.db") as opened:
        yield opened


def hand_over(ledger: Ledger, key: str) -> Attempt:
    """Record that a message is about to leave."""
    address = f"{key}@example.org"
    made = attempt(2, key=key, address=address, message_id=f"<{address}>", date=NOW, frozen=digest(key))
    ledger.attempts.record_intent([made])
    return made


def settle(ledger: Ledger, made: Attempt, status: Status = Status.ACCEPTED) -> None:
    """Record what came of it."""
    outcome = Outcome(status, Scope.ROW, Phase.CONTENT, Reply(250, ("words",)))
    ledger.attempts.record_outcomes([Settlement(made, outcome, status, NOW)])


def known(registry: CampaignRegistry, asking: Ledger, *keys: str) -> set[str]:
    """Return which messages another campaign finds."""
    others = registry.messages.others(asking)
    found = {} if others is None else others.find([digest(key) for key in keys])
    return {key for key in keys if digest(key) in found}


def noted(registry: CampaignRegistry) -> int:
    """Count what is recorded."""
    return int(registry._db.row("SELECT count(*) FROM message")[0])


def test_a36_an_open_attempt_is_waited_for(registry: CampaignRegistry, tmp_path: Path) -> None:
    """Outcomes come in any order: what is not settled yet, and what comes after it, is recorded later."""
    with ledger(tmp_path / "a") as spring:
        registry.messages.begin(spring)
        first, second, third = (hand_over(spring, key) for key in "abc")
        settle(spring, third)
        settle(spring, first)
        registry.messages.note(spring)
        before = noted(registry)
        settle(spring, second, Status.REJECTED)
        registry.messages.note(spring)

    assert (before, noted(registry)) == (1, 2)


def test_a36_a_refusal_that_is_revised_is_noted_after_all(registry: CampaignRegistry, tmp_path: Path) -> None:
    """A row that was rejected, and is in doubt since its session proved out of step, may have the message."""
    with ledger(tmp_path / "a") as spring, ledger(tmp_path / "b", "summer") as summer:
        registry.messages.begin(spring)
        first, second = hand_over(spring, "a"), hand_over(spring, "b")
        settle(spring, first, Status.REJECTED)
        settle(spring, second)
        registry.messages.note(spring)
        doubt = Settlement(first, Outcome(Status.IN_DOUBT, Scope.ROW, Phase.CONTENT), Status.IN_DOUBT, NOW)
        spring.attempts.revise(Revision(doubt, Status.REJECTED, counted=True))
        registry.messages.note(spring, ended=True, revised=spring.attempts.first_revised)
        assert known(registry, summer, "a", "b") == {"a", "b"}


def test_a36_a_campaign_at_work_is_asked_itself(registry: CampaignRegistry, tmp_path: Path) -> None:
    """What it has not recorded is in its ledger; what is being handed over may arrive, so it counts."""
    with ledger(tmp_path / "a") as spring, ledger(tmp_path / "b", "summer") as summer:
        registry.messages.begin(spring)
        settle(spring, hand_over(spring, "a"))
        hand_over(spring, "b")
        settle(spring, hand_over(spring, "c"), Status.REJECTED)

        assert known(registry, summer, *"abcd") == {"a", "b"}
        assert known(registry, spring, *"abcd") == set()
        assert noted(registry) == 0


def test_a36_a_killed_run_whose_folder_was_renamed(registry: CampaignRegistry, tmp_path: Path) -> None:
    """Its ledger is the one that the new name works with; where it is nowhere, what was recorded is known."""
    with ledger(tmp_path / "a") as spring:
        registry.messages.begin(spring)
        settle(spring, hand_over(spring, "a"))
        registry.messages.note(spring)
        hand_over(spring, "b")
    (tmp_path / "a").rename(tmp_path / "renamed")

    with ledger(tmp_path / "renamed", "summer") as summer:
        assert known(registry, summer, "a", "b") == {"a", "b"}
    with ledger(tmp_path / "c", "winter") as winter:
        assert known(registry, winter, "a", "b") == {"a"}


def test_a36_a_renamed_folder_goes_on_where_it_was(registry: CampaignRegistry, tmp_path: Path) -> None:
    """The campaign's own messages are not others' messages, and are recorded once."""
    with ledger(tmp_path / "a") as spring:
        registry.messages.begin(spring)
        settle(spring, hand_over(spring, "a"))
        registry.messages.note(spring, ended=True)
    (tmp_path / "a").rename(tmp_path / "renamed")

    with ledger(tmp_path / "renamed") as spring:
        registry.messages.begin(spring)
        registry.messages.note(spring, ended=True)
        assert known(registry, spring, "a") == set()
    assert noted(registry) == 1


def test_a36_a_registry_that_is_spoilt_meanwhile(tmp_path: Path) -> None:
    """It costs no message and causes no doubt: the run continues, and reports once what may be unknown."""
    with MoodyServer() as server:
        bench = Bench(tmp_path, server, rows=3)
        state = tmp_path / "home" / "state" / "campaigns.db"

        def spoil(progress: Progress) -> None:
            with closing(sqlite3.connect(state)) as db:
                db.execute("DROP TABLE IF EXISTS message")

        report = bench.send(observe=spoil)
        bench.check()

    assert report.counts[Status.ACCEPTED] == 3
    assert report.exit_code == 0
    told = [note for note in report.notes if "other campaigns may not know" in note]
    assert len(told) == 1
