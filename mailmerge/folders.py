"""Open folders: what is in one is reached by name, through the open directory, and no link is followed.

A campaign's folder may come from anybody, as a zip, a clone or on a shared drive: the very name that we are
about to write may already be a link to something important. Four rules keep us inside our own folders.

1. A *folder of ours* (``.mailmerge``, ``out`` and the folders in it, the user's state folder) is a real
   directory that belongs to us. The way to it is the user's: its parents are followed as they were named.
2. What is in a folder is reached through the open directory (openat and its relatives) by a single name, and
   that name is never followed. So nothing can be exchanged between a look and the write.
3. A file is written as a *draft* under a random name and takes its place by a rename: whatever had the name
   before, a link, a pipe, a second name of some other file, is replaced and not written through. What has to
   be written in place (locks, databases) must be a plain file that has no other name.
4. A draft is locked by the process that writes it. The system frees that lock when the process dies, however
   it dies, so a draft that can be locked has no owner any more, and `Folder.sweep` removes it.

Windows has no directory descriptors. There every component is checked first and then used by its path, which
leaves a moment in which somebody else who can write there could exchange it; and a file that is open cannot
be removed there, which replaces the lock.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import stat
import sys
from typing import TYPE_CHECKING, BinaryIO, Self

from mailmerge.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

if sys.platform != "win32":
    import fcntl

DRAFT = ".mailmerge-draft-"
DRAFTS = re.compile(r"\.mailmerge-draft-[0-9a-f]{16}\Z")

_DEEPEST = 8
"""More levels than any tree that we make has."""
_BUFFER = 1 << 16
_OWNER = "owner"

_NO_DISK = ("/proc/", "/sys/", "/dev/")
_DESCRIPTORS = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
# A pipe in a file's place must not keep us waiting, nor Windows translate line ends.
_FILE = _NOFOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_ANSWERS_TO_LINKS = {
    errno.ELOOP,
    getattr(errno, "EMLINK", errno.ELOOP),
    getattr(errno, "EFTYPE", errno.ELOOP),
}
# A parent need not be readable by us, only passable, and some (/home) are not readable.
_PARENT = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0)


class Folder:
    """An open folder; get one from `folder`, `existing` or `followed`, and use it as a context manager.

    Names of what is in it have no separators.
    """

    def __init__(self, path: Path, at: int | None) -> None:
        self.path = path
        """As the user named it, for messages."""
        self.at = at
        """Its descriptor; None where the system has none."""
        self._owner: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; what was written stays."""
        at, self.at = self.at, None
        if at is not None:
            os.close(at)
        if self._owner is not None:
            self._owner.close()

    # --- looking --------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """List what is in it."""
        with telling(self.path), os.scandir(self.path if self.at is None else self.at) as found:
            return [entry.name for entry in found]

    def look(self, name: str) -> os.stat_result | None:
        """Return what has this name, a link as a link; None: nothing has it."""
        with telling(self.path / name):
            try:
                return os.stat(self._where(name), dir_fd=self.at, follow_symlinks=False)
            except FileNotFoundError:
                return None

    def device(self) -> int:
        """Return the number of its file system."""
        return (self.path.lstat() if self.at is None else os.fstat(self.at)).st_dev

    def plain(self, name: str) -> os.stat_result | None:
        """Look at a file that is written in place; None: it does not exist.

        Raises:
            FileError: what has the name is a link, not a file, or a file that has other names, too.

        """
        found = self.look(name)
        if found is not None:
            refuse_shared(self.path / name, found)
        return found

    def content(self, name: str, most: int) -> bytes:
        """Read a plain file of at most *most* octets, never through a link; empty if there is none like that.

        Raises:
            FileError: it cannot be read.

        """
        found = self.look(name)
        if found is None or not stat.S_ISREG(found.st_mode) or found.st_size > most:
            return b""
        with os.fdopen(self.open(name, os.O_RDONLY), "rb") as stream:
            return stream.read(most)

    # --- writing --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def replacing(self, name: str) -> Iterator[BinaryIO]:
        """Write a private file that takes *name* when it is complete; if that fails, nothing has changed.

        Raises:
            FileError: it cannot be written.

        """
        with self.draft(name) as draft:
            yield draft.stream

    @contextlib.contextmanager
    def draft(self, name: str = "") -> Iterator[UnfinishedFile]:
        """Write a file as `replacing` does, under a name that may be set as late as at the end.

        Raises:
            FileError: it cannot be written.

        """
        drafted, handle = self._new_draft()
        try:
            with io.BufferedWriter(_PrivateFile(handle, self.path / name), _BUFFER) as stream:
                draft = UnfinishedFile(stream, name)
                yield draft
                stream.flush()
                with telling(self.path / draft.name):
                    if self.at is None:
                        stream.close()
                    # While the file is still open and so locked: no `sweep` can come in between.
                    self._rename(self, drafted, draft.name)
        except BaseException:
            with contextlib.suppress(FileError):
                self.remove(drafted)
            raise

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """Open a file as the system does, but never through a link, and return its descriptor.

        Raises:
            FileError: it cannot be opened like that.

        """
        with telling(self.path / name):
            if self.at is None and (found := self.look(name)) is not None and _is_link(found):
                raise _link(self.path / name)
            return os.open(self._where(name), flags | _FILE, mode, dir_fd=self.at)

    def create(self, name: str, *, mode: int = 0o600) -> BinaryIO:
        """Make a file that does not exist yet and open it for writing.

        Raises:
            FileError: something has this name already, or it cannot be made.

        """
        handle = self.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        return io.BufferedWriter(_PrivateFile(handle, self.path / name), _BUFFER)

    def remove(self, name: str) -> None:
        """Remove a file, or a link itself; nothing happens if it does not exist.

        Raises:
            FileError: it cannot be removed, or is a folder.

        """
        with telling(self.path / name), contextlib.suppress(FileNotFoundError):
            os.unlink(self._where(name), dir_fd=self.at)

    def set_time(self, name: str, when: float) -> None:
        """Set the time of a file's last change, or that of a link itself.

        Raises:
            FileError: it cannot be set.

        """
        with telling(self.path / name):
            os.utime(self._where(name), (when, when), dir_fd=self.at, follow_symlinks=False)

    def remove_unheld(self, name: str) -> bool:
        """Remove a file, or a link itself, unless somebody shares it (`share`); return whether it is gone.

        Windows does not remove a file that is open.
        """
        found = self.look(name)
        with contextlib.suppress(FileError):
            if found is None or not stat.S_ISREG(found.st_mode) or sys.platform == "win32":
                self.remove(name)
                return True
            handle = self.open(name, os.O_RDONLY)
            try:
                if _lock(handle, otherwise=True) and os.path.samestat(found, os.fstat(handle)):
                    self.remove(name)
                    return True
            finally:
                os.close(handle)
        return False

    def remove_tree(self, name: str, levels: int = _DEEPEST) -> None:
        """Remove a folder with all that is in it; links in it are removed, and what they point to stays.

        Raises:
            FileError: it cannot be removed, or is not ours: a link, a mount point, endlessly deep.

        """
        with self.inside(name) as inner:
            if inner.device() != self.device() or not levels:
                raise FileError(inner.path, "mailmerge did not make this", code="C488", hint="move it away")
            for entry in inner.names():
                found = inner.look(entry)
                if found is not None and stat.S_ISDIR(found.st_mode):
                    inner.remove_tree(entry, levels - 1)
                else:
                    inner.remove(entry)
        with telling(self.path / name):
            os.rmdir(self._where(name), dir_fd=self.at)

    # --- folders in it --------------------------------------------------------------------------------

    def make(self, name: str) -> bool:
        """Make a private folder; return False if it exists, or something else has the name.

        Raises:
            FileError: it cannot be made.

        """
        with telling(self.path / name):
            try:
                os.mkdir(self._where(name), 0o700, dir_fd=self.at)
            except FileExistsError:
                return False
        return True

    def inside(self, name: str) -> Folder:
        """Open a folder that is in this one.

        Raises:
            FileError: it is a link, not a folder, or cannot be opened.

        """
        path = self.path / name
        with telling(path):
            if self.at is not None:
                with contextlib.suppress(NotADirectoryError):
                    try:
                        return Folder(path, os.open(name, _DIRECTORY | _NOFOLLOW, dir_fd=self.at))
                    except OSError as error:
                        if error.errno not in _ANSWERS_TO_LINKS:
                            raise
            found = self.look(name)
            if found is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if _is_link(found):
            raise _link(path)
        if not stat.S_ISDIR(found.st_mode):
            why = "this is not a folder, and a folder must be here"
            raise FileError(path, why, number=errno.ENOTDIR, code="C488", hint="move it away")
        return Folder(path, None)

    # --- drafts ---------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def draft_folder(self) -> Iterator[Folder]:
        """Make a folder whose files are drafts of files in this one; it goes with the context."""
        inner = self.new_folder(DRAFT)
        try:
            yield inner
        finally:
            self.discard(inner)

    def adopt(self, draft: Folder, old: str, new: str, *, durable: bool = True) -> None:
        """Put the file *old* of a draft folder here as *new*, so that its name survives a power cut.

        Raises:
            FileError: it cannot be put there.

        """
        with telling(self.path / new):
            self._rename(draft, old, new)
        if durable:
            self.sync()

    def new_folder(self, prefix: str) -> Folder:
        """Make a private folder in this one, locked before any `sweep` can lock it.

        Raises:
            FileError: it cannot be made.

        """
        while True:
            name = prefix + os.urandom(8).hex()
            if not self.make(name):
                continue
            with _passing_over():
                inner = self.inside(name)
                if inner.at is None:
                    inner.claim()
                    return inner
                if self._holds(name, inner.at):
                    return inner
                inner.close()

    def discard(self, inner: Folder) -> None:
        """Remove what `new_folder` made, with all that is in it, and close it.

        Raises:
            FileError: it cannot be removed.

        """
        if inner.at is None:
            inner.close()
        try:
            # Locked until it is gone, so that no `sweep` works on it at the same time.
            self.remove_tree(inner.path.name)
        finally:
            inner.close()

    def claim(self) -> None:
        """Where folders cannot be locked: keep a file in it open, which nobody can remove then."""
        self._owner = self.create(_OWNER)

    def is_unclaimed(self) -> bool:
        """Return whether the process that claimed it is gone."""
        with contextlib.suppress(FileError):
            self.remove(_OWNER)
            return True
        return False

    def sweep(self, names: re.Pattern[str] = DRAFTS, *, living: bool = False) -> None:
        """Remove drafts that have no owner any more; skip one that cannot be removed.

        Args:
            names: which names drafts have here.
            living: also remove those that a process has, and skip none.

        Raises:
            FileError: one of the *living* or dead cannot be removed, or the folder cannot be read.

        """
        for name in self.names():
            found = self.look(name) if names.match(name) else None
            if found is None or (hasattr(os, "geteuid") and found.st_uid != os.geteuid()):
                continue
            if stat.S_ISDIR(found.st_mode):
                with _passing_over(everything=not living), self.inside(name) as inner:
                    if (_lock(inner.at) if inner.at is not None else inner.is_unclaimed()) or living:
                        self.remove_tree(name)
            elif stat.S_ISREG(found.st_mode):
                with _passing_over(everything=not living):
                    handle = self.open(name, os.O_RDWR)
                    try:
                        if living or _lock(handle):
                            self.remove(name)
                    finally:
                        os.close(handle)

    def _new_draft(self) -> tuple[str, int]:
        """Make a file and lock it before any `sweep` can."""
        while True:
            name = DRAFT + os.urandom(8).hex()
            handle = self.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            if self._holds(name, handle):
                return name, handle
            os.close(handle)

    def _holds(self, name: str, handle: int) -> bool:
        """Lock what was made; return False if a `sweep` was quicker, and it is gone or soon will be."""
        if not _lock(handle, otherwise=True):
            return False
        found = self.look(name)
        return found is not None and os.path.samestat(found, os.fstat(handle))

    # --- the system's calls ---------------------------------------------------------------------------

    def _where(self, name: str) -> str:
        if name in {"", ".", ".."} or "/" in name or os.sep in name:
            raise RuntimeError(f"{name!r} is not the name of something in a folder")
        return name if self.at is not None else str(self.path / name)

    def _rename(self, source: Folder, old: str, new: str) -> None:
        at = source.at
        old = old if at is not None else str(source.path / old)
        os.replace(old, self._where(new), src_dir_fd=at, dst_dir_fd=self.at)

    def sync(self) -> None:
        """Make its names durable, as far as the system can synchronise a folder."""
        if self.at is not None:
            with contextlib.suppress(OSError):
                readable = os.open(".", _DIRECTORY, dir_fd=self.at)
                try:
                    os.fsync(readable)
                finally:
                    os.close(readable)


