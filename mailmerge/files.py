"""The only place that creates, replaces, renames or deletes a file, or opens a database.

Each function documents its purpose. Which names are followed, and which are not, is described in
`mailmerge.folders`: in short, nothing in a folder of ours, and no file that the user named. No other module
writes: a test reads all of them (``tests/unit/test_files_alone.py``), another watches the system calls.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self, TextIO

from mailmerge.errors import FileError
from mailmerge.folders import DRAFT, Folder, followed, refuse_special, share, telling
from mailmerge.text import octets

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

_INSIDE = frozenset({"rehearsal", "messages", "redacted"})
"""Folders that are always in another folder of ours, so that one is not followed either."""
_SCRATCH = "mailmerge-"
_SCRATCHES = re.compile(r"mailmerge-[0-9a-f]{16}\Z")


@contextlib.contextmanager
def replace_file(path: Path, *, named: bool = False) -> Iterator[BinaryIO]:
    """Write a private file that takes *path*'s place when it is complete; if that fails, nothing has changed.

    Args:
        path: the file; its folder is created if necessary.
        named: the user named this very file: the way to it is followed, and a link or a device there is
            refused. Otherwise it is in a folder of ours, and whatever has its name is replaced.

    Raises:
        FileError: it cannot be written.

    """
    with named_folder(path.parent) if named else folder(path.parent) as opened:
        if named:
            opened.sweep()
            if (found := opened.look(path.name)) is not None:
                refuse_special(path, found)
        with opened.replacing(path.name) as stream:
            yield stream


@contextlib.contextmanager
def replace_text(path: Path, *, encoding: str = "utf-8", named: bool = False) -> Iterator[TextIO]:
    """Write a private text file as `replace_file` does, its line ends as they are given.

    What *encoding* does not have is written as an escape.
    """
    with replace_file(path, named=named) as stream:
        text = io.TextIOWrapper(stream, encoding, errors="backslashreplace", newline="")
        try:
            yield text
        finally:
            text.detach()


def write_file(path: Path, content: bytes) -> None:
    """Put a private file with this content into a folder of ours.

    Raises:
        FileError: it cannot be written; what was there before is still there.

    """
    with replace_file(path) as stream:
        stream.write(content)


def start_file(path: Path) -> BinaryIO:
    """Begin a private file that can be read while it grows; an older one with its name is removed.

    Raises:
        FileError: a link, a device or a folder has this name, or it cannot be made.

    """
    with followed(path.parent) as opened:
        if (found := opened.look(path.name)) is not None:
            refuse_special(path, found)
            opened.remove(path.name)
        return opened.create(path.name)


def create_file(path: Path, content: bytes, *, mode: int | None = None) -> None:
    """Make a file of the user's own, in a folder that is created if necessary; nothing is overwritten.

    Args:
        path: the file.
        content: what is in it.
        mode: who may read and write it; None: the same as for any new file of this user.

    Raises:
        FileError: something has this name already, or it cannot be made.

    """
    first = 0o666 if mode is None else 0o600
    with named_folder(path.parent) as opened, opened.create(path.name, mode=first) as stream:
        stream.write(content)
        if mode is not None and hasattr(os, "fchmod"):
            os.fchmod(stream.fileno(), mode)


def remove_file(path: Path) -> None:
    """Remove a file from a folder of ours; nothing happens if it does not exist.

    Raises:
        FileError: it cannot be removed, or its folder is not ours.

    """
    if (opened := existing(path.parent)) is not None:
        with opened:
            opened.remove(path.name)


def refuse_without_room(path: Path, size: int, what: str, hint: str) -> None:
    """Make sure that there is room on the disk for a file that is about to grow.

    Args:
        path: the file.
        size: by how many octets.
        what: what needs them, in words.
        hint: what to do about it.

    Raises:
        FileError: there is less room than that; where it cannot be determined, there is enough.

    """
    if not hasattr(os, "statvfs"):  # there, a full disk is met when it is full
        return
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return
    free = disk.f_bavail * disk.f_frsize
    if disk.f_blocks and free < size:
        why = f"{what} about {octets(size)}, and {octets(free)} are free on its disk"
        raise FileError(path, why, number=errno.ENOSPC, hint=hint)


def size(path: Path) -> int | None:
    """Return the size of a plain file in a folder of ours; None: it does not exist, or is something else.

    Raises:
        FileError: its folder is not ours.

    """
    if (opened := existing(path.parent)) is None:
        return None
    with opened:
        found = opened.look(path.name)
        return found.st_size if found is not None and stat.S_ISREG(found.st_mode) else None


def contents(path: Path) -> dict[str, os.stat_result]:
    """Return the plain files in a folder of ours; none if the folder does not exist.

    Raises:
        FileError: it is not ours.

    """
    if (opened := existing(path)) is None:
        return {}
    with opened:
        found = {name: opened.look(name) for name in opened.names()}
    return {name: facts for name, facts in found.items() if facts and stat.S_ISREG(facts.st_mode)}


def mark_used(path: Path, when: float) -> None:
    """Record in a file of ours that it was used at this time (seconds since 1970), if that is possible."""
    with contextlib.suppress(OSError), folder(path.parent, make=False) as opened:
        opened.set_time(path.name, when)


def clear(path: Path, names: re.Pattern[str], *, drafts: bool = True) -> None:
    """Remove the files that have these names from a folder of ours, and every draft in it.

    Args:
        path: the folder.
        names: which files.
        drafts: False, where others may be writing theirs: only those of dead processes.

    Raises:
        FileError: one cannot be removed, or the folder is not ours.

    """
    if (opened := existing(path)) is None:
        return
    with opened:
        for name in opened.names():
            found = opened.look(name) if names.match(name) else None
            if found is not None and not stat.S_ISDIR(found.st_mode):
                opened.remove(name)
        opened.sweep(living=drafts)


def open_in_place(path: Path, *, named: bool = False) -> int:
    """Open a file in a folder of ours for reading and writing, and return its descriptor; for locks.

    *named*: the user named it, and what is written is put at its end.

    Raises:
        FileError: it is a link, not a plain file, or has other names; or it cannot be made.

    """
    with named_folder(path.parent) if named else folder(path.parent) as opened:
        opened.plain(path.name)
        handle = opened.open(path.name, os.O_RDWR | os.O_CREAT | (os.O_APPEND if named else 0))
        try:
            _refuse_exchanged(opened, path, os.fstat(handle))
        except FileError:
            os.close(handle)
            raise
        return handle


def open_own(path: Path, *, hold: bool = False) -> BinaryIO:
    """Open a file that we have put into a folder of ours, for reading.

    Args:
        path: the file.
        hold: `remove_unused` leaves it alone for as long as it is open.

    Raises:
        FileError: it does not exist (ENOENT), or is a link, not a plain file, has other names, or belongs to
            somebody else.

    """
    with folder(path.parent, make=False) as opened:
        handle = opened.open(path.name, os.O_RDONLY)
        try:
            _refuse_not_own(opened, path, handle, hold=hold)
        except FileError:
            os.close(handle)
            raise
    return open(handle, "rb")  # noqa: PTH123  the caller closes it


def _refuse_not_own(opened: Folder, path: Path, handle: int, *, hold: bool) -> None:
    found = os.fstat(handle)
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        raise FileError(path, f"it belongs to another user (number {found.st_uid})", code="C489")
    if hold and not share(handle):
        raise FileError(path, "it is being removed", number=errno.ENOENT)
    _refuse_exchanged(opened, path, found)


def remove_unused(path: Path) -> bool:
    """Remove a file from a folder of ours unless somebody has it open; return whether it is gone.

    Raises:
        FileError: its folder is not ours.

    """
    with folder(path.parent, make=False) as opened:
        return opened.remove_unheld(path.name)


def private_folder(path: Path) -> None:
    """Make a folder of ours that nobody else can look into, and remove what dead processes left in it.

    Raises:
        FileError: it is a link, not a folder, belongs to somebody else, or cannot be made.

    """
    with folder(path, durable=True) as opened:
        if opened.at is not None and stat.S_IMODE(os.fstat(opened.at).st_mode) & 0o077:
            with contextlib.suppress(OSError):  # a file system without modes
                os.fchmod(opened.at, 0o700)
        opened.sweep()


# --- ways to open one ------------------------------------------------------------------------------------


def folder(path: Path, *, make: bool = True, named: bool = False, durable: bool = False) -> Folder:
    """Open a folder of ours, created with its parents if necessary.

    Args:
        path: the folder; neither it nor a folder of ours that it is in is followed as a link.
        make: make it: private, and with a ``.gitignore`` that keeps all of it out of repositories.
        named: the user named it as a place for files; it may belong to somebody else.
        durable: a new one survives a power cut.

    Raises:
        FileError: it is a link, not a folder, belongs to somebody else, or cannot be made or opened.

    """
    base, names = _split(path)
    if make:
        with telling(base):
            base.mkdir(parents=True, exist_ok=True)
    opened = followed(base, passing=bool(names))
    for name in names:
        with opened:
            made = make and opened.make(name)
            if made and durable:
                opened.sync()
            opened = opened.inside(name)
        try:
            if not named:
                _settle(opened, new=made and name not in _INSIDE)
        except BaseException:
            opened.close()
            raise
    return opened


def existing(path: Path) -> Folder | None:
    """Open a folder of ours; None: it does not exist.

    Raises:
        FileError: as for `folder`.

    """
    try:
        return folder(path, make=False)
    except FileError as error:
        if error.errno == errno.ENOENT:
            return None
        raise


def named_folder(path: Path) -> Folder:
    """Open a folder as the user named it, created if necessary.

    Raises:
        FileError: it cannot be made or opened.

    """
    with telling(path):
        path.mkdir(parents=True, exist_ok=True)
    return followed(path)


def _split(path: Path) -> tuple[Path, list[str]]:
    """Split a folder's path into what is followed, and the names that are not."""
    names: list[str] = []
    while path.name:
        names.insert(0, path.name)
        path = path.parent
        if names[0] not in _INSIDE:
            break
    return path, names


