"""The table of options as documents: JSON Schema for editors, Markdown for readers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from mailmerge.option_types import REQUIRED, toml_text
from mailmerge.options import (
    CAMPAIGN,
    COMMAND_LINE,
    ENVIRONMENT_ONLY,
    EVERY_COMMAND,
    AccountOptions,
    AttachOptions,
    CheckOptions,
    DataOptions,
    MessageOptions,
    SendOptions,
    TopOptions,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mailmerge.option_types import Option, Section
    from mailmerge.options import SchemaName

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SECTIONS: Final[tuple[tuple[str, type[Section]], ...]] = (
    ("Top of campaign.toml", TopOptions),
    ("`[data]`", DataOptions),
    ("`[message]`", MessageOptions),
    ("`[[attach]]`", AttachOptions),
    ("`[send]`", SendOptions),
    ("`[check]`", CheckOptions),
    ("`[accounts.NAME]` in your config.toml", AccountOptions),
)
_FOUND_OR_MADE: Final = {
    "oneOf": [{"required": ["path"]}, {"required": ["template"]}],
    "dependentRequired": {
        **{key: ["path"] for key in ("base", "missing", "shared")},
        "password": ["template"],
    },
}
"""A rule of ``[[attach]]`` names a file, or the template for it; some keys are only for one of them."""

_LEDGER: Final = {
    "description": "A ledger in PostgreSQL, which campaigns and --ledger name.",
    "type": "object",
    "properties": {"url": {"description": "Its address: postgresql://USER@HOST/DATABASE.", "type": "string"}},
    "required": ["url"],
}
SCHEMA_FILE: Final = "campaign.schema.json"
"""The schema's file name next to a campaign.toml, whose first line names it."""


# --- JSON Schema --------------------------------------------------------------------------------------


def json_schema(name: SchemaName = "campaign") -> dict[str, Any]:
    """Return campaign.toml, or the accounts in config.toml, as JSON Schema (draft 2020-12).

    A key that the command line may set instead is not required.
    """
    if name == "accounts":
        account = _table(AccountOptions)
        return {
            "$schema": _DIALECT,
            "title": "config.toml of mailmerge",
            "type": "object",
            "properties": {
                "accounts": {"type": "object", "additionalProperties": account},
                "ledgers": {"type": "object", "additionalProperties": _LEDGER},
            },
            "additionalProperties": False,
        }
    top = _table(TopOptions)
    for section, cls in ((cls.toml_section, cls) for _, cls in _SECTIONS):
        if section == "attach":
            top["properties"][section] = {"type": "array", "items": {**_table(cls), **_FOUND_OR_MADE}}
        elif section in CAMPAIGN and section:
            top["properties"][section] = _table(cls)
    return {"$schema": _DIALECT, "title": "campaign.toml of mailmerge", **top}


def schema_text(name: SchemaName = "campaign") -> str:
    """Return the schema as it is printed, and kept in a file."""
    return json.dumps(json_schema(name), indent=2, ensure_ascii=False) + "\n"


def is_current(content: bytes) -> bool:
    """Return whether a schema file of ours is that of this version; another program's file always is.

    Its encoding and layout do not count: PowerShell writes what is redirected in UTF-16.
    """
    ours = json_schema()
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return True
    return (
        not isinstance(found, dict)
        or found.get("title") != ours["title"]
        or found == json.loads(json.dumps(ours))
    )


def _table(section: type[Section]) -> dict[str, Any]:
    return {
        "description": _sentence(_about(section)),
        "type": "object",
        "properties": {key: _property(option) for key, option in section.options.items()},
        "additionalProperties": False,
    }


def _property(option: Option) -> dict[str, Any]:
    written = option.written_default
    default = {} if written is None else {"default": written}
    return {"description": option.sentence, **option.type.schema, **default}


def _about(section: type[Section]) -> str:
    """Return what a section is about: the first sentence of its class."""
    first = (section.__doc__ or "").partition("\n")[0]
    return first.partition(": ")[2] or first


# --- Markdown -----------------------------------------------------------------------------------------


def as_markdown() -> str:
    """Return the whole table as one Markdown document."""
    lines = [
        "# Options",
        "",
        "Every setting of `mailmerge`. The command line overrides `--set`, which overrides the environment,",
        "which overrides the file. `--set section.key=value` accepts every key of campaign.toml except those",
        "of `[[attach]]`. `mailmerge COMMAND --help` lists the flags of a command, and `mailmerge schema`",
        "prints the keys as JSON Schema.",
        "",
        "This page is made by `scripts/write-options-page` from `mailmerge/options.py`.",
    ]
    for title, section in _SECTIONS:
        lines += ["", f"## {title}", "", _sentence(_about(section)), "", *_key_table(section.options)]
    lines += ["", "## On the command line only", "", *_flag_table(COMMAND_LINE)]
    lines += ["", "## In the environment only", "", *_variable_table(ENVIRONMENT_ONLY)]
    return "\n".join(lines) + "\n"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _key_table(options: Mapping[str, Option]) -> Iterator[str]:
    yield from _rows(
        ("key", "flag", "environment", "type", "default", "what it does"),
        (
            (
                _code(key),
                _code(option.flag),
                _variables(option),
                option.type.expected,
                _default(option),
                _plain(option.help),
            )
            for key, option in options.items()
        ),
    )


def _flag_table(options: Iterable[Option]) -> Iterator[str]:
    yield from _rows(
        ("flag", "commands", "environment", "default", "what it does"),
        (
            (
                _code(option.flag),
                "all" if option.commands == EVERY_COMMAND else ", ".join(option.commands),
                _variables(option),
                _default(option),
                option.help,
            )
            for option in options
        ),
    )


def _variable_table(options: Iterable[Option]) -> Iterator[str]:
    yield from _rows(
        ("environment", "default", "what it is"),
        ((_variables(option), _default(option), option.help) for option in options),
    )


def _rows(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    for row in (header, ("---",) * len(header), *rows):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _plain(text: str) -> str:
    """Escape angle brackets, which would be HTML."""
    return text.replace("<", "&lt;").replace(">", "&gt;")


def _code(text: str | None) -> str:
    return f"`{text}`" if text else ""


def _variables(option: Option) -> str:
    return ", ".join(map(_code, option.variables))


def _default(option: Option) -> str:
    if option.default is REQUIRED and not option.default_help:
        return "(required)"
    written = option.written_default
    if option.default_help or written is None or written is False:
        return option.default_help
    return _code(toml_text(written))
