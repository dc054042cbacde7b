"""What a report means: the address is bad, the failure is temporary, or it is about us.

The rules for replies decide (`mailmerge.smtp.replies`), because a bounce quotes the reply of a server. Before
them come phrases that submission servers do not use but recipients' servers write in reports, in many
languages; after them, the meaning of the enhanced status code alone (RFC 3463).

A recipient who is suppressed for a wrong reason is lost, so ``hard`` needs words or a code about the
recipient.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mailmerge.model import Phase, Reply, Status
from mailmerge.smtp.replies import classify

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mailmerge.smtp.replies import Enhanced

HARD, SOFT, POLICY, QUOTA, UNCLEAR = "hard", "soft", "policy", "quota", "unclear"


class Verdict(NamedTuple):
    """What a failure means."""

    sort: str
    reason: str


def _pattern(phrases: Iterable[str]) -> re.Pattern[str]:
    """Match any of the phrases; one that begins with a Latin letter does so at the beginning of a word."""

    def whole(phrase: str) -> str:
        latin = phrase[0].isascii() and phrase[0].isalnum()
        return f"{'(?<![a-z0-9])' if latin else ''}{re.escape(phrase)}"

    return re.compile("|".join(map(whole, sorted(phrases, key=len, reverse=True))))


_DECIDING = {
    "about_us": Verdict(POLICY, "sender"),
    "own_quota": Verdict(QUOTA, "quota"),
    "full": Verdict(SOFT, "full"),
    "disabled": Verdict(HARD, "disabled"),
    "restricted": Verdict(POLICY, "restricted"),
    "no_such_recipient": Verdict(HARD, "recipient"),
    "no_such_host": Verdict(HARD, "host"),
}
"""Words that decide regardless of the codes, in this order."""


class _ReasonPhrases(NamedTuple):
    """The phrases that are searched for in the text of a report."""

    deciding: tuple[tuple[re.Pattern[str], Verdict], ...]
    unwanted: re.Pattern[str]
    later: re.Pattern[str]


@cache
def _words() -> _ReasonPhrases:
    """Return the phrases in ``reasons.toml``."""
    import tomllib

    lists = tomllib.loads(Path(__file__).with_name("reasons.toml").read_text("utf-8"))
    return _ReasonPhrases(
        tuple((_pattern(lists[name]), verdict) for name, verdict in _DECIDING.items()),
        _pattern(lists["unwanted"]),
        _pattern(lists["later"]),
    )


_BY_REASON = {
    "recipient": HARD,
    "quota": QUOTA,
    **dict.fromkeys(("full", "greylist", "recipient_rate", "recipients", "server", "storage"), SOFT),
    **dict.fromkeys(("connection_cap", "connections", "errors", "auth_later", "rate"), SOFT),
    **dict.fromkeys(("content", "size", "domain", "blocklist", "blocked", "sender", "relay"), POLICY),
    **dict.fromkeys(("client", "helo", "auth", "sender_check"), POLICY),
}
"""What the reasons of the reply rules mean in a report."""
_VAGUE = frozenset({"refused", "protocol", "server"})
_BY_DETAIL: dict[tuple[int, int], Verdict] = {
    (1, 0): Verdict(HARD, "recipient"),
    (1, 1): Verdict(HARD, "recipient"),
    (1, 2): Verdict(HARD, "host"),
    (1, 3): Verdict(HARD, "recipient"),
    (1, 4): Verdict(HARD, "recipient"),
    (1, 6): Verdict(HARD, "recipient"),
    (1, 7): Verdict(POLICY, "sender"),
    (1, 8): Verdict(POLICY, "sender"),
    (1, 9): Verdict(POLICY, "relay"),
    (1, 10): Verdict(HARD, "host"),
    (2, 1): Verdict(HARD, "disabled"),
    (2, 2): Verdict(SOFT, "full"),
    (2, 3): Verdict(POLICY, "size"),
    (3, 4): Verdict(POLICY, "size"),
    (4, 4): Verdict(HARD, "host"),
    (4, 6): Verdict(POLICY, "loop"),
}
_BY_SUBJECT = {
    2: Verdict(UNCLEAR, "mailbox"),
    3: Verdict(SOFT, "server"),
    4: Verdict(SOFT, "network"),
    6: Verdict(POLICY, "content"),
    7: Verdict(POLICY, "policy"),
}
"""The meaning of the second number of an enhanced code (RFC 3463 section 3)."""


def judge(code: int | None, enhanced: Enhanced | None, said: str) -> Verdict:
    """Return what a failure means.

    Args:
        code: the reply's code, if one was quoted.
        enhanced: the enhanced status code, of the reply or of the report.
        said: the text, of any length.

    Returns:
        Its sort (``hard``, ``soft``, ``policy``, ``quota`` or ``unclear``), and a word for the reason.

    """
    text = " ".join(said[:8000].casefold().replace("’", "'").split())
    temporary = code // 100 == 4 if code else bool(enhanced and enhanced[0] == 4)
    for pattern, verdict in _words().deciding:
        if pattern.search(text) is not None:
            # "Try again" and "host not found" together mean that a name server has a problem; NXDOMAIN is
            # definite.
            unsure = temporary and verdict.reason != "recipient" and "nxdomain" not in text
            if verdict.sort == HARD and unsure:
                return Verdict(SOFT, verdict.reason)
            return verdict
    if (known := _by_rules(code, enhanced, text)) is not None:
        return known
    if not temporary and _words().unwanted.search(text) is not None:
        return Verdict(POLICY, "policy")
    if _words().later.search(text) is not None:
        return Verdict(SOFT, "later")
    return _by_codes(code, enhanced, temporary=temporary)


def says_enough(enhanced: Enhanced | None) -> bool:
    """Return whether an enhanced code alone shows what happened: 5.1.1 does, 5.0.0 and 5.1.0 do not."""
    return enhanced is not None and enhanced[2] != 0 and enhanced[1:] in _BY_DETAIL


def _by_rules(code: int | None, enhanced: Enhanced | None, text: str) -> Verdict | None:
    """Return what the rules for replies decide; None: no rule matches."""
    if code is None and enhanced is None:
        return None
    if code is None or code // 100 not in {4, 5}:
        code = 450 if enhanced and enhanced[0] == 4 else 550
    fits = enhanced if enhanced and enhanced[0] == code // 100 else None
    reply = Reply(code, (text,), fits)
    for phase in (Phase.CONTENT, Phase.RCPT):
        outcome = classify(reply, phase)
        if outcome.reason not in _VAGUE and outcome.reason in _BY_REASON:
            sort = _BY_REASON[outcome.reason]
            if sort == HARD and outcome.status is not Status.REJECTED:
                sort = SOFT
            return Verdict(sort, outcome.reason)
    return None


def _by_codes(code: int | None, enhanced: Enhanced | None, *, temporary: bool) -> Verdict:
    if enhanced is not None:
        verdict = _BY_DETAIL.get(enhanced[1:]) or _BY_SUBJECT.get(enhanced[1])
        if verdict is not None:
            return Verdict(SOFT, verdict.reason) if temporary else verdict
    if temporary:
        return Verdict(SOFT, "later")
    return Verdict(SOFT, "full") if code == 552 else Verdict(UNCLEAR, "refused")