class UnfinishedFile:
    """A file that is being written, and the name that it will have."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.stream = stream
        self.name = name


class _PrivateFile(io.FileIO):
    """A file whose write errors name the file that it is going to be."""

    def __init__(self, handle: int, path: Path) -> None:
        super().__init__(handle, "wb")
        self._path = path

    def write(self, data: object) -> int:
        with telling(self._path):
            return super().write(data)  # type: ignore[arg-type]


# --- the way in ------------------------------------------------------------------------------------------


def followed(path: Path, *, passing: bool = False) -> Folder:
    """Open a folder as the user named it, through links if that is the way.

    *passing*: only what is in it will be opened, so that we need not be able to read it (as in ``/home``).

    Raises:
        FileError: it does not exist, or cannot be opened.

    """
    with telling(path):
        return Folder(path, os.open(path, _PARENT if passing else _DIRECTORY) if _DESCRIPTORS else None)


def open_to_read(path: str | bytes) -> BinaryIO:
    """Open a file for reading: not through a link, and without waiting where a pipe has taken its place.

    Raises:
        OSError: it cannot be opened.

    """
    return open(os.open(path, os.O_RDONLY | _FILE), "rb")  # noqa: PTH123  the caller closes it


def read_plain(path: Path, most: int) -> bytes:
    """Read a file that a campaign's folder has, or names: it may be a pipe, a device or endless.

    Args:
        path: the file; links are followed.
        most: octets; a larger file is refused.

    Raises:
        OSError: it cannot be read, or is not a plain file of that size.

    """
    handle = os.open(path, os.O_RDONLY | _FILE & ~_NOFOLLOW)
    with open(handle, "rb") as file:  # noqa: PTH123  the very file that was looked at
        if why := _odd(os.fstat(handle), path, most):
            raise OSError(errno.EINVAL, why)
        return file.read()


def refuse_odd(path: Path, most: int) -> None:
    """Refuse to read what `read_plain` would not.

    Raises:
        OSError: it is not a plain file of that size, or does not exist.

    """
    if why := _odd(path.stat(), path, most):
        raise OSError(errno.EINVAL, why)


def _odd(found: os.stat_result, path: Path, most: int) -> str:
    if stat.S_ISDIR(found.st_mode):
        return "it is a folder"
    if not stat.S_ISREG(found.st_mode):
        return "it is not a plain file"
    real = os.path.realpath(path)
    if real.startswith(_NO_DISK) and not real.startswith("/dev/shm/"):  # noqa: S108  files like any others
        return "it is not a file on a disk: the system generates it"
    return f"it is larger than {most // 1_000_000} MB" if found.st_size > most else ""


# --- looking and telling ---------------------------------------------------------------------------------


@contextlib.contextmanager
def telling(path: Path) -> Iterator[None]:
    """Turn an error of the system into a `FileError` that names the whole path."""
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        raise FileError(path, error.strerror or str(error), number=error.errno) from error


@contextlib.contextmanager
def _passing_over(*, everything: bool = False) -> Iterator[None]:
    """Ignore what another `sweep` removed meanwhile; *everything*: also whatever cannot be removed."""
    try:
        yield
    except FileError as error:
        if not everything and error.errno != errno.ENOENT:
            raise


def refuse_special(path: Path, found: os.stat_result) -> None:
    """Refuse to write to what is a link, a folder, a pipe or a device.

    Raises:
        FileError: it is one.

    """
    if _is_link(found):
        raise _link(path)
    if stat.S_ISDIR(found.st_mode):
        raise FileError(path, "this is a folder", number=errno.EISDIR, hint="name a file")
    if not stat.S_ISREG(found.st_mode):
        raise FileError(path, "this is not a plain file", code="C488", hint="move it away, or name a file")


def refuse_shared(path: Path, found: os.stat_result) -> None:
    """Refuse to write in place what is not a plain file, or has another name somewhere.

    Raises:
        FileError: it is one of these.

    """
    refuse_special(path, found)
    if found.st_nlink > 1:
        why = "this file has another name somewhere else (a hard link)"
        hint = "put a copy of it in its place: the file with the other name then stays unchanged"
        raise FileError(path, why, code="C488", hint=hint)


def _link(path: Path) -> FileError:
    hint = "remove this link (what it points to stays unchanged), or name the place that it points to"
    return FileError(path, "this is a symbolic link", code="C488", hint=hint)


def _is_link(found: os.stat_result) -> bool:
    reparse = getattr(stat, "FILE_ATTRIBUTE_REPARSE_POINT", 0) & getattr(found, "st_file_attributes", 0)
    return stat.S_ISLNK(found.st_mode) or bool(reparse)


def share(handle: int) -> bool:
    """Lock an open file, shared with others; return False if somebody is about to remove it."""
    if sys.platform != "win32":
        with contextlib.suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
    return True


def _lock(handle: int, *, otherwise: bool = False) -> bool:
    """Lock an open file or folder if nobody has; *otherwise*: the result where nothing can be locked."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return otherwise
    return True
