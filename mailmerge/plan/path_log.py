"""Which files planning looked at, found or not, and which of them have changed later.

Only the look counts, not its purpose: a template that does not exist, an include that is tried and skipped,
the files that a pattern matches, an image under its second spelling. If none of that has changed, the same
list and options make the same plan.

A file counts as the same by its size, time of change and inode. Two edits within the clock tick of the file
system change none of them, so a file that was changed less than `YOUNG` before it was read is *young*: only
its content can tell. Content is hashed once, by whoever reads the file for its message, and again only if the
file is young or one of these differs.
"""

from __future__ import annotations

# os.path, not Path: this runs on every row
# ruff: noqa: PTH116, PTH118
import glob
import hashlib
import os
import stat
import time
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from mailmerge.file_system import FileSystem, stamp_of

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator
    from pathlib import Path

YOUNG = 2_000_000_000
"""Nanoseconds: the coarsest tick of a file system in use (FAT)."""
_MOST_PATTERNS = 200
"""Most patterns in one changed folder that are matched again; with more, the folder counts as changed."""

_MOST_ROWS = 100
"""Most rows that one path can belong to; what more rows look at counts for all."""

_State = tuple[int, int, int, int]
"""Kind (``stat.S_IFMT``), size, time of change in nanoseconds, inode; only the kind if it is not a file."""
_NOTHING: _State = (0, 0, 0, 0)


class LookedAt(Struct, frozen=True, array_like=True):
    """A path that was looked at."""

    path: bytes
    """As the system has it."""
    state: _State
    sha256: bytes = b""
    """Of its content, where that was read."""
    young: bool = False
    rows: tuple[int, ...] | None = None
    """The rows whose own file it is, by their numbers; None: any row may depend on it."""


class Matched(Struct, frozen=True, array_like=True):
    """A pattern that files were looked for with."""

    root: bytes
    pattern: str
    names: bytes
    """SHA-256 of the names that matched."""
    count: int
    rows: tuple[int, ...] | None = None
    """As in `LookedAt`."""


class Listed(Struct, frozen=True, array_like=True):
    """A folder that a pattern was matched in."""

    path: bytes
    state: _State
    """With the time of the last change of its entries."""
    young: bool
    entries: bytes
    """SHA-256 of their names."""


class LookedAtPaths(Struct, frozen=True, array_like=True):
    """Everything that was looked at, in the order of paths."""

    paths: tuple[LookedAt, ...] = ()
    patterns: tuple[Matched, ...] = ()
    folders: tuple[Listed, ...] = ()
    changed_meanwhile: tuple[bytes, ...] = ()
    """What changed while it was looked at: never to be trusted."""


