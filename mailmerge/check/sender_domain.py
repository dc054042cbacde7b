"""The DNS records of the sender's domain, SPF (RFC 7208) and DMARC (RFC 9989), as receivers read them.

Receivers look up SPF for the domain of the return path, and DMARC for the domain of From; a message passes
DMARC if SPF or a DKIM signature passes for a domain that is aligned with From.
"""

from __future__ import annotations

import ipaddress
import re
from functools import cache
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from mailmerge.check.message_view import Finding
from mailmerge.check.online import NoAnswer, NoSuchName, silent, takes_no_mail
from mailmerge.text import near, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mailmerge.check.online import Lookup

MOST_LOOKUPS = 10
"""How many look-ups an SPF record may need after the first (RFC 7208 section 4.6.4)."""
MOST_VOID = 2
"""How many of them may find nothing (the same section)."""
MOST_LABELS = 8
"""For a longer name, the tree walk skips labels (RFC 9989 section 4.10)."""

_MECHANISM = re.compile(
    r"([+?~-]?)(all|include|a|mx|ptr|ip4|ip6|exists)(?::(.*?))?(/\d{1,3}(?://\d{1,3})?)?\Z", re.IGNORECASE
)
_MODIFIER = re.compile(r"([a-z][a-z0-9_.-]*)=(.*)\Z", re.IGNORECASE)
_VERSION = re.compile(r"v[ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
_TAG = re.compile(r"\s*([A-Za-z]+)\s*=\s*(.*?)\s*\Z", re.DOTALL)
_REPORTS_TO = re.compile(
    r"mailto:[^\s@,!]+@([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)(?:!\d+[kmgt]?)?\Z", re.IGNORECASE
)
_POLICIES: Final = ("none", "quarantine", "reject")
_VALUES: Final[Mapping[str, tuple[str, ...]]] = {
    "p": _POLICIES,
    "sp": _POLICIES,
    "np": _POLICIES,
    "adkim": ("r", "s"),
    "aspf": ("r", "s"),
    "t": ("y", "n"),
    "psd": ("y", "n", "u"),
    "fo": ("0", "1", "d", "s", "d:s", "s:d"),
}
"""The tags with a fixed set of values (RFC 9989 section 4.8); values are compared without case."""
_KNOWN: Final = (*_VALUES, "v", "rua", "ruf")
_MOST_TAGS: Final = 50
_REMOVED: Final = ("pct", "rf", "ri")
"""Tags of RFC 7489 that receivers have to ignore (RFC 9989 appendix C)."""
_CASES = {"r": "relaxed", "s": "strict"}


def sender_domain(
    domain: str, lookup: Lookup, *, return_path: str | None = None, signers: Sequence[str] = ()
) -> Iterator[Finding]:
    """Check the records that specify who may send for *domain*, and whether it accepts replies.

    Args:
        domain: the domain of From, in A-labels.
        lookup: queries the DNS.
        return_path: the domain of the return path; None: From's domain, or one of the provider's own.
        signers: the domains that messages are signed for with DKIM (``d=``), as far as they are known.

    """
    lookup = cache(lookup)
    try:
        yield from _spf(return_path or domain, lookup)
        yield from _dmarc(domain, lookup, return_path, signers)
        yield from _takes_answers(domain, lookup)
    except NoAnswer:
        yield silent(domain)


def _texts(name: str, lookup: Lookup) -> list[str]:
    try:
        return lookup(name, "TXT")
    except NoSuchName:
        return []


def _takes_answers(domain: str, lookup: Lookup) -> Iterator[Finding]:
    reason = takes_no_mail(domain, lookup)
    if reason:
        hint = "replies and bounces are lost, and many servers reject such senders"
        yield Finding("N205", f"the sender's domain {domain} does not accept mail: {reason}", hint)


# --- SPF ------------------------------------------------------------------------------------------------


class _SpfError(Exception):
    """The record has an error that makes servers give up (RFC 7208 section 2.6.7)."""


class _SpfWalk(Struct):
    """The look-ups that a record and the records that it includes need."""

    lookup: Lookup
    needed: int = 0
    void: int = 0

    def read(self, domain: str, record: str) -> None:
        """Count the look-ups that *record* needs; stop soon after the limit.

        Raises:
            _SpfError: a term of it, or of a record that it includes, is not valid.

        """
        terms = record.split()[1:]
        has_all = any(term.lower().lstrip("+-~?") == "all" for term in terms)
        for term in terms:
            if self.needed > MOST_LOOKUPS:
                return
            if modifier := _MODIFIER.match(term):
                if modifier[1].lower() == "redirect" and not has_all:
                    self._include(domain, term, modifier[2])
                continue
            self._mechanism(domain, term)
            if term.lower().lstrip("+-~?") == "all":
                return

    def _mechanism(self, domain: str, term: str) -> None:
        match = _MECHANISM.match(term)
        if match is None:
            raise _SpfError(f"{quoted(term)} of {domain} is not a valid term")
        name, value = match[2].lower(), match[3] or ""
        if name in {"ip4", "ip6"}:
            _check_network(domain, term, int(name[2]))
        elif name in {"include", "exists"} and not value:
            raise _SpfError(f"{quoted(term)} of {domain} names no domain")
        elif name == "include":
            self._include(domain, term, value)
        elif name != "all":
            self.needed += 1
            target = value or domain
            if name in {"a", "mx", "exists"} and "%" not in target and not self._found(name, target):
                self.void += 1

    def _found(self, name: str, target: str) -> bool:
        try:
            if name == "mx":
                return bool(self.lookup(target, "MX"))
            return bool(self.lookup(target, "A") or self.lookup(target, "AAAA"))
        except NoSuchName:
            return False

    def _include(self, domain: str, term: str, target: str) -> None:
        self.needed += 1
        if self.needed > MOST_LOOKUPS or "%" in target:
            return
        records = _spf_records(target, self.lookup)
        if len(records) != 1:
            number = "no SPF record" if not records else f"{len(records)} SPF records"
            raise _SpfError(f"{quoted(term)} of {domain} refers to {number}")
        self.read(target, records[0])


def _check_network(domain: str, term: str, version: int) -> None:
    text = term.partition(":")[2]
    try:
        valid = ipaddress.ip_network(text, strict=False).version == version
    except ValueError:
        valid = False
    if not valid:
        raise _SpfError(f"{quoted(term)} of {domain} is not an IPv{version} address or network")


def _spf_records(name: str, lookup: Lookup) -> list[str]:
    return [text for text in _texts(name, lookup) if text.lower().partition(" ")[0] == "v=spf1"]


def _spf(domain: str, lookup: Lookup) -> Iterator[Finding]:
    records = _spf_records(domain, lookup)
    if not records:
        hint = "your provider documents the TXT record; Gmail and Yahoo require SPF or DKIM, Microsoft both"
        yield Finding("N201", f"{domain} has no SPF record", hint)
        return
    if len(records) > 1:
        hint = "RFC 7208 makes that an error, and none of them is used: merge them into one"
        yield Finding("N202", f"{domain} has {len(records)} SPF records", hint)
        return
    walk = _SpfWalk(lookup)
    try:
        walk.read(domain, records[0])
    except _SpfError as error:
        hint = "servers treat that as an error, and ignore the whole record: correct it"
        yield Finding("N222", f"the SPF record of {domain} has an error: {error}", hint)
        return
    if walk.needed > MOST_LOOKUPS:
        hint = "servers stop there and treat it as an error: remove includes that you no longer need"
        yield Finding("N203", f"the SPF record of {domain} needs more than {MOST_LOOKUPS} look-ups", hint)
    elif walk.void > MOST_VOID:
        hint = "servers stop there and treat it as an error: remove names that do not exist any more"
        yield Finding("N222", f"the SPF record of {domain} names {walk.void} hosts that do not exist", hint)
    if any(term.lower() in {"all", "+all"} for term in records[0].split()):
        hint = "write ~all or -all: receivers distrust such a record, and forgers use it"
        yield Finding("N223", f"the SPF record of {domain} allows everybody to send for it (+all)", hint)


# --- DMARC ----------------------------------------------------------------------------------------------


class DmarcRecord(Struct, frozen=True):
    """One DMARC record: the domain where it was found, and its tags, in lower case, with their values."""

    domain: str
    tags: Mapping[str, str]
    mistakes: tuple[str, ...] = ()
    """Mistakes that receivers ignore."""

    def valid(self, tag: str, default: str = "") -> str:
        """Return the value of a tag in lower case; *default* if it is missing or not valid."""
        value = self.tags.get(tag, "").lower()
        return value if value in _VALUES[tag] else default

    @property
    def reports_to(self) -> tuple[str, ...]:
        """Return the domains that reports should go to; empty: there are none, or no address is valid."""
        addresses = (_REPORTS_TO.match(item.strip()) for item in self.tags.get("rua", "").split(","))
        return tuple(match[1].lower() for match in addresses if match)


class Dmarc(Struct, frozen=True):
    """What receivers find for a domain: its organisational domain, and the record that applies."""

    organisation: str
    record: DmarcRecord | None = None
    findings: tuple[Finding, ...] = ()
    """Findings about records that were not used on the way."""


def parse_dmarc(domain: str, text: str) -> DmarcRecord | None:
    """Parse a record; None: it does not begin with ``v=DMARC1``, so it is not one (RFC 9989 section 4.8)."""
    if not _VERSION.match(text):
        return None
    tags: dict[str, str] = {}
    mistakes = []
    for item in text.split(";")[:_MOST_TAGS]:
        match = _TAG.match(item)
        if match is None:
            if item.strip():
                mistakes.append(f"{quoted(item.strip())} is not a tag with a value")
            continue
        name, value = match[1].lower(), match[2]
        if name in tags:
            mistakes.append(f"{name} appears twice")
        tags.setdefault(name, value)
        if name in _REMOVED or name in {"p", "sp", "np"}:
            continue  # these have findings of their own
        if name not in _KNOWN:
            meant = near(name, _KNOWN)
            mistakes.append(f"{name} is not a tag" + (f" (did you mean {meant[0]}?)" if meant else ""))
        elif name in _VALUES and value.lower() not in _VALUES[name]:
            mistakes.append(f"{name}={value} is not a valid value")
    record = DmarcRecord(domain, tags, tuple(mistakes))
    if tags.get("rua") and not record.reports_to:
        return DmarcRecord(domain, tags, (*mistakes, f"rua={tags['rua']} is not an address with mailto:"))
    return record


def walk_up(domain: str) -> Iterator[str]:
    """Yield the domains that receivers look up, *domain* itself first (RFC 9989 section 4.10)."""
    labels = domain.split(".")
    yield domain
    rest = labels[1:] if len(labels) <= MOST_LABELS else labels[1 - MOST_LABELS :]
    for start in range(len(rest)):
        yield ".".join(rest[start:])


def find_dmarc(domain: str, lookup: Lookup) -> Dmarc:
    """Find the organisational domain and the record that applies (RFC 9989 sections 4.10.1 and 4.10.2).

    Raises:
        NoAnswer: the DNS did not answer.

    """
    found: list[DmarcRecord] = []
    findings: list[Finding] = []
    for name in walk_up(domain):
        texts = _texts(f"_dmarc.{name}", lookup)
        records = [record for text in texts if (record := parse_dmarc(name, text)) is not None]
        if len(records) > 1:
            hint = "receivers discard all of them (RFC 9989): keep one"
            findings.append(Finding("N213", f"there are {len(records)} DMARC records at _dmarc.{name}", hint))
        elif not records:
            findings += _almost(name, texts)
        else:
            found += records
            if records[0].valid("psd") in {"y", "n"}:
                break
    organisation = _organisation(domain, found)
    applies = [record for record in found if record.domain == domain]
    applies += [record for record in found if record.domain == organisation]
    applies += [record for record in found if record.valid("psd") == "y"]
    return Dmarc(organisation, applies[0] if applies else None, tuple(findings))


def _almost(name: str, texts: Sequence[str]) -> Iterator[Finding]:
    """Find a TXT record that was meant as a DMARC record but is not a valid one."""
    for text in texts:
        if "dmarc1" in text.lower():
            hint = 'it must begin with exactly "v=DMARC1;": receivers ignore any other text'
            yield Finding("N220", f"the text at _dmarc.{name} is not a DMARC record: {quoted(text)}", hint)


def _organisation(domain: str, found: Sequence[DmarcRecord]) -> str:
    """Choose among the domains with a record, from the longest to the shortest (RFC 9989 section 4.10.2)."""
    for record in found:
        if record.valid("psd") == "n":
            return record.domain
        if record.valid("psd") == "y":
            labels = domain.split(".")
            return ".".join(labels[-(record.domain.count(".") + 2) :])
    return found[-1].domain if found else domain


def aligned(domain: str, other: str, mode: str, lookup: Lookup) -> bool:
    """Return whether *other* is aligned with *domain*: the same (``s``), or of the same organisation (``r``).

    Raises:
        NoAnswer: the DNS did not answer.

    """
    if domain == other:
        return True
    if mode == "s":
        return False
    return find_dmarc(domain, lookup).organisation == find_dmarc(other, lookup).organisation


def _dmarc(domain: str, lookup: Lookup, return_path: str | None, signers: Sequence[str]) -> Iterator[Finding]:
    found = find_dmarc(domain, lookup)
    yield from found.findings
    record = found.record
    if record is None:
        if not found.findings:
            hint = 'start with the TXT record "v=DMARC1; p=none; rua=mailto:..." and read the reports'
            yield Finding("N204", f"{domain} has no DMARC record (_dmarc.{domain})", hint)
        return
    yield from _policy(domain, record, lookup)
    if record.mistakes:
        hint = "receivers ignore what they do not understand: correct the record"
        mistakes = "; ".join(record.mistakes)
        yield Finding("N217", f"the DMARC record of {record.domain} has mistakes: {mistakes}", hint)
    yield from _reports(record, lookup)
    if _counts(record):
        yield from _alignment(domain, record, lookup, return_path, signers)


def _counts(record: DmarcRecord) -> bool:
    """Return whether receivers apply DMARC with this record at all (RFC 9989 section 4.10.1)."""
    policies = [tag for tag in ("p", "sp", "np") if tag in record.tags or tag == "p"]
    return all(record.valid(tag) for tag in policies) or bool(record.reports_to)


def _policy(domain: str, record: DmarcRecord, lookup: Lookup) -> Iterator[Finding]:
    for tag in ("p", "sp", "np"):
        if record.valid(tag) or (tag != "p" and tag not in record.tags):
            continue
        what = (
            f"{tag}={record.tags[tag]}, which is not a valid policy"
            if tag in record.tags
            else "no policy (p)"
        )
        effect = "counts as p=none" if record.reports_to else "is not used at all"
        hint = f"write {tag}=none, {tag}=quarantine or {tag}=reject; Gmail rejects bulk mail without a policy"
        yield Finding("N214", f"the DMARC record of {record.domain} has {what}: it {effect}", hint)
        return
    removed = [f"{tag}={record.tags[tag]}" for tag in _REMOVED if tag in record.tags]
    if removed:
        hint = "remove them"
        if record.tags.get("pct", "100") != "100":
            hint = "remove them: the policy is applied to all messages; t=y asks for one level less"
        tags = ", ".join(removed)
        yield Finding("N215", f"the DMARC record of {record.domain} has tags without effect: {tags}", hint)
    policy = policy_for(domain, record, lookup)
    if record.valid("t") == "y" and policy != "none":
        lower = _POLICIES[_POLICIES.index(policy) - 1]
        hint = "remove t=y when the reports show that your own mail passes"
        yield Finding(
            "N216",
            f"the DMARC record of {record.domain} is being tested (t=y): {policy} counts as {lower}",
            hint,
        )


def policy_for(domain: str, record: DmarcRecord, lookup: Lookup) -> str:
    """Return what *record* asks receivers to do with mail from *domain* that fails; ``t`` is ignored.

    A record of a parent domain applies with its ``sp``, or with ``np`` if *domain* does not exist.

    Raises:
        NoAnswer: the DNS did not answer.

    """
    policy = record.valid("p", "none")
    if record.domain == domain:
        return policy
    policy = record.valid("sp", policy)
    return record.valid("np", policy) if record.valid("np") and not _exists(domain, lookup) else policy


def _exists(domain: str, lookup: Lookup) -> bool:
    try:
        return any(lookup(domain, kind) for kind in ("MX", "A", "AAAA"))
    except NoSuchName:
        return False


def _reports(record: DmarcRecord, lookup: Lookup) -> Iterator[Finding]:
    """Find reports that are not sent: another organisation must agree to get them (RFC 9990 section 4)."""
    for other in dict.fromkeys(record.reports_to):
        if aligned(record.domain, other, "r", lookup):
            continue
        name = f"{record.domain}._report._dmarc.{other}"
        if not any(_VERSION.match(text) for text in _texts(name, lookup)):
            hint = f'whoever receives them must publish the TXT record "v=DMARC1" at {name}'
            yield Finding("N219", f"DMARC reports about {record.domain} are not sent to {other}", hint)


def _alignment(
    domain: str, record: DmarcRecord, lookup: Lookup, return_path: str | None, signers: Sequence[str]
) -> Iterator[Finding]:
    """Find a return path and signatures that cannot make DMARC pass, even if SPF and DKIM pass."""
    spf, dkim = record.valid("aspf", "r"), record.valid("adkim", "r")
    if return_path is None or aligned(domain, return_path, spf, lookup):
        return
    if any(aligned(domain, signer, dkim, lookup) for signer in signers):
        return
    what = f"the return path at {return_path} is not aligned with From at {domain} ({_CASES[spf]} SPF)"
    if signers:
        what += f", and neither is the DKIM signature of {', '.join(signers)} ({_CASES[dkim]})"
        hint = f"DMARC fails: sign for {domain} (d=), or set return_path to an address there"
    else:
        hint = f"SPF alone does not make DMARC pass: a DKIM signature of {domain} (d=) has to"
    yield Finding("N218", what, hint)
