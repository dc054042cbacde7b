"""Domains that refuse mail from this sender as such: their other rows are left for a better day."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.model import Outcome
    from mailmerge.sending.runs import Work


class DomainBlocks:
    """What one run has learnt about the domains it writes to."""

    def __init__(self) -> None:
        self._left: dict[str, int] = {}

    def learn(self, work: Work, outcome: Outcome) -> None:
        """Take note of an outcome: a refusal by policy is meant for the whole domain."""
        if outcome.reason == "domain":
            refused = {address.domain.lower() for address, _ in outcome.refused} or work.domains
            for domain in refused:
                self._left.setdefault(domain, 0)

    def closed(self, work: Work) -> bool:
        """Tell whether *work* would meet the same refusal; it is counted as left, then."""
        domain = next((domain for domain in work.domains if domain in self._left), None)
        if domain is not None:
            self._left[domain] += 1
        return domain is not None

    def notes(self) -> Iterator[str]:
        """Yield a sentence about each domain whose rows were left."""
        for domain, rows in self._left.items():
            if rows:
                left = f"{rows:,} more row{'' if rows == 1 else 's'}"
                yield f"{domain} refuses mail from this sender: {left} for it were left as they are"
