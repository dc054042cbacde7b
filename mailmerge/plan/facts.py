"""What a plan was made from, so that a later command can tell cheaply that it would make the same one.

A plan has to be found before it is known what planning will look at: only planning shows which paths those
are. So the facts come in two parts.

- `Premises` are known beforehand: the campaign's folder and name, the options that are facts, the account's
  sender where the campaign names none, and the versions of what makes messages. A plan is looked for by their
  digest (a ``--where`` that is tried does not cost the plan without it).
- What was looked at is known afterwards and is kept in the plan: every path, found or not, the list's among
  them. `Facts.changes` compares it with the current state, and describes what differs; if nothing does, the
  plan is valid. Otherwise a new one is made next to it.

Both together are the facts; their digest gives the plan its name. Rows that a program passed cannot be read
again: whoever collects the premises decides whether they are the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from mailmerge import options
from mailmerge.option_types import fields_of
from mailmerge.plan.path_log import LookedAtPaths, path_changes, told_paths
from mailmerge.plan.sqlite_store import NAME_DIGITS
from mailmerge.version import installed_versions, sources_version

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mailmerge.config.campaign_file import CampaignFile
    from mailmerge.option_types import Section

_MAKERS = {
    "mailmerge-kit": "mailmerge",
    "jinja2": "Jinja2",
    "markupsafe": "MarkupSafe",
    "babel": "Babel",
    "css-inline": "css-inline",
    "email-validator": "email-validator",
    "linkify-it-py": "linkify-it-py",
    "lxml": "lxml",
    "markdown-it-py": "markdown-it-py",
    "openpyxl": "openpyxl",
    "tinycss2": "tinycss2",
    "zstandard": "zstandard",
}
"""Distributions that influence what is read, rendered, checked and kept."""


class Premises(Struct, frozen=True):
    """What decides the plan and is known before it is made."""

    folder: str
    """The campaign's, absolute, its links resolved."""
    name: str
    """The campaign's."""
    options: dict[str, str]
    """Those that are facts and were set, by name, each as a string that is the same for the same value."""
    sender: str = ""
    """The account's, where the campaign names none."""
    rows: str = ""
    """Digest of rows that a program passed; empty: the list is a file, and among the paths."""
    versions: dict[str, str] = {}
    unsubscribe_key: str = ""
    """The id of what makes the unsubscribe tokens; empty: there are none."""

    def digest(self) -> str:
        """Return what plans are looked up by, 16 hex digits; rows of a program are compared afterwards."""
        return hashlib.sha256(_encode(replace(self, rows=""))).hexdigest()[:NAME_DIGITS]


class Facts(Struct, frozen=True):
    """Everything that decided a plan."""

    premises: Premises
    looked_at: LookedAtPaths

    def digest(self) -> str:
        """Return what identifies this plan: 64 hex digits, of which the first 16 are the plan's name."""
        return hashlib.sha256(self.encode()).hexdigest()

    def encode(self) -> bytes:
        """Return what `decode` reads."""
        return _encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Facts | None:
        """Read what `encode` returned; None: it is damaged, or another version's."""
        try:
            return msgspec.msgpack.decode(data, type=cls)
        except (msgspec.MsgspecError, ValueError):
            return None

    def told(self) -> Iterator[str]:
        """Yield them as text, one after another."""
        yield from (f"option {name} = {value}" for name, value in self.premises.options.items())
        if self.premises.sender:
            yield f"sender {self.premises.sender}"
        if self.premises.unsubscribe_key:
            yield f"unsubscribe key {self.premises.unsubscribe_key}"
        yield from told_paths(self.looked_at, self.premises.folder)
        yield ", ".join(f"{name} {version}" for name, version in self.premises.versions.items() if version)

    def changes(self, now: Premises, most: int = 20) -> list[str]:
        """Return a description of what has changed since the plan was made; empty: the plan is valid.

        Args:
            now: today's premises.
            most: how many changes are looked for.

        """
        found: list[str] = []
        for change in self._changes(now):
            found.append(change)
            if len(found) >= most:
                break
        return found

    def _changes(self, now: Premises) -> Iterator[str]:
        yield from _premise_changes(self.premises, now)
        yield from (change.text for change in path_changes(self.looked_at, self.premises.folder))

    def changed_premises(self, now: Premises, most: int) -> list[str]:
        """Return a description of what differs from today's premises, at most so many of them."""
        return list(islice(_premise_changes(self.premises, now), most))

    def changed_rows(self, now: Premises, most: int) -> frozenset[int] | None:
        """Return the numbers of the rows that would differ, if the others would be the same.

        Args:
            now: today's premises.
            most: with more rows it is not worth it.

        Returns:
            The numbers; None: any row may differ.

        """
        if next(_premise_changes(self.premises, now), None) is not None:
            return None
        found: set[int] = set()
        for change in path_changes(self.looked_at, self.premises.folder):
            if change.rows is None or len(found) > most:
                return None
            found.update(change.rows)
        return frozenset(found)


