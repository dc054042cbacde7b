"""Rules that others make, as dated data: standards, what receivers ask and refuse, laws (``rulebook.toml``).

They age, which is why each has its source and the day on which it was last compared with it. This is not
legal advice: the facts are named where they concern a message.
"""

from __future__ import annotations

import tomllib
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from msgspec import Struct, convert

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RuleKind = Literal["standard", "bulk", "refusal", "law"]

OLD_AFTER: Final = timedelta(days=180)
"""A rule that was checked longer ago may have changed."""


class Rule(Struct, frozen=True, forbid_unknown_fields=True):
    """One rule of somebody else's."""

    name: str
    kind: RuleKind
    title: str
    says: str
    source: str
    """The page of whoever made it."""
    checked: date
    """When it was last compared with its source."""
    hint: str = ""
    programs: tuple[str, ...] = ()
    """Of a receiver's rule: the mail programs of the addresses it is about."""
    at_least: int = 0
    """Messages per day from which it applies."""
    codes: tuple[str, ...] = ()
    """Of a refusal: the enhanced codes without their class, such as ``7.26``."""
    words: tuple[str, ...] = ()
    """Of a refusal: what its text contains, any of them; empty: the code is enough."""


@cache
def rulebook() -> Mapping[str, Rule]:
    """Return all rules by their names, in the order of the file."""
    return _rules(_text())


@cache
def rules_of(kind: RuleKind) -> tuple[Rule, ...]:
    """Return the rules of one kind; the others are not read, because a run needs its refusals quickly."""
    blocks = _text().split("\n[")
    return tuple(_rules("".join(f"\n[{block}" for block in blocks if f'\nkind = "{kind}"' in block)).values())


@cache
def _text() -> str:
    return Path(__file__).with_name("rulebook.toml").read_text(encoding="utf-8")


def _rules(text: str) -> Mapping[str, Rule]:
    return {name: convert({"name": name, **table}, Rule) for name, table in tomllib.loads(text).items()}


def old(checked: Iterable[date], today: date) -> list[date]:
    """Return the days on which something was checked that may have changed since, the oldest first."""
    return sorted(day for day in checked if today - day > OLD_AFTER)
