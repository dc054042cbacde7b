"""Files that name another row than the one they go to, found when the whole list is known."""

from __future__ import annotations

import os
import re
from collections import Counter
from itertools import chain, islice
from typing import TYPE_CHECKING

from mailmerge.attachment_guard.extraction import KINDS, PLAIN, Extract
from mailmerge.attachment_guard.file_reader import FileToRead, read
from mailmerge.attachment_guard.name_columns import name_columns
from mailmerge.attachment_guard.naming import Identities
from mailmerge.extras import install_command
from mailmerge.model import Diagnostic, Severity
from mailmerge.plan.file_readers import FileReaders
from mailmerge.text import plural, quoted
from mailmerge.values import displayed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mailmerge.attachment_guard.extraction import State
    from mailmerge.attachment_guard.naming import Mismatch, Sighting
    from mailmerge.model import Columns, Recipient
    from mailmerge.plan.rows import GuardedFile
    from mailmerge.plan.store import PlanRow
    from mailmerge.plan.text_cache import TextCache

CODE = "A320"
"""A file that names another row: the row is invalid."""
_PERHAPS = "A224"
"""The same among too few files to tell a swapped one from a price list with the seller's name."""
_UNREAD = "A222"
_MISSING = "A223"
_ADDRESS = re.compile(r"[^\s@<>,;\"]+@[^\s@<>,;\"]+")
_TOLD = 3
_FIRST_ROWS = 50
_PROGRESS_EVERY = 100
_MOST_READERS = 4
_WHY: dict[State, str] = {
    "empty": "without text, such as scans",
    "encrypted": "with a password",
    "damaged": "damaged, or not what the name says",
    "large": "too large",
    "slow": "taking too long",
    "unstarted": "where no process can be started to read them",
    "other": "of kinds that are not read",
}


