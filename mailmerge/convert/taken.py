"""The result of a conversion: the sections of a campaign file, the files next to it, and remarks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct, field

from mailmerge.convert.header_block import TAG
from mailmerge.text import toml_key, toml_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mailmerge.model import Place

_SIGNS: Final = re.compile(r"[*?\[]")
_SECTIONS: Final = ("data", "message", "send", "check")


class Server(Struct):
    """The server that a folder specifies, by keys of an account; it never contains a secret."""

    values: dict[str, Any]
    origin: str
    """The file that specifies it."""


class TakenOver(Struct):
    """A campaign of another program, in our terms."""

    folder: Path
    """The folder to which its paths are relative."""
    origin: Path
    """Its main file."""
    tables: dict[str, Any] = field(default_factory=dict)
    """Its sections as in campaign.toml; a body is a string there, not a file."""
    places: dict[str, Place] = field(default_factory=dict)
    """The place of each value, by its name here."""
    bodies: dict[str, str] = field(default_factory=dict)
    """The file that each body becomes, by its key in ``[message]``."""
    server: Server | None = None
    changed: list[str] = field(default_factory=list)
    """What is expressed differently now, a sentence each."""
    left: list[str] = field(default_factory=list)
    """What was not converted, each with its reason."""


def attachment_rule(value: str, defines: str = "") -> dict[str, Any]:
    """Return the rule for the path of an attachment: its fixed beginning may lead outside, a value may not.

    Args:
        value: a template of a path, relative to the campaign's folder or the user's home, or absolute.
        defines: statements that the path requires before it.

    """
    tag = TAG.search(value)
    fixed = value[: tag.start()] if tag else value
    folder, slash, _ = fixed.rpartition("/")
    outside = bool(slash) and (folder[:1] in {"", "/", "~"} or ":" in folder or ".." in folder.split("/"))
    path = value[len(folder) + 1 :] if outside else value
    rule: dict[str, Any] = {"path": f"{defines}{_literal(path)}"}
    if outside:
        rule["base"] = folder or "/"
    if tag:
        rule["shared"] = True
    return rule


def _literal(path: str) -> str:
    """Escape the characters of globs in a path, except in its tags."""
    pieces, at = [], 0
    for tag in TAG.finditer(path):
        pieces += [_SIGNS.sub(lambda sign: f"[{sign[0]}]", path[at : tag.start()]), tag[0]]
        at = tag.end()
    return "".join((*pieces, _SIGNS.sub(lambda sign: f"[{sign[0]}]", path[at:])))


def campaign_toml(tables: Mapping[str, Any], comments: Mapping[str, str] | None = None) -> str:
    """Return the text of a campaign file.

    Args:
        tables: the sections as tomllib would return them.
        comments: the comment after a key, by its name (``data.where``).

    """
    return "".join(_lines(tables, comments or {}))


def _lines(tables: Mapping[str, Any], comments: Mapping[str, str]) -> Iterator[str]:
    for key, value in tables.items():
        if key not in _SECTIONS and key != "attach":
            yield _line(key, value, comments.get(key))
    for section in _SECTIONS[:2]:
        yield from _section(section, tables, comments)
    for rule in tables.get("attach", ()):
        yield "\n[[attach]]\n"
        yield from (_line(key, value, None) for key, value in rule.items())
    for section in _SECTIONS[2:]:
        yield from _section(section, tables, comments)


def _section(section: str, tables: Mapping[str, Any], comments: Mapping[str, str]) -> Iterator[str]:
    if tables.get(section):
        yield f"\n[{section}]\n"
        for key, value in tables[section].items():
            yield _line(key, value, comments.get(f"{section}.{key}"))


def _line(key: str, value: object, comment: str | None) -> str:
    return f"{toml_key(key)} = {toml_value(value)}{f'    # {comment}' if comment else ''}\n"
