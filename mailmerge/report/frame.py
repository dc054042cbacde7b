"""Results as a pandas frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailmerge.report.result_files import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd

_NUMBERS = ("row", "code", "attempts")
_TIMES = ("first_attempt", "updated", "next_at")


def to_frame(records: Iterable[Mapping[str, str | int | None]]) -> pd.DataFrame:
    """Make a frame with the columns of ``results.csv``: whole numbers that may be missing, times in UTC."""
    import pandas as pd

    columns: dict[str, list[str | int | None]] = {name: [] for name in COLUMNS}
    for record in records:
        for name, values in columns.items():
            values.append(record[name])
    frame = pd.DataFrame(columns, columns=list(COLUMNS))
    for name in COLUMNS:
        if name in _NUMBERS:
            frame[name] = frame[name].astype("Int64")
        elif name in _TIMES:
            frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601")
        else:
            frame[name] = frame[name].astype("string")
    return frame