def _settle(opened: Folder, *, new: bool) -> None:
    """Refuse a folder that belongs to another user; keep a new one out of repositories."""
    if opened.at is not None:
        owner = os.fstat(opened.at).st_uid
        if owner not in {0, os.geteuid()} and not _gives_away(opened, owner):
            raise FileError(
                opened.path,
                f"this folder belongs to another user (number {owner})",
                code="C489",
                hint="work as that user, or move it away: its owner could change what is written there",
            )
    if new:
        # Lists and results are personal data. This only helps: everything works without it, too.
        with contextlib.suppress(FileError), opened.replacing(".gitignore") as stream:
            stream.write(b"*\n")


def _gives_away(opened: Folder, owner: int) -> bool:
    """Return whether all new files there belong to *owner*, as on some network disks and shared folders."""
    with contextlib.suppress(FileError), opened.draft_folder() as made:
        return made.at is not None and os.fstat(made.at).st_uid == owner
    return False


# --- databases -------------------------------------------------------------------------------------------


def open_database(
    path: Path, *, create: bool = False, read_only: bool = False, immutable: bool = False
) -> sqlite3.Connection:
    """Open an SQLite database in a folder of ours, in autocommit mode.

    Args:
        path: the file. Neither it nor one of its journals may be a link or have another name.
        create: make an empty file, private to its owner, if it does not exist.
        read_only: change nothing in it; SQLite may still need its shared memory next to it.
        immutable: nobody changes it meanwhile, so that nothing is written next to it either.

    Raises:
        FileError: it is not what it should be, or missing.
        sqlite3.Error: it cannot be opened.

    """
    import sqlite3

    with folder(path.parent, make=create) as opened:
        for journal in ("-wal", "-shm", "-journal"):
            opened.plain(path.name + journal)
        # SQLite opens by path, and closing a descriptor of ours would drop the locks that another connection
        # of this process has. So the file is only looked at, and again once SQLite has opened it.
        if opened.plain(path.name) is None and create:
            opened.create(path.name).close()
        options = f"?mode={'ro' if read_only else 'rw'}{'&immutable=1' if immutable else ''}"
        address = (path.parent.resolve() / path.name).as_uri() + options
        db = sqlite3.connect(address, uri=True, isolation_level=None, timeout=5.0)
        try:
            with telling(path):
                _refuse_exchanged(opened, path, path.stat())
        except BaseException:
            db.close()
            raise
        return db


