"""Where mailbox providers have their users' addresses: a quick look into ``providers.toml``."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping

_FACT = re.compile(r"^(domains|mail_program|free_mail) = (.+)$", re.MULTILINE)


class MailDomain(Struct, frozen=True):
    """What is known of a domain where a provider has its users' mailboxes."""

    mail_program: str | None = None
    """The program that it offers them, as caniemail.com calls it."""
    free_mail: bool = True
    """Anybody gets a mailbox there without paying."""


@cache
def provider_data() -> str:
    """Give the text of ``providers.toml``."""
    return Path(__file__).with_name("providers.toml").read_text(encoding="utf-8")


@cache
def mail_domains() -> Mapping[str, MailDomain]:
    """Give every domain of a provider's mailboxes, whether the provider is a preset or not.

    It is wanted in the middle of a run, where parsing the whole file would cost more than all else: hence
    each of these facts is on a line of its own, where TOML and JSON agree.
    """
    import json

    found: dict[str, MailDomain] = {}
    for table in provider_data().split("\n["):
        facts = {name: json.loads(value) for name, value in _FACT.findall(table)}
        domains = facts.pop("domains", ())
        found.update(dict.fromkeys(domains, MailDomain(**facts)))
    return found