class AttachmentGuard:
    """Reads the files that go to single rows, and finds those that name another one.

    Args:
        columns: the list's.
        to: the templates of the recipients.
        senders: those of the sender.
        jobs: how many processes may read.

    """

    def __init__(
        self, columns: Columns, to: Sequence[str], *, senders: Iterable[str] = (), jobs: int = 1
    ) -> None:
        self._columns = columns
        self._to = to
        self._jobs = min(jobs, _MOST_READERS)
        self._files: list[tuple[PlanRow, GuardedFile]] = []
        self._identities = Identities(found for one in senders for found in _ADDRESS.findall(one))
        self._numbers: list[int] = []
        """By place in the list: the row's number in the spreadsheet."""
        self._unread: list[tuple[PlanRow, GuardedFile, State]] = []

    def add(self, row: PlanRow, files: Iterable[GuardedFile]) -> None:
        """Add the files of a row that may be sent."""
        self._files += ((row, file) for file in files)

    def judge(
        self,
        recipients: Callable[[], Iterable[Recipient]],
        texts: TextCache | None,
        left_out: set[int],
        progress: Callable[[], None] = lambda: None,
    ) -> Iterator[tuple[PlanRow, Diagnostic]]:
        """Yield each row with a file that is another's, and what is wrong.

        Args:
            recipients: the whole list, in its order.
            texts: what was read before.
            left_out: places of rows that get no message after all.
            progress: called now and then.

        """
        going = [(row, file) for row, file in self._files if row.n not in left_out]
        files = [(row, file) for row, file in going if _suffix(file) in KINDS]
        self._unread += ((row, file, "other") for row, file in going if _suffix(file) not in KINDS)
        if not files:
            return
        self._know(recipients())
        seen: list[tuple[PlanRow, GuardedFile, Sighting]] = []
        for count, (row, file, extract) in enumerate(self._extracts(files, texts)):
            if extract.state == "read":
                seen.append((row, file, self._identities.see(extract.text, (row.n, *row.others))))
            if state := extract.left if extract.state == "read" else extract.state:
                self._unread.append((row, file, state))
            if count % _PROGRESS_EVERY == 0:
                progress()
        told: set[int] = set()
        for row, file, sighting in seen:
            mismatch = self._identities.judge(sighting) if row.n not in told else None
            if mismatch is not None:
                told.add(row.n)
                yield row, self._told(row, file, mismatch)

    def _know(self, recipients: Iterable[Recipient]) -> None:
        rows = iter(recipients)
        first = list(islice(rows, _FIRST_ROWS))
        cells_of = [[displayed(cell) for cell in recipient.values] for recipient in first]
        places_of_names = name_columns(self._columns, self._to, cells_of)
        for n, recipient in enumerate(chain(first, rows)):
            self._numbers.append(recipient.row)
            cells = [cell if cell.__class__ is str else displayed(cell) for cell in recipient.values]
            addresses = [found for cell in cells if "@" in cell for found in _ADDRESS.findall(cell)]
            names = [" ".join(cells[place] for place in places).strip() for places in places_of_names]
            self._identities.add(n, key=recipient.key or "", addresses=addresses, names=filter(None, names))

    def _extracts(
        self, files: Sequence[tuple[PlanRow, GuardedFile]], texts: TextCache | None
    ) -> Iterator[tuple[PlanRow, GuardedFile, Extract]]:
        """Yield the texts of files, each as soon as it is available, and kept no longer than needed."""
        left = Counter(file.sha256 for _, file in files)
        wanted: dict[str, FileToRead] = {}
        for _, file in files:
            wanted.setdefault(file.sha256, FileToRead(file.path, file.sha256, _suffix(file)))
        known: dict[str, Extract] = {}
        with FileReaders(self._jobs) as readers:
            coming = readers.read(
                file
                for sha, file in wanted.items()
                if file.suffix not in PLAIN and (texts is None or sha not in texts)
            )
            for row, file in files:
                found = known.get(file.sha256) or self._extract(wanted[file.sha256], texts, readers, coming)
                left[file.sha256] -= 1
                if left[file.sha256]:
                    known[file.sha256] = found
                else:
                    known.pop(file.sha256, None)
                yield row, file, found

    def _extract(
        self,
        file: FileToRead,
        texts: TextCache | None,
        readers: FileReaders,
        coming: Iterator[tuple[FileToRead, Extract]],
    ) -> Extract:
        """Return the text of a file: as it was kept, or as it is read, here or by those that are at it."""
        if texts is not None and file.sha256 in texts:
            if kept := texts.get(file.sha256):
                return kept
            if file.suffix not in PLAIN:  # what was kept is damaged
                coming = readers.read([file])
        found = read(file) if file.suffix in PLAIN else next(coming)[1]
        if texts is not None and found.state not in {"missing", "unstarted"}:
            texts.put(file.sha256, found)
        return found

    def _told(self, row: PlanRow, file: GuardedFile, mismatch: Mismatch) -> Diagnostic:
        names = " and ".join(dict.fromkeys(map(quoted, mismatch.named[:_TOLD])))
        address = self._identities.address(mismatch.row)
        whose = f"row {self._numbers[mismatch.row]}" + (f" ({address})" if address else "")
        more = f" and {plural(mismatch.more, 'more row')}" if mismatch.more else ""
        if not mismatch.sure:
            return Diagnostic(
                _PERHAPS,
                f"{quoted(file.name)} names {names}: that is {whose}{more}, and nobody else in the list",
                "look into it: so few files do not show whether it is that row's, or names who sells or "
                "teaches; if it is for this row: `guard = false` in its [[attach]]",
                severity=Severity.WARNING,
                row=row.row,
                address=row.address,
            )
        return Diagnostic(
            CODE,
            f"{quoted(file.name)} names {names}: that is {whose}{more}, not this row",
            "were files swapped or misnamed? Open it and look; if it is for this row: `guard = false` in its "
            "[[attach]]",
            severity=Severity.ERROR,
            row=row.row,
            address=row.address,
        )

    def findings(self) -> Iterator[Diagnostic]:
        """Yield which files could not be read, once all rows were checked."""
        missing = [(row, file) for row, file, state in self._unread if state == "missing"]
        if missing:
            yield Diagnostic(
                _MISSING,
                f"{plural(len(missing), 'PDF file')} of single rows cannot be read to see whom they name",
                f"reading them needs an optional part: {install_command('guard')}",
                severity=Severity.WARNING,
            )
        unread = [(row, file, state) for row, file, state in self._unread if state != "missing"]
        if unread:
            counts = Counter(state for _, _, state in unread)
            kinds = sorted({_ending(file) for _, file, state in unread if state == "other"} - {""})
            why = ", ".join(f"{count:,} {_WHY[state]}" for state, count in counts.items())
            if kinds:
                more = ", ..." if kinds[_TOLD:] else ""
                why = why.replace(_WHY["other"], f"{_WHY['other']} ({', '.join(kinds[:_TOLD])}{more})")
            first = ", ".join(f"row {row.row} {quoted(file.name)}" for row, file, _ in islice(unread, _TOLD))
            more = f" and {len(unread) - _TOLD:,} more" if len(unread) > _TOLD else ""
            yield Diagnostic(
                _UNREAD,
                f"whom they name cannot be read in {plural(len(unread), 'file')} of single rows: {why}",
                f"check them yourself: {first}{more}; if that is not needed, `guard = false` in [[attach]]",
                severity=Severity.WARNING,
            )


def _ending(file: GuardedFile) -> str:
    """Return the last suffix of the name that the message shows, if it is a short one."""
    ending = os.path.splitext(file.name.lower())[1]  # noqa: PTH122  a string
    return ending if ending[1:].isalnum() and len(ending) < 8 else ""


def _suffix(file: GuardedFile) -> str:
    for name in (os.fsdecode(file.path), file.name):
        suffix = os.path.splitext(name.lower())[1]  # noqa: PTH122  a string
        if suffix in KINDS:
            return suffix
    return ""