def database_in_memory() -> sqlite3.Connection:
    """Make an empty SQLite database in memory only, in autocommit mode."""
    import sqlite3

    return sqlite3.connect(":memory:", isolation_level=None)


def _refuse_exchanged(opened: Folder, path: Path, has: os.stat_result) -> None:
    """Refuse what was opened if it is not the plain file that has this name.

    File and name are looked at together: a file whose other name was taken for this one only while we opened
    it has a single name again afterwards.
    """
    found = opened.plain(path.name)
    if found is None or not os.path.samestat(found, has):
        raise FileError(path, "somebody exchanged it while it was being opened", code="C488")


@contextlib.contextmanager
def create_database(path: Path) -> Iterator[sqlite3.Connection]:
    """Fill a new database that takes *path*'s place, durably, when the context ends well.

    Raises:
        FileError: it cannot be made.
        sqlite3.Error: SQLite cannot write it.

    """
    with Drafts(path.parent) as drafts:
        with contextlib.closing(drafts.database(path.name)) as db:
            yield db
        drafts.adopt(path.name)


class Drafts:
    """Files of one folder of ours that are written together, and take their places when all are complete.

    Use it as a context manager: what has not been adopted by then is removed.

    Args:
        path: the folder; created if necessary.

    Raises:
        FileError: no file can be made there.

    """

    def __init__(self, path: Path) -> None:
        self._folder = folder(path)
        try:
            self._drafts = self._folder.new_folder(DRAFT)
        except BaseException:
            self._folder.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def create(self, name: str) -> BinaryIO:
        """Begin the file that will have this name.

        Raises:
            FileError: it cannot be made.

        """
        return self._drafts.create(name)

    def reopen(self, name: str) -> BinaryIO:
        """Open what was begun as *name*, for reading."""
        return os.fdopen(self._drafts.open(name, os.O_RDONLY), "rb")

    def database(self, name: str) -> sqlite3.Connection:
        """Begin the database that will have this name.

        Raises:
            FileError: it cannot be made.
            sqlite3.Error: SQLite cannot open it.

        """
        return open_database(self._drafts.path / name, create=True)

    def call(self, name: str, other: str) -> None:
        """Let what was begun as *name* have another name in the end.

        Raises:
            FileError: that is not possible.

        """
        self._drafts.adopt(self._drafts, name, other, durable=False)

    def adopt(self, *names: str, durable: bool = True) -> None:
        """Put these files in their places, in this order; whatever has such a name is replaced.

        Args:
            names: which of them.
            durable: their names survive a power cut.

        Raises:
            FileError: one cannot be put there; those before it have been.

        """
        for name in names:
            self._folder.adopt(self._drafts, name, name, durable=durable)

    def close(self) -> None:
        """Remove what was not adopted.

        Raises:
            FileError: it cannot be removed.

        """
        with self._folder:
            self._folder.discard(self._drafts)


