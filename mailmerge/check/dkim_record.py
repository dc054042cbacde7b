"""The published record of a signing key (RFC 6376 section 3.6.1), compared with the key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailmerge.check.message_view import Finding
from mailmerge.check.online import NoAnswer, NoSuchName, silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.check.online import Lookup


def key_record(name: str, wanted: str, lookup: Lookup) -> Iterator[Finding]:
    """Yield the differences between the published record of a key and what it has to be (M240, M241, M242).

    Args:
        name: the record's name: ``SELECTOR._domainkey.DOMAIN``.
        wanted: the record as `public_record` returns it.
        lookup: queries the DNS.

    """
    hint = f"publish this TXT record for {name}: {wanted}"
    try:
        records = [text for text in lookup(name, "TXT") if "p=" in text]
    except NoSuchName:
        records = []
    except NoAnswer:
        yield silent(name)
        return
    if not records:
        yield Finding("M240", f"the key that signs is not published: {name} has no record", hint)
    elif len(records) > 1:
        yield Finding("M241", f"{name} has {len(records)} records: receivers may use any of them", hint)
    elif (wrong := _difference(_tags(records[0]), _tags(wanted))) is not None:
        yield Finding("M241", f"the record of {name} does not match the key that signs: {wrong}", hint)
    elif "y" in _tags(records[0]).get("t", "").split(":"):
        yield Finding(
            "M242",
            f"the record of {name} has t=y: the domain is only testing DKIM",
            "remove t=y when signatures are accepted",
        )


def _tags(record: str) -> dict[str, str]:
    """Return the tags of a record; white space is ignored, as a key may have been pasted in several lines."""
    pairs = (part.partition("=") for part in record.split(";"))
    return {name.strip().lower(): "".join(value.split()) for name, _, value in pairs if name.strip()}


def _difference(found: dict[str, str], wanted: dict[str, str]) -> str | None:
    """Return why receivers could not verify signatures with the record that was found; None: they can."""
    kind, allowed = found.get("k", "rsa").lower(), found.get("h", "sha256").lower().split(":")
    reasons = (
        (found.get("v", "DKIM1") != "DKIM1", f"v={found.get('v')} is not DKIM1"),
        (not found.get("p"), "p= is empty: the key was revoked"),
        (kind != wanted["k"], f"it is for {kind} keys (k=), but the key is {wanted['k']}"),
        (found.get("p") != wanted["p"], "it has a different key (p=)"),
        ("sha256" not in allowed, f"it does not allow sha256 (h={found.get('h')})"),
        (not {"*", "email"} & set(found.get("s", "*").lower().split(":")), "it is not for mail (s=)"),
    )
    return next((reason for is_so, reason in reasons if is_so), None)