def premises(
    file: CampaignFile,
    *,
    sender: str = "",
    rows: str = "",
    key_id: str = "",
    makers: Mapping[str, str] | None = None,
) -> Premises:
    """Collect what is known before a plan is made.

    Args:
        file: the campaign.
        sender: the account's, as it would be written in From; used where the campaign names none.
        rows: digest of rows that a program passed.
        key_id: of the unsubscribe key, where messages have tokens.
        makers: versions of further distributions that influence the plan, by name.

    """
    return Premises(
        folder=os.path.realpath(file.folder),
        name=file.name,
        options=_facts_of(file),
        sender="" if file.message.from_ else sender,
        rows=rows,
        versions=_versions({**_MAKERS, **(makers or {})}),
        unsubscribe_key=key_id,
    )


def _facts_of(file: CampaignFile) -> dict[str, str]:
    """Return the options that are facts and differ from their defaults, each as a canonical text."""
    sections: tuple[tuple[str, Section], ...] = (
        ("", file),
        ("data.", file.data),
        ("message.", file.message),
        ("check.", file.check),
        *((f"attach[{index}].", rule) for index, rule in enumerate(file.attach)),
    )
    found = {}
    for prefix, section in sections:
        for key, option in options.CAMPAIGN[section.toml_section].items():
            [field] = fields_of({key: None})
            value = getattr(section, field)
            # A path that is the default where it was set may be another one here.
            said = value != option.default or isinstance(value, Path)
            if option.fact and said and prefix + key != "name":
                found[prefix + key] = _as_json(_canonical(value))
    return found


def _as_json(value: object) -> str:
    """Write a value as people read it; where a path is not Unicode, with escapes, as a database needs it."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value)
    return text


def _canonical(value: object) -> object:
    """Return an option's value as JSON can express it, the same for the same value from any source."""
    if isinstance(value, Path):
        return {"path": os.path.realpath(value)}
    if isinstance(value, dict | msgspec.Struct):
        table = msgspec.structs.asdict(value) if isinstance(value, msgspec.Struct) else value
        return [[name, _canonical(item)] for name, item in table.items()]
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple | list):
        return [_canonical(item) for item in value]
    if value is None or isinstance(value, bool | int) or value.__class__ is str:
        return value
    return {type(value).__name__: str(value)}


def _versions(makers: Mapping[str, str]) -> dict[str, str]:
    found = {"mailmerge-kit": "", **installed_versions(makers)}
    if not found["mailmerge-kit"]:
        found["mailmerge-kit"] = sources_version()
    versions = {makers[name]: version for name, version in found.items()}
    return {"Python": sys.version.partition(" ")[0], **versions}


def _premise_changes(then: Premises, now: Premises) -> Iterator[str]:
    if then.folder != now.folder:
        yield f"the campaign was in {then.folder}"
    if then.name != now.name:
        yield f"the campaign was called {then.name}"
    yield from (f"option {name} changed" for name in _differing(then.options, now.options))
    if then.sender != now.sender:
        yield "the account's sender changed"
    if then.unsubscribe_key != now.unsubscribe_key:
        yield "the unsubscribe key changed"
    if then.rows != now.rows:
        yield "the rows changed"
    for name in _differing(then.versions, now.versions):
        before, after = then.versions.get(name), now.versions.get(name)
        yield f"{name} {before} was replaced by {after}" if before and after else f"{name} changed"


def _differing(then: Mapping[str, str], now: Mapping[str, str]) -> Sequence[str]:
    names = dict.fromkeys((*then, *now))
    return [name for name in names if then.get(name) != now.get(name)]


def _encode(value: Struct) -> bytes:
    return msgspec.msgpack.encode(value, order="deterministic")