# --- what is only needed for a while ---------------------------------------------------------------------


class ScratchFolder:
    """A private folder among the system's temporary files; it goes with `close`, or is swept later.

    Raises:
        FileError: no place for one was found.

    """

    def __init__(self) -> None:
        self._among = _temporary()
        try:
            self._folder = self._among.new_folder(_SCRATCH)
        except BaseException:
            self._among.close()
            raise
        self.path = self._folder.path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove it with all that is in it, as far as that is possible."""
        with self._among, contextlib.suppress(FileError):
            if self.path.exists():
                self._among.discard(self._folder)


def _temporary() -> Folder:
    """Open the folder of temporary files that the environment or the system names."""
    places = [os.environ[name] for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)]
    for place in (*places, "/tmp", "/var/tmp", "/usr/tmp", str(Path.home())):  # noqa: S108
        path = Path(place).absolute()
        if path.is_dir() and os.access(path, os.W_OK | os.X_OK):
            return followed(path)
    raise FileError("/tmp", "no folder for temporary files was found", hint="set TMPDIR to one")  # noqa: S108


def sweep(*folders: Path, named: Iterable[Path] = ()) -> None:
    """Remove the drafts that dead processes left in these folders, and their scratch folders.

    What cannot be removed, and a folder that is not ours, is left to the next command that writes there.

    Args:
        folders: folders of ours.
        named: folders that the user named, so that the way to them is followed.

    """
    for path in folders:
        with contextlib.suppress(FileError):
            if (opened := existing(path)) is not None:
                with opened:
                    opened.sweep()
    for path in named:
        with contextlib.suppress(FileError), followed(path) as opened:
            opened.sweep()
    with contextlib.suppress(FileError), _temporary() as among:
        among.sweep(_SCRATCHES)