class PathLog(FileSystem):
    """The system's files, with every look at them recorded.

    Args:
        now: the system's clock, in nanoseconds since 1970.

    """

    def __init__(self, now: Callable[[], int] = time.time_ns) -> None:
        self._now = now
        self._paths: dict[str, LookedAt] = {}
        self._patterns: dict[tuple[str, str], Matched] = {}
        self._folders: dict[str, Listed] = {}
        self._changed: set[bytes] = set()
        self._row: int | None = None
        self._rows: dict[str | tuple[str, str], set[int] | None] = {}
        """Whose own a path or a pattern is; None: any row may depend on it."""

    def looking_for(self, row: int | None) -> int | None:
        """See `FileSystem`."""
        before, self._row = self._row, row
        return before

    # --- looking --------------------------------------------------------------------------------------

    def stat(self, path: str) -> os.stat_result:
        """See `FileSystem`."""
        try:
            facts = os.stat(path)
        except OSError:
            self._note(path, _NOTHING)
            raise
        self._note(path, _state(facts))
        return facts

    def exists(self, path: str) -> bool:
        """See `FileSystem`."""
        self._note(path, _look(path))
        return os.path.lexists(path)

    def glob(self, root: str, pattern: str) -> list[str]:
        """See `FileSystem`."""
        for folder in _folders_of(root, pattern):
            self._note_folder(folder)
        names = super().glob(root, pattern)
        self._note_rows((root, pattern), self._row)
        matched = Matched(os.fsencode(root), pattern, _names_digest(names), len(names))
        if self._patterns.setdefault((root, pattern), matched) != matched:
            self._changed.add(os.fsencode(os.path.join(root, pattern)))
        return names

    def used_again(self, root: str, pattern: str) -> None:
        """See `FileSystem`."""
        self._note_rows((root, pattern), self._row)

    def read(self, path: Path) -> bytes:
        """See `FileSystem`."""
        facts = self.stat(str(path))
        data = super().read(path)
        self.hashed(str(path), facts, hashlib.sha256(data).hexdigest())
        return data

    def hashed(self, path: str, facts: os.stat_result, sha256: str) -> None:
        """See `FileSystem`."""
        self._note(path, _state(facts), bytes.fromhex(sha256))

    def _note(self, path: str, state: _State, sha256: bytes = b"") -> None:
        if not os.path.isabs(path):  # noqa: PTH117
            path = os.path.abspath(path)  # noqa: PTH100  links in it stay as they are
        self._note_rows(path, self._row)
        known = self._paths.get(path)
        if known is None or (sha256 and not known.sha256 and known.state == state):
            # Read later than it was first looked at, it may not be what was there then.
            young = state[2] > self._now() - YOUNG or (known is not None and known.young)
            self._paths[path] = LookedAt(os.fsencode(path), state, sha256, young)
        elif known.state != state or (sha256 and known.sha256 != sha256):
            self._changed.add(known.path)

    def _note_rows(self, looked_at: str | tuple[str, str], *rows: int | None) -> None:
        known = self._rows.setdefault(looked_at, set())
        if known is None:
            return
        if None in rows or len(known) > _MOST_ROWS:
            self._rows[looked_at] = None
        else:
            known.update(row for row in rows if row is not None)

    def _note_folder(self, path: str) -> None:
        state = _look(path, of_folder=True)
        known = self._folders.get(path)
        if known is None:
            self._folders[path] = Listed(
                os.fsencode(path), state, state[2] > self._now() - YOUNG, _entries_digest(path)
            )
        elif known.state != state and known.path not in self._changed:
            if known.entries != _entries_digest(path):
                self._changed.add(known.path)
            self._folders[path] = replace(known, state=state, young=True)

    def add(self, other: LookedAtPaths) -> None:
        """Add what somebody else has looked at meanwhile."""
        self._changed.update(other.changed_meanwhile)
        for one in other.paths:
            path = os.fsdecode(one.path)
            known = self._paths.get(path, one)
            self._note_rows(path, *_each(one.rows))
            sha256 = known.sha256 or one.sha256
            if known.state != one.state or (one.sha256 and sha256 != one.sha256):
                self._changed.add(one.path)
            self._paths[path] = replace(known, sha256=sha256, young=known.young or one.young)
        for matched in other.patterns:
            where = (os.fsdecode(matched.root), matched.pattern)
            self._note_rows(where, *_each(matched.rows))
            known_names = self._patterns.setdefault(where, replace(matched, rows=None))
            if known_names.names != matched.names:
                self._changed.add(os.fsencode(os.path.join(*where)))
        for folder in other.folders:
            path = os.fsdecode(folder.path)
            listed = self._folders.get(path, folder)
            if listed.entries != folder.entries:
                self._changed.add(folder.path)
            young = listed.young or folder.young or listed.state != folder.state
            self._folders[path] = replace(listed, young=young)

    # --- what was looked at ---------------------------------------------------------------------------

    def looked_at(self) -> LookedAtPaths:
        """Return everything, the same in whatever order it came."""
        hashed = {one.state: one.sha256 for one in self._paths.values() if one.sha256}
        paths = (
            # The same file may have been hashed by another path, through a link.
            replace(one, sha256=one.sha256 or hashed.get(one.state, b""), rows=self._own(path))
            for path, one in self._paths.items()
        )
        patterns = (replace(one, rows=self._own(where)) for where, one in self._patterns.items())
        return LookedAtPaths(
            tuple(sorted(paths, key=lambda one: one.path)),
            tuple(sorted(patterns, key=lambda one: (one.root, one.pattern))),
            tuple(sorted(self._folders.values(), key=lambda one: one.path)),
            tuple(sorted(self._changed)),
        )

    def _own(self, looked_at: str | tuple[str, str]) -> tuple[int, ...] | None:
        rows = self._rows[looked_at]
        return None if rows is None or len(rows) > _MOST_ROWS else tuple(sorted(rows))

    def take_over(self, earlier: LookedAtPaths, but: Container[int]) -> None:
        """Add what was looked at for a plan whose rows are taken over; none of it has changed since.

        Args:
            earlier: what was looked at then.
            but: the rows that are not taken over.

        """
        paths, patterns = [], []
        for one in earlier.paths:
            rows = _left(one.rows, but)
            path = os.fsdecode(one.path)
            if rows is None or rows:
                # If it was touched since, its content is the same: its current state counts.
                now = self._paths.get(path, one)
                paths.append(replace(now, sha256=now.sha256 or one.sha256, rows=rows))
        for matched in earlier.patterns:
            rows = _left(matched.rows, but)
            if rows is None or rows:
                patterns.append(replace(matched, rows=rows))
        # A changed folder in which these patterns still match the same files is looked at again.
        folders = [folder for folder in earlier.folders if os.fsdecode(folder.path) not in self._folders]
        self.add(LookedAtPaths(tuple(paths), tuple(patterns), tuple(folders)))


def _each(rows: tuple[int, ...] | None) -> tuple[int | None, ...]:
    return (None,) if rows is None else rows


def _left(rows: tuple[int, ...] | None, but: Container[int]) -> tuple[int, ...] | None:
    return rows if rows is None else tuple(row for row in rows if row not in but)


class PathChange(Struct, frozen=True):
    """Something that was looked at and has changed."""

    text: str
    """A description for people."""
    rows: tuple[int, ...] | None
    """The rows whose own it is; None: any row may depend on it."""


