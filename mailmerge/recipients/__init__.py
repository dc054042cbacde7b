"""Opens recipient lists of every kind as streams of recipients.

Each kind of list loads its own reader only when it is opened: a CSV list costs neither openpyxl nor pandas.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, TypedDict

from mailmerge.errors import ListError
from mailmerge.folders import refuse_odd
from mailmerge.model import MARK_COLUMN, Place
from mailmerge.recipients.kinds import JSON, MOST_OCTETS, find_kind, is_workbook, misnamed, refuse_name
from mailmerge.recipients.recipient_list import Options, RecipientList, row_mark
from mailmerge.recipients.selection import RowSelection, parse_rows
from mailmerge.recipients.snapshot import sha256, snapshot
from mailmerge.recipients.understanding import Understanding, UnderstoodColumn
from mailmerge.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from typing import Unpack

    import pandas as pd

    from mailmerge.options import Hidden
    from mailmerge.recipients.kinds import FileKind
    from mailmerge.values import Cell

__all__ = [
    "RecipientList",
    "RowSelection",
    "Understanding",
    "UnderstoodColumn",
    "from_dataframe",
    "from_rows",
    "is_failed_text",
    "is_utf_8",
    "is_workbook",
    "kind_of",
    "open_list",
    "parse_rows",
    "planned_rows",
    "row_mark",
    "sha256",
    "snapshot",
]

_NONE: Mapping[str, str] = MappingProxyType({})


class ListOptions(TypedDict, total=False):
    """How to read a list: the options of ``[data]`` that concern the file."""

    sheet: str | None
    area: str | None
    """The name of a table or a named range, or a range of cells, in a workbook."""
    header: int | None
    """The number of the row with the headings."""
    key: str | None
    hidden: Hidden
    encoding: str | None
    delimiter: str | None
    types: Mapping[str, str]
    defaults: Mapping[str, str]


def open_list(path: Path, *, shown: str | None = None, **options: Unpack[ListOptions]) -> RecipientList:
    """Open a list and read its header; *shown* is its name in messages, where *path* is a private copy.

    Raises:
        ListError: the file does not exist, or is not a list that can be read.
        CampaignFileError: an option names a column or a type that does not exist.

    """
    name = shown or str(path)
    columns = Options(
        options.get("key"), dict(options.get("types", _NONE)), dict(options.get("defaults", _NONE))
    )
    sheet, area, encoding = options.get("sheet"), options.get("area"), options.get("encoding")
    kind = kind_of(path, name)
    if kind.workbook:
        if encoding is not None:
            raise ListError(
                f"{name} is a workbook, which has no encoding", code="D127", hint="leave the encoding out"
            )
        from mailmerge.recipients.workbook_list import WorkbookList, open_workbook

        recipients: RecipientList = WorkbookList(
            open_workbook(path, name, kind),
            path,
            columns,
            sheet=sheet,
            area=area,
            header_row=options.get("header"),
            hidden=options.get("hidden", "refuse"),
        )
    elif sheet is not None or area is not None:
        left_out = "sheet" if sheet is not None else "range"
        hint = f"leave the {left_out} out, or name a workbook"
        raise ListError(f"{name} has no sheets", code="D122", hint=hint)
    elif kind is JSON:
        from mailmerge.recipients.json_list import JsonList

        recipients = JsonList(path, name, columns, encoding)
    else:
        from mailmerge.recipients.text_list import TextList

        recipients = TextList(
            path,
            name,
            columns,
            encoding,
            options.get("delimiter"),
            header_row=options.get("header"),
        )
    told = misnamed(path, name, kind)
    if told:
        recipients.warnings = (told, *recipients.warnings)
    return recipients


def kind_of(path: Path, shown: str) -> FileKind:
    """Return what kind of list a file is, judged by its content."""
    refuse_name(path, shown)
    _check_file(path, shown)
    return find_kind(path, shown)


def is_utf_8(path: Path) -> bool:
    """Return whether a file is UTF-8 text with non-ASCII characters, or has UTF-8's byte order mark."""
    from mailmerge.recipients import encodings

    return path.is_file() and encodings.is_utf_8(path)


def is_failed_text(path: Path) -> bool:
    """Return whether this is a text file of failed rows, which we always write in UTF-8."""
    if not is_utf_8(path):
        return False
    with path.open("rb") as file:
        return MARK_COLUMN.encode() in file.read(65_536)


def from_dataframe(
    frame: pd.DataFrame,
    *,
    key: str | None = None,
    types: Mapping[str, str] = _NONE,
    defaults: Mapping[str, str] = _NONE,
) -> RecipientList:
    """Make a list from a pandas data frame: its column labels are the headings, its first row is row 2."""
    from mailmerge.recipients.dataframe import FrameList

    return FrameList(frame, Options(key, dict(types), dict(defaults)))


def from_rows(
    rows: Iterable[Mapping[str, object]],
    *,
    key: str | None = None,
    types: Mapping[str, str] = _NONE,
    defaults: Mapping[str, str] = _NONE,
) -> RecipientList:
    """Make a list from mappings: their keys are the headings, the first mapping is row 2."""
    from mailmerge.recipients.mapping_list import RowList

    return RowList(rows, Options(key, dict(types), dict(defaults)))


def planned_rows(
    recipients: RecipientList, rows: Callable[[], Iterable[tuple[int, tuple[Cell, ...]]]]
) -> RecipientList:
    """Make a list from planned rows, by number, in place of the list that they came from."""
    from mailmerge.recipients.mapping_list import PlannedRows

    return PlannedRows(recipients, rows)


def _check_file(path: Path, shown: str) -> None:
    place = Place(path=shown)
    if not path.exists():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, siblings) or "check data.source or --list"
        raise ListError(f"the list {shown} does not exist", code="D100", hint=hint, place=place)
    if path.is_dir():
        hint = "name the list itself, not its folder"
        raise ListError(f"{shown} is not a file", code="D100", hint=hint, place=place)
    try:
        refuse_odd(path, MOST_OCTETS)
        path.open("rb").close()
    except OSError as error:
        raise ListError(f"{shown} cannot be read: {error.strerror}", code="D100", place=place) from None
