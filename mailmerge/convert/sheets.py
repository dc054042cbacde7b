"""Sheets of add-ons that send from a spreadsheet: which column records what was already sent.

YAMM writes ``Merge status`` (EMAIL_SENT, EMAIL_OPENED, EMAIL_CLICKED, RESPONDED, BOUNCED, UNSUBSCRIBED), see
https://yamm.com/help/track-campaign/about-tracker/opened-clicked-bounced-emails-what-do-tracking-stats-mean/;
others write a date, or a tick, into a column such as ``Email Sent``. GMass keeps its own books, and exports
sheets with a column for each kind of event. A row with anything in such a column is not sent again: a second
message would be one too many, and failures are for a person to decide.
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
"""Headings that count only if their cells contain what these add-ons write."""
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
    """A column that records what was sent."""

    heading: str
    expression: str
    """The column's name in templates."""
    skipped: Counter[str] = field(default_factory=Counter)
    """By value: how many rows have it, of those that are not sent."""
    waiting: set[str] = field(default_factory=set)
    """Its values that mean that nothing has been sent yet."""


class SheetStatus(Struct):
    """What a sheet records about earlier sending."""

    where: str = ""
    """The expression for rows that remain to be sent; empty: the sheet has no such column."""
    rows: int = 0
    skipped: int = 0
    columns: list[StatusColumn] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def read_status(columns: Columns, recipients: Iterable[Recipient]) -> SheetStatus:
    """Find columns that record what was sent, and count their values."""
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
                    column.waiting |= {value, written}  # a campaign may strip spaces, or keep them
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
    """Return whether a heading is that of a status; some have additions: Merge status [Mailmeteor]."""
    return key in _STATUS or key.startswith(("mergestatus", "mailmergestatus"))


def _is_of_links(column: StatusColumn) -> bool:
    """Return whether each row has a different link there, such as an unsubscribe link."""
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
            yield f"column {heading}: files are not fetched; put them next to the list, and add [[attach]]"
        elif key in {"scheduleddate", "scheduledon", "sendat"}:
            yield f"column {heading}: all rows are sent in one run; its time is `at` in [send]"
