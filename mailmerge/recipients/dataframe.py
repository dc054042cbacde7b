"""A pandas data frame as a list of recipients."""

from __future__ import annotations

from datetime import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mailmerge.errors import ListError
from mailmerge.model import Place
from mailmerge.recipients.cells import object_cell
from mailmerge.recipients.recipient_list import Options, RecipientList, Record, list_error, read_header
from mailmerge.recipients.understanding import Understanding
from mailmerge.values import Date, DateTime

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.values import Cell

_SHOWN = "the data frame"


class FrameList(RecipientList):
    """The rows of a data frame, in its order; its index is not a column.

    Missing values of every kind are empty cells. Whole numbers are integers even where pandas made them
    floats, and a column whose times are all midnight contains dates.
    """

    def __init__(self, frame: pd.DataFrame, options: Options) -> None:
        if frame.columns.nlevels > 1:
            raise ListError(
                f"{_SHOWN} has several rows of column labels",
                code="D107",
                hint='join them first: frame.columns = [" ".join(labels) for labels in frame.columns]',
            )
        self.shown = _SHOWN
        headings = [str(label) for label in frame.columns]
        header, problems = read_header(headings, 1, lambda at: Place(path=_SHOWN, cell=f"column {at + 1}"))
        if problems:
            raise list_error(_SHOWN, problems)
        self._frame = frame
        super().__init__(Path("dataframe"), _SHOWN, header, options)
        self._plain = False
        self.understanding = Understanding("pandas data frame")

    def about_rows(self) -> int:
        """Return the number of rows."""
        return len(self._frame)

    def _records(self) -> Iterator[Record]:
        columns = [_column(self._frame.iloc[:, at]) for at in range(self._frame.shape[1])]
        for row, cells in enumerate(zip(*columns, strict=True), 2):
            if any(not isinstance(cell, str) or cell.strip() for cell in cells):
                yield row, None, cells
            else:
                self.blank_rows += 1

    def _place(self, row: int, line: int | None, position: int) -> Place:  # noqa: ARG002  rows have no lines
        return Place(path=_SHOWN, cell=f'column "{self._frame.columns[position]}"')


def _column(series: pd.Series[Any]) -> list[Cell]:
    missing = series.isna().tolist()
    cells = ["" if empty else _cell(cell) for cell, empty in zip(series.tolist(), missing, strict=True)]
    times = [cell.value for cell in cells if isinstance(cell, DateTime)]
    if times and all(moment.time() == time() for moment in times):
        return [Date(cell.value.date()) if isinstance(cell, DateTime) else cell for cell in cells]
    return cells


def _cell(cell: Any) -> Cell:
    if isinstance(cell, pd.Timestamp):
        cell = cell.to_pydatetime()
    elif isinstance(cell, pd.Timedelta):
        cell = cell.to_pytimedelta()
    return object_cell(cell)
