"""Which rows of a list repeat others, which of them is sent, and how those that are left out differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from mailmerge.model import Diagnostic, Severity, Status
from mailmerge.text import excerpt, plural, quoted, trimmed
from mailmerge.values import canonical, displayed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mailmerge.model import Columns
    from mailmerge.plan.store import PlanRow, PlanWriter
    from mailmerge.values import Cell

REPEATS = frozenset({"D140", "D265"})
"""Found by looking at all rows, so they are found again with each plan."""
_COMPARED = 10_000
"""How many rows that are sent and repeated are remembered with their cells, to report how others differ."""
_DIFFERENCES_TOLD = 3


def settle_repetitions(
    writer: PlanWriter, *, addresses: bool, last: bool = False
) -> Iterator[tuple[PlanRow, PlanRow]]:
    """Turn ready rows that repeat another one into duplicates, and decide which row owns a key.

    The first row of a person is sent. Only rows that may be sent repeat, or are repeated: one that is left
    out (invalid, skipped) does not hide a later one. Of rows with one key the one that may be sent owns it,
    else one that repeats only another row's address, else the first.

    Args:
        writer: the plan, all its rows added.
        addresses: whether rows with different keys but the same address are duplicates, too.
        last: the last row of a person is sent instead. It hides the others even if it is invalid: they are
            out of date, and cannot be taken back once they are sent.

    Yields:
        Each duplicate, with the row that it repeats.

    """
    if last:
        yield from _settle_last(writer)
        return
    ready = {row.key for row in writer.repeated(addresses=False) if row.ready}
    held: dict[str, PlanRow] = {}
    written_to: dict[str, PlanRow] = {}
    own_key: dict[str, PlanRow] = {}
    for row in writer.repeated(addresses=addresses):
        if not row.ready:
            holds = bool(row.key) and row.key not in ready and row.key not in held
            if holds:
                held[row.key] = _slim(row, held)
            if holds != row.holds:
                writer.replace_row(replace(row, holds=holds))
            continue
        address = row.address.lower()
        earlier = held.get(row.key) or (written_to.get(address) if addresses else None)
        if earlier is None:
            held[row.key] = written_to[address] = _slim(row, held)
            continue
        duplicate = replace(row, status=Status.DUPLICATE, detail=f"repeats row {earlier.row}", holds=False)
        if row.key in held or row.key in own_key:
            writer.replace_row(duplicate)
        else:
            own_key[row.key] = duplicate
        yield row, earlier
    for key, row in own_key.items():
        # What happened to it earlier, when it was the first with this address, still happened to it.
        writer.replace_row(replace(row, holds=key not in held))


def _settle_last(writer: PlanWriter) -> Iterator[tuple[PlanRow, PlanRow]]:
    held: dict[str, PlanRow] = {}
    written_to: dict[str, PlanRow] = {}
    others: dict[str, PlanRow] = {}
    """Rows whose key no row has that is sent, or hides others: the first of them in the list."""
    for row in writer.repeated(addresses=True, backwards=True):
        address = row.address.lower()
        skipped = row.status is Status.SKIPPED
        later = None if skipped else held.get(row.key) or written_to.get(address)
        if later is None and not skipped:
            kept = _slim(row, held)
            held.update({row.key: kept} if row.key else {})
            written_to.update({address: kept} if address else {})
            continue
        settled = replace(row, holds=False)
        if later is not None and row.ready:
            settled = replace(settled, status=Status.DUPLICATE, detail=f"row {later.row} repeats it")
            yield row, later
        writer.replace_row(settled)
        if row.key and (row.ready or row.key not in others):
            others[row.key] = settled
    for key, row in others.items():
        if key not in held:
            writer.replace_row(replace(row, holds=True))


def _slim(row: PlanRow, others: dict[str, PlanRow]) -> PlanRow:
    """Return what is remembered of a row: its cells only where few are remembered already."""
    return row if len(others) < _COMPARED else replace(row, cells=(), recipients=())


def repetition(row: PlanRow, other: PlanRow) -> Diagnostic:
    """Return the error for a row that repeats another one, where none may."""
    return Diagnostic(
        "D140",
        f"row {row.row} repeats {row.address} of row {other.row}",
        'remove one of them, or set data.duplicates = "first" or "last"',
        severity=Severity.ERROR,
    )


def difference(row: PlanRow, other: PlanRow, columns: Columns, address: str = "") -> Diagnostic | None:
    """Return how a row that is left out differs from the one that is sent; None: it does not.

    *address* is the column of the addresses, if it is known.
    """
    if row.row_digest == other.row_digest:
        return None
    if other.cells:
        told = list(_differences(row, other, columns))
        if not told:
            return None
        what = ", ".join(told[:_DIFFERENCES_TOLD])
        if len(told) > _DIFFERENCES_TOLD:
            what += f", and {plural(len(told) - _DIFFERENCES_TOLD, 'more column')}"
    else:
        what = "its cells are different"
    together = f'data.group_by = "{address}"' if address.isidentifier() else "data.group_by"
    later = other.row > row.row
    option = (
        'data.duplicates = "first" sends the first one'
        if later
        else 'data.duplicates = "last" sends the last one'
    )
    return Diagnostic(
        "D265",
        f"row {row.row} ({row.address}) is left out for row {other.row}, and differs: {what}",
        f"correct the list if it is another person, or other content; {option}; "
        f"{together} sends one message for all rows of a person",
        severity=Severity.WARNING,
        row=row.row,
        address=row.address,
    )


def _differences(row: PlanRow, other: PlanRow, columns: Columns) -> Iterator[str]:
    for heading, own, sent in zip(columns.headings, row.cells, other.cells, strict=True):
        if trimmed(canonical(own)) == trimmed(canonical(sent)):
            continue
        mine, theirs = displayed(own), displayed(sent)
        if "@" in mine and mine.strip().lower() == theirs.strip().lower():
            continue  # the same address, spelt differently
        yield f"{excerpt(heading)} {quoted(mine, 30)} instead of {quoted(theirs, 30)}"


def other_addresses(columns: Columns, cells: Iterable[Cell]) -> dict[str, str]:
    """Return the columns of a row that have an address, where it has none in the right one.

    Returns:
        What to report about each, by column name.

    """
    from mailmerge.addresses import Address, AddressError

    found = {}
    for name, heading, cell in zip(columns.names, columns.headings, cells, strict=True):
        if isinstance(cell, str) and "@" in cell:
            try:
                found[name] = f"{Address.parse(trimmed(cell))} in the column {quoted(heading)}"
            except AddressError:
                continue
    return found
