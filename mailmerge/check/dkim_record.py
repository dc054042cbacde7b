"""What the DNS says about a key that signs: the record of RFC 6376 section 3.6.1, compared with ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailmerge.check.message_view import Finding
from mailmerge.check.online import NoAnswer, NoSuchName, silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.check.online import Lookup


def key_record(name: str, wanted: str, lookup: Lookup) -> Iterator[Finding]:
    """Compare the record of a key with what it has to be.

    Args:
        name: of the record: ``SELECTOR._domainkey.DOMAIN``.
        wanted: what it has to be, as `public_record` gives it.
        lookup: asks the DNS.

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
        yield Finding("M241", f"{name} has {len(records)} records: receivers take any of them", hint)
    elif (wrong := _difference(_tags(records[0]), _tags(wanted))) is not None:
        yield Finding("M241", f"the record of {name} does not fit the key that signs: {wrong}", hint)
    elif "y" in _tags(records[0]).get("t", "").split(":"):
        yield Finding(
            "M242",
            f"the record of {name} says t=y: the domain only tests DKIM",
            "remove t=y when signatures are accepted",
        )


def _tags(record: str) -> dict[str, str]:
    """Read a record; blanks do not count, as in a key that was pasted in several lines."""
    pairs = (part.partition("=") for part in record.split(";"))
    return {name.strip().lower(): "".join(value.split()) for name, _, value in pairs if name.strip()}


def _difference(found: dict[str, str], wanted: dict[str, str]) -> str | None:
    """Say why receivers could not verify with the record that was found."""
    kind, allowed = found.get("k", "rsa").lower(), found.get("h", "sha256").lower().split(":")
    reasons = (
        (found.get("v", "DKIM1") != "DKIM1", f"v={found.get('v')} is not DKIM1"),
        (not found.get("p"), "p= is empty: the key was revoked"),
        (kind != wanted["k"], f"it is for {kind} keys (k=), and the key is {wanted['k']}"),
        (found.get("p") != wanted["p"], "it is another key (p=)"),
        ("sha256" not in allowed, f"it does not allow sha256 (h={found.get('h')})"),
        (not {"*", "email"} & set(found.get("s", "*").lower().split(":")), "it is not for mail (s=)"),
    )
    return next((reason for is_so, reason in reasons if is_so), None)
