"""The variables of templates for several rows that share one message (``data.group_by``).

``rows`` contains each row's fields. A plain name is the field of all rows: if they differ, using it is an
error that names the rows, because the first one's value would pass for everybody's.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from mailmerge.render.environments import Missing, RowFields
from mailmerge.render.failures import row_error
from mailmerge.render.where import group_key
from mailmerge.text import quoted, rows_named
from mailmerge.values import BadValue, canonical, displayed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mailmerge.errors import RowError
    from mailmerge.model import Columns, Recipient

ROWS = "rows"
"""The name of the rows in templates."""
_NAMED = 3
"""Number of values that are named if a field differs."""


class Differs(Missing):
    """A field that differs between the rows of a message: using it is an error."""

    __slots__ = ()


class DifferingField(BadValue):
    """A field was used as if it were the same in all rows.

    Args:
        column: its name.
        reason: what is wrong, to follow the name.
        hint: the next step.

    """

    def __init__(self, column: str, reason: str, hint: str) -> None:
        super().__init__("D182", reason, None, hint)
        self.column = column


def group_variables(own: Sequence[dict[str, Any]], recipient: Recipient) -> dict[str, Any]:
    """Return the names of a group message's templates, or of one for a row of it, other than variables.

    Args:
        own: each row's fields by name.
        recipient: the first row, with the others.

    """
    columns = recipient.columns
    tables = [RowFields(fields, columns) for fields in own]
    found: dict[str, Any] = dict(own[0])
    if len(own) > 1:
        numbers = recipient.rows
        for name in columns.names:
            cells = [fields[name] for fields in own]
            if any(not _agrees(cells[0], cell) for cell in cells[1:]):
                found[name] = _differs(name, cells, numbers)
    of_row = (found[name] for name in columns.names)
    return {**found, "row": dict(zip(columns.headings, of_row, strict=True)), ROWS: tables}


def _agrees(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, str) and isinstance(other, str):
        return one == other or ("@" in one and "@" in other and group_key(one) == group_key(other))
    return one.__class__ is other.__class__ and canonical(one) == canonical(other)


def _differs(name: str, cells: Sequence[Any], numbers: Sequence[int]) -> Differs:
    reason = f"differs within the rows of one message: {_told(cells, numbers)}"
    hint = f"write it for each row, {{% for r in rows %}}{{{{ r.{name} }}}}{{% endfor %}}, or rows[0].{name}"
    failed: Any = partial(_failed, name, reason, hint)
    return Differs(name=name, exc=failed)


def _failed(name: str, reason: str, hint: str, _message: str = "") -> DifferingField:
    return DifferingField(name, reason, hint)


def _told(cells: Iterable[Any], numbers: Iterable[int]) -> str:
    """Name the values and the rows that have them: ``"a" in row 2, "b" in rows 3 and 5``."""
    having: dict[str, list[int]] = {}
    for cell, row in zip(cells, numbers, strict=True):
        having.setdefault(displayed(cell), []).append(row)
    told = [f"{quoted(shown, 40)} in {rows_named(rows)}" for shown, rows in having.items()]
    more = [f"{len(told) - _NAMED:,} more"] if len(told) > _NAMED else []
    return ", ".join(told[:_NAMED]) + (f" and {more[0]}" if more else "")


def refuse_several_addresses(names: Iterable[str], variables: dict[str, Any], recipient: Recipient) -> None:
    """Ensure that all rows of a message are for the same person.

    Raises:
        RowError: the columns of the address differ between them.

    """
    of_row = variables["row"]
    for name in names:
        if isinstance(variables.get(name, of_row.get(name)), Differs):
            raise _several(name, recipient)


def _several(name: str, recipient: Recipient) -> RowError:
    columns: Columns = recipient.columns
    headings = dict(zip(columns.names, columns.headings, strict=True))
    heading = headings.get(name, name)
    place = columns.headings.index(heading)
    every = (recipient, *(other for _, other in recipient.others))
    told = _told((one.values[place] for one in every), recipient.rows)
    return row_error(
        "D181",
        f"the rows of one message have different addresses: {told}",
        recipient,
        heading,
        hint=f"correct the list, or separate them: append ~ ' ' ~ {name} to group_by",
    )
