"""Rules over the campaign as a whole, told when the last row has been seen."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from msgspec import Struct, field

from mailmerge.check.clients import PROGRAM_OF, snapshot
from mailmerge.check.message_view import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.check.message_view import Look
    from mailmerge.model import Place, Rate

BULK = 5000
"""Messages a day to one of the large providers from which their rules for bulk senders hold."""
_LARGE_PROVIDERS = {
    "gmail.desktop-webmail": "Gmail",
    "yahoo.desktop-webmail": "Yahoo",
    "aol.desktop-webmail": "Yahoo",
    "outlook.outlook-com": "Outlook.com",
}
_ENOUGH = 3
"""Fewer rows with the same unsubscribe link may belong together."""


class Construct(Struct):
    """Where the HTML uses something that not all programs support."""

    place: Place | None
    count: int = 0


class Tally(Struct):
    """What is counted while rows go by; its size does not grow with the list."""

    rows: int = 0
    programs: Counter[str] = field(default_factory=Counter)
    """Rows by the program that their address's provider offers."""
    unsubscribe: set[str] = field(default_factory=set)
    """The first two different unsubscribe headers."""
    constructs: dict[str, Construct] = field(default_factory=dict)

    def count(self, look: Look) -> None:
        """Count one row that can be sent."""
        self.rows += 1
        program = PROGRAM_OF.get(look.rendered.to[0].address.domain)
        if program:
            self.programs[program] += 1
        if len(self.unsubscribe) < 2:
            for name, value in look.rendered.headers:
                if name.lower() == "list-unsubscribe":
                    self.unsubscribe.add(value)


def same_unsubscribe_link(tally: Tally, header: str, place: Place | None) -> Iterator[Finding]:
    """Find a link that should tell rows apart and does not: one reader's click would remove another."""
    if tally.rows < _ENOUGH or len(tally.unsubscribe) != 1:
        return
    value = next(iter(tally.unsubscribe))
    if "{" in header and value:
        yield Finding(
            "M502",
            "every row has the same List-Unsubscribe, although it is made from a column",
            "each click would remove the same person: is the column filled with one value?",
            place,
        )
    elif re.search(r"<https:", value):
        yield Finding(
            "M216",
            "List-Unsubscribe has the same https address in every row: the server cannot tell who clicks",
            "put the address or a token of the row into it: https://example.org/u/{{ token }}",
            place,
        )


def bulk_rules(tally: Tally) -> Iterator[Finding]:
    """Gmail, Yahoo and Outlook.com have rules of their own for senders of many messages."""
    by_provider: Counter[str] = Counter()
    for program, count in tally.programs.items():
        if program in _LARGE_PROVIDERS:
            by_provider[_LARGE_PROVIDERS[program]] += count
    for provider, count in by_provider.items():
        if count >= BULK:
            yield Finding(
                "M220",
                f"{count:,} messages go to {provider}: its rules for bulk senders begin at {BULK:,} a day",
                "SPF, DKIM and DMARC must pass and agree with From, one click must unsubscribe, and "
                "complaints stay under 0.1 %; see `mailmerge check --dns`",
            )


def client_support(tally: Tally) -> Iterator[Finding]:
    """Say what mail programs do not support, one finding a construct, the worst first."""
    data = snapshot() if tally.constructs else None
    for slug, construct in sorted(
        tally.constructs.items(), key=lambda item: -snapshot().features[item[0]].share
    ):
        assert data is not None
        support = data.features[slug]
        own = sum(tally.programs[client] for client in support.without)
        readers = f"; {own:,} of {tally.rows:,} addresses are theirs" if own else ""
        times = f"used {construct.count} times; " if construct.count > 1 else ""
        yield Finding(
            "H214",
            f"{support.title} is not supported by {len(support.without)} of {support.tested} mail programs "
            f"({support.share:.0%}): {data.names(support.without)}{readers}",
            f"{times}tests of caniemail.com, data of {data.date}; look at the message without it",
            construct.place,
        )


def longer_than_a_day(to_send: int, quota: Rate | None) -> Iterator[Finding]:
    """Find a run that the account's quota stretches over several days."""
    if quota is None or to_send <= quota.count:
        return
    windows = -(-to_send // quota.count)
    unit = "days" if quota.seconds == 86400 else f"windows of {quota.seconds / 3600:g} h"
    yield Finding(
        "M221",
        f"{to_send:,} messages are more than the account's quota of {quota}: the run takes {windows} {unit}",
        "each run stops where the quota ends and says when to run again; nothing is lost or sent twice",
    )
