"""Settings of Thunderbird's Mail Merge extension: lines of ``prefs.js`` in a profile.

Their names are those of the extension: ``extensions.mailmerge.source`` is the kind of list (AddressBook,
CardBook, CSV, JSON, XLSX), and each kind has a setting with its file. Values are literals of JavaScript.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from msgspec import Struct, field

from mailmerge.errors import CampaignFileError
from mailmerge.folders import read_plain
from mailmerge.text import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LINE: Final = re.compile(
    r'^\s*(?:user_)?pref\(\s*"extensions\.mailmerge\.(\w+)"\s*,\s*("(?:\\.|[^"\\])*"|-?\d+|true|false)\s*\)\s*;',
    re.MULTILINE,
)
_LARGEST: Final = 20 << 20
_FILES: Final = {"csv": "csv", "json": "json", "xlsx": "xlsx", "spreadsheet": "xlsx"}
_DAYS: Final = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_SILENT: Final = frozenset(
    [
        "debug",
        "recipients",
        "recipientsreminder",
        "variablesreminder",
        "textdelimiter",
        "addressbook",
        "cardbook",
        "connections",
        "variables",
        "format",
    ]
)


class Settings(Struct):
    """The meaning of the settings."""

    source: str = ""
    """The list's file as written; empty: the settings name no file."""
    reading: dict[str, str] = field(default_factory=dict)
    """How to read it, by keys of ``[data]``."""
    send: dict[str, str | list[str]] = field(default_factory=dict)
    attachments: list[str] = field(default_factory=list)
    """Templates of the attachments' paths."""
    drafts: bool = False
    """Whether messages were saved as drafts."""
    changed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def is_settings(path: Path) -> bool:
    """Return whether a file contains settings of the extension."""
    if path.suffix.lower() != ".js" or not path.is_file():
        return False
    try:
        return _LINE.search(read_plain(path, _LARGEST).decode("utf-8", "replace")) is not None
    except OSError:
        return False


def read_settings(path: Path) -> Settings:
    """Read the settings.

    Raises:
        CampaignFileError: the file cannot be read, or contains no such settings (C544).

    """
    try:
        text = read_plain(path, _LARGEST).decode("utf-8", "replace")
    except OSError as error:
        raise CampaignFileError(f"cannot read {path}: {error.strerror}", code="C407") from None
    values = {}
    for found in _LINE.finditer(text):
        try:
            values[found[1].lower()] = str(json.loads(found[2]))
        except ValueError:
            continue
    if not values:
        raise CampaignFileError(
            f"{path} has no settings of Mail Merge",
            code="C544",
            hint="specify prefs.js in the profile's folder (Help > Troubleshooting Information)",
        )
    settings = Settings()
    _read_list(values, settings)
    _read_sending(values, settings)
    return settings


def _read_list(values: dict[str, str], settings: Settings) -> None:
    kind = values.pop("source", "").lower()
    chosen = values.get(_FILES.get(kind, ""), "")
    for key in ("csv", "json", "xlsx"):
        values.pop(key, None)
    settings.source = _path(chosen)
    if kind in {"addressbook", "cardbook"} or not chosen:
        settings.left.append(
            "the address book: export it as CSV (Tools > Export), and specify the file with --list"
        )
    sheet, encoding, delimiter = (
        values.pop(key, "") for key in ("sheetname", "characterset", "fielddelimiter")
    )
    if kind in {"xlsx", "spreadsheet"} and sheet:
        settings.reading["sheet"] = sheet
    if kind == "csv":
        if encoding and encoding.lower() not in {"utf-8", "utf8"}:
            settings.reading["encoding"] = encoding
        if delimiter and delimiter != ",":
            settings.reading["delimiter"] = {"\t": "tab", ";": "semicolon"}.get(delimiter, delimiter)
    for line in re.split(r"[\r\n]+", values.pop("attachments", "")):
        if line.strip():
            settings.attachments.append(_path(line.strip()))


def _path(text: str) -> str:
    """Return the path of a file that may be written as a URL."""
    found = re.match(r"file:///?(?=[A-Za-z]:)|file://(?:localhost)?(?=/)", text, re.IGNORECASE)
    return unquote(text[found.end() :]) if found else text


def _read_sending(values: dict[str, str], settings: Settings) -> None:
    mode = values.pop("delivermode", "").lower()
    settings.drafts = mode.endswith(("draft", "later"))
    if settings.drafts:
        settings.changed.append("messages were saved instead of sent: the command drafts does that")
    pause = values.pop("pause", "")
    if re.fullmatch(r"[1-9][0-9]{0,5}", pause):
        settings.send["rate"] = f"1/{pause}s"
    elif pause and pause != "0":
        settings.left.append(f"the pause {quoted(pause)}: write rate and jitter in [send]")
    start, stop = (values.pop(key, "") for key in ("start", "stop"))
    if start or stop:
        first = int(start) + 1 if start.isdigit() else 2
        last = str(int(stop) + 1) if stop.isdigit() else ""
        settings.left.append(
            f"from {start or 'the first'} to {stop or 'the last'}: add --rows {first}-{last}"
        )
    settings.left += _times(values, settings)
    settings.left += [
        f"the setting {name}: it has no counterpart"
        for name, value in values.items()
        if name not in _SILENT and value not in {"", "0", "False"}
    ]


def _times(values: dict[str, str], settings: Settings) -> Iterator[str]:
    at, recur, every = (values.pop(key, "") for key in ("at", "recur", "every"))
    between, only = (values.pop(key, "") for key in ("between", "only"))
    if re.fullmatch(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}", at):
        settings.send["at"] = at
    elif at:
        yield f'the time {quoted(at)}: write at = "2026-12-01 09:00" in [send]'
    hours = re.fullmatch(r"(\d{2}):?(\d{2})\s*[- ]\s*(\d{2}):?(\d{2})", between)
    days = [_DAYS[int(day)] for day in re.findall(r"[0-6]", only)]
    if hours:
        span = f"{hours[1]}:{hours[2]}-{hours[3]}:{hours[4]}"
        windows = [f"{day} {span}" for day in days] or [span]
        settings.send["window"] = windows[0] if len(windows) == 1 else windows
    elif between or days:
        hours_of = quoted(between or ", ".join(days))
        yield f'the hours {hours_of}: write window = "Mon-Fri 08:00-18:00" in [send]'
    if recur or every:
        yield "recurring messages: run the command by cron"
