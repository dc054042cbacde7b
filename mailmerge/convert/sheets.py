"""Sheets of add-ons that send from a spreadsheet: which column says what was sent already.

YAMM writes ``Merge status`` (EMAIL_SENT, EMAIL_OPENED, EMAIL_CLICKED, RESPONDED, BOUNCED, UNSUBSCRIBED), see
https://yamm.com/help/track-campaign/about-tracker/opened-clicked-bounced-emails-what-do-tracking-stats-mean/;
others write a date, or a tick, into a column such as ``Email Sent``. GMass keeps its own books, and exports
sheets with a column for each kind of event. A row with anything in such a column is not sent again: to
whoever was written to, once more would be once too often, and what went wrong is for a person to decide.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from mailmerge.designs.names import compared, expression, quoted_in_template
from mailmerge.values import displayed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mailmerge.model import Columns, Recipient

_STATUS: Final = frozenset(
    """mergestatus mailmergestatus campaignmergestatus gmassstatus yammstatus emailstatus sendstatus
    sentstatus emailsent mailsent sent senton sentat sentdate datesent timesent senttime emailsenton
    unsubscribed unsubscribe bounced bounce blocked optedout""".split()  # noqa: SIM905
)
_PERHAPS: Final = frozenset({"status", "state", "statut", "stato", "estado"})
"""Headings that mean it only where they have what these add-ons write."""
_KNOWN: Final = frozenset(
    """emailsent emailopened emailclicked responded bounced unsubscribed sent opened clicked replied blocked
    delivered""".split()  # noqa: SIM905
)
_NOT_YET: Final = frozenset(
    """no false 0 n nein non pending scheduled notsent notyet draft ready queued unsent tosend""".split()  # noqa: SIM905
)
_COPIES: Final = frozenset({"cc", "bcc"})
_FILES: Final = frozenset(
    "attachment attachments fileattachment fileattachments file files driveattachments".split()  # noqa: SIM905
)
_MOST_VALUES: Final = 200
_OTHERS: Final = "others"


class StatusColumn(Struct):
    """A column that says what was sent."""

    heading: str
    expression: str
    """As templates write it."""
    skipped: Counter[str] = field(default_factory=Counter)
    """How many rows have which of its values, of those that are not sent."""
    waiting: set[str] = field(default_factory=set)
    """Its values that say that nothing was sent yet."""


class SheetStatus(Struct):
    """What a sheet says about earlier sending."""

    where: str = ""
    """The expression for rows that are still to be sent; empty: there is no such column."""
    rows: int = 0
    skipped: int = 0
    columns: list[StatusColumn] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def read_status(columns: Columns, recipients: Iterable[Recipient]) -> SheetStatus:
    """Look for columns that say what was sent, and count."""
    keys = [compared(heading) for heading in columns.headings]
    candidates = {
        at: StatusColumn(columns.headings[at], expression(columns.names[at], columns.headings[at]))
        for at, key in enumerate(keys)
        if _is_named_status(key) or key in _PERHAPS
    }
    found = SheetStatus()
    said: list[set[int]] = []
    for recipient in recipients:
        found.rows += 1
        marks = set()
        for at, column in candidates.items():
            written = displayed(recipient.values[at])
            value = written.strip()
            if compared(value) in _NOT_YET:
                if len(column.waiting) < _MOST_VALUES:
                    column.waiting |= {value, written}  # a campaign may take blanks off, or keep them
            elif value:
                column.skipped[value if len(column.skipped) < _MOST_VALUES else _OTHERS] += 1
                marks.add(at)
        said.append(marks)
    meant = {
        at: column
        for at, column in candidates.items()
        if not _is_of_links(column) and (_is_named_status(keys[at]) or _is_status(column))
    }
    found.columns = list(meant.values())
    found.skipped = sum(bool(marks & meant.keys()) for marks in said)
    found.where = " and ".join(map(_condition, found.columns))
    found.left = list(_not_taken(columns, keys))
    return found


def _is_named_status(key: str) -> bool:
    """Tell whether a heading is that of a status; some add what else they are: Merge status [Mailmeteor]."""
    return key in _STATUS or key.startswith(("mergestatus", "mailmergestatus"))


def _is_of_links(column: StatusColumn) -> bool:
    """Tell whether each row has a link of its own there, such as the one for unsubscribing."""
    values = column.skipped.keys() - {_OTHERS}
    return bool(values) and all(
        value.lower().startswith(("http://", "https://", "mailto:")) for value in values
    )


def _is_status(column: StatusColumn) -> bool:
    values = [compared(value) for value in column.skipped]
    return bool(values) and all(value in _KNOWN for value in values)


def _condition(column: StatusColumn) -> str:
    waiting = [quoted_in_template(text) for text in sorted(column.waiting)]
    if not waiting:
        return f'{column.expression} == ""'
    return f'{column.expression} in ["", {", ".join(waiting)}]'


def _not_taken(columns: Columns, keys: list[str]) -> Iterable[str]:
    for heading, name, key in zip(columns.headings, columns.names, keys, strict=True):
        written = expression(name, heading)
        if key in _COPIES:
            yield f'column {heading}: nobody gets a copy unless you write {key} = "{{{{ {written} }}}}"'
        elif key in _FILES:
            yield f"column {heading}: files are not fetched; put them beside the list, and add [[attach]]"
        elif key in {"scheduleddate", "scheduledon", "sendat"}:
            yield f"column {heading}: all rows are sent in one run; its time is `at` in [send]"