def told_paths(looked_at: LookedAtPaths, base: str) -> Iterator[str]:
    """Yield what was looked at, as text; paths in *base* are relative to it."""
    for one in looked_at.paths:
        size = f"{one.state[1]:,} octets" if stat.S_ISREG(one.state[0]) else "a folder"
        yield f"{_shown(one.path, base)}: {'not there' if one.state == _NOTHING else size}"
    for match in looked_at.patterns:
        shown = _shown(os.path.join(match.root, os.fsencode(match.pattern)), base)
        yield f"{shown}: {match.count:,} {'file' if match.count == 1 else 'files'}"


def path_changes(looked_at: LookedAtPaths, base: str) -> Iterator[PathChange]:
    """Yield what has changed, file by file; nothing if nothing has.

    Args:
        looked_at: what was looked at.
        base: the campaign's folder: paths in it are shown relative to it.

    """
    for path in looked_at.changed_meanwhile:
        yield PathChange(f"{_shown(path, base)} changed while the plan was made", None)
    for one in looked_at.paths:
        found = _look(one.path)
        if found == one.state and not one.young:
            continue
        if what := _difference(one, found):
            yield PathChange(f"{_shown(one.path, base)} {what}", one.rows)
    yield from _pattern_changes(looked_at, base)


def _difference(one: LookedAt, found: _State) -> str:
    if _NOTHING in (found, one.state):
        return "" if found == one.state else "was removed" if found == _NOTHING else "appeared"
    if not one.sha256 or not stat.S_ISREG(found[0]):
        return "changed"
    try:
        with open(os.fsdecode(one.path), "rb") as file:  # noqa: PTH123
            content = hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        return f"cannot be read any more ({error.strerror})"
    return "" if content == one.sha256 else "changed"


def _pattern_changes(looked_at: LookedAtPaths, base: str) -> Iterator[PathChange]:
    changed = {folder.path for folder in looked_at.folders if _is_changed(folder)}
    if not changed:
        return
    patterns = [
        one
        for one in looked_at.patterns
        if not changed.isdisjoint(map(os.fsencode, _folders_of(os.fsdecode(one.root), one.pattern)))
    ]
    if len(patterns) > _MOST_PATTERNS:
        yield from (PathChange(f"files in {_shown(path, base)} changed", None) for path in sorted(changed))
        return
    for one in patterns:
        names = FileSystem().glob(os.fsdecode(one.root), one.pattern)
        if _names_digest(names) != one.names:
            shown = _shown(os.path.join(one.root, os.fsencode(one.pattern)), base)
            yield PathChange(f"{_more(len(names) - one.count)} {shown}", one.rows)


def _is_changed(folder: Listed) -> bool:
    found = _look(folder.path, of_folder=True)
    if found == folder.state and not folder.young:
        return False
    return _entries_digest(os.fsdecode(folder.path)) != folder.entries


def _more(count: int) -> str:
    files = "file" if abs(count) == 1 else "files"
    if count > 0:
        return f"{count} more {files} match{'es' if count == 1 else ''}"
    if count < 0:
        return f"{-count} {files} fewer match{'es' if count == -1 else ''}"
    return "other files match"


# --- looking -----------------------------------------------------------------------------------------------


def _state(facts: os.stat_result, *, of_folder: bool = False) -> _State:
    kind = stat.S_IFMT(facts.st_mode)
    if of_folder:
        return kind, 0, facts.st_mtime_ns, facts.st_ino
    # What is in a folder is another question.
    return (kind, *stamp_of(facts)) if stat.S_ISREG(kind) else (kind, 0, 0, 0)


def _look(path: str | bytes, *, of_folder: bool = False) -> _State:
    try:
        return _state(os.stat(path), of_folder=of_folder)
    except (OSError, ValueError):
        return _NOTHING


def _folders_of(root: str, pattern: str) -> Iterable[str]:
    """Yield the folders whose entries decide what matches *pattern*, as they are now."""
    parts = pattern.replace(os.sep, "/").split("/")
    first = next((place for place, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    folders = [os.path.join(root, *parts[:first])]
    for place in range(first + 1, len(parts) + (parts[-1] == "**")):
        above = "/".join([*parts[:place], ""])  # with a slash at its end it only matches folders
        names = glob.glob(above, root_dir=root, recursive=True)  # noqa: PTH207
        folders += [os.path.join(root, name) for name in names]
    return folders


def _names_digest(names: Iterable[str]) -> bytes:
    return hashlib.sha256(b"\0".join(map(os.fsencode, names))).digest()


def _entries_digest(path: str) -> bytes:
    try:
        with os.scandir(path) as found:
            return _names_digest(sorted(entry.name + "/" * entry.is_dir() for entry in found))
    except OSError:
        return b""


def _shown(path: bytes, base: str) -> str:
    text = os.fsdecode(path)
    folder, name = os.path.split(text)
    whole = os.path.join(os.path.realpath(folder), name)
    inside = whole.startswith(base.rstrip(os.sep) + os.sep)
    shown = os.path.relpath(whole, base) if inside else text
    return shown.encode("utf-8", "backslashreplace").decode()
