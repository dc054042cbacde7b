"""From a path in a rule, a tag or a cell to the regular files that it denotes inside a base folder.

A path may come from a cell, so it is not trusted: relative only, regular files only, and what it resolves to,
including links, must be inside the base folder. Composed and decomposed spellings of a name (Unicode NFC and
NFD: macOS, zip files and file servers turn one into the other) are one name.
"""

from __future__ import annotations

# os.path, not Path: this runs on every row, and its handling of links is exact
# ruff: noqa: PTH112, PTH117, PTH118, PTH119
import os
import re
import stat
from typing import TYPE_CHECKING
from unicodedata import normalize

from msgspec import Struct

from mailmerge.file_system import FILE_SYSTEM, FileSystem, PrivateFiles
from mailmerge.lazy_re import lazy_re
from mailmerge.text import near, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mailmerge.model import Missing, Place

_BAD_IN_PATH = "[\x00-\x1f\x7f-\x9f\ud800-\udfff]"
_NOT_RELATIVE = r"[/\\~]|[A-Za-z]:"
"""Absolute somewhere: a drive letter, a network share, a home folder."""
_MAGIC = lazy_re(r"[*?[]")
_ESCAPED = lazy_re(r"\[([*?[])\]")
_ONE = r"\1"
"""How ``glob.escape`` writes the three characters: text from a cell is always escaped this way in a path."""
_TOKENS = lazy_re(r"(\[[*?[]\]|\[[^\]]+\]|\*+|\?)")
_MOST_STARS = 4
LONGEST_PATH = 4096
"""Most characters of a path; searching for longer ones would take too long."""
_SEVERAL = lazy_re(r"\s*[;,|\n]\s*|\s+(?:and|und|et|y)\s+")
_INVISIBLE = lazy_re(r"[\s\u200b-\u200f\u2060\ufeff]+")
_MOST_COMPARED = 100
"""Most letters of a missing name, and most names of its folder, that are compared for hints."""
_MOST_HINTS = 50
"""How often that is done: it takes time, and after so many hints a user knows."""
_MOST_FOLDERS = 64
_WITHOUT = 'put the file there, or correct its name; only if rows may be sent without it: `missing = "skip"`'
_EMPTY = 'fill in the cell; only if rows may be sent without a file: `missing = "skip"`'


class FileProblem(Exception):
    """A file cannot be attached; the builder decides whether it is an error of the row or of the campaign."""

    def __init__(self, code: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.place: Place | None = None
        self.row: int | None = None
        """Which of several rows of a message caused it; None: the first one."""


class WantedPath(Struct, frozen=True):
    """A relative path or glob from a rule or a cell: checked as a string, not yet searched for."""

    text: str
    shown: str
    """As its author wrote it, without the escapes of cells."""
    literal: bool
    """Whether it names one file."""

    @classmethod
    def parse(cls, text: str, *, literal: bool = False) -> WantedPath:
        """Read a path; a *literal* one has no escapes and is never a glob.

        Raises:
            FileProblem: it contains control characters, or is not relative on every system.

        """
        if len(text) > LONGEST_PATH:
            hint = f"at most {LONGEST_PATH:,} are possible: correct it"
            raise FileProblem("D166", f"a path of {len(text):,} characters: {quoted(text)}", hint)
        shown = text if literal else _ESCAPED.sub(_ONE, text)
        if re.search(_BAD_IN_PATH, text):
            hint = "one name per cell: a second file needs its own column and [[attach]]"
            raise FileProblem(
                "A302",
                f"the attachment's path contains a control character: {quoted(shown)}",
                hint if "\n" in text else None,
            )
        if os.path.isabs(text) or re.match(_NOT_RELATIVE, text):
            raise FileProblem(
                "A302",
                f"the attachment's path must be relative: {quoted(shown)}",
                "is it meant to be sent? name its folder: `base` in [[attach]], and write the path within it",
            )
        return cls(text, shown, literal=literal or not _MAGIC.search(_ESCAPED.sub("", text)))

    def is_cut(self, name: str) -> bool:
        """Return whether a ``*`` next to a digit matched more digits: ``1*.pdf`` also finds 10.pdf."""
        pattern = os.path.basename(self.text)
        pieces = [piece for piece in _TOKENS.split(pattern) if piece]
        if pattern.count("*") > _MOST_STARS:
            return False
        forms = ("(.*)" if one[0] == "*" else _form(one) for one in pieces)
        found = re.fullmatch("".join(forms), normalize("NFC", os.path.basename(name)), re.DOTALL)
        stars = [place for place, piece in enumerate(pieces) if piece[0] == "*"]
        for place, matched in zip(stars, found.groups() if found else (), strict=False):
            before, after = pieces[place - 1] if place else "", "".join(pieces[place + 1 : place + 2])
            if _joined(before, matched) or _joined(matched, after):
                return True
        return False


def _form(piece: str) -> str:
    """Return the regular expression of a piece of a glob other than a star."""
    escaped = _ESCAPED.fullmatch(piece)
    if escaped:
        return re.escape(escaped[1])
    return "." if piece == "?" or piece[0] == "[" else re.escape(normalize("NFC", piece))


def _joined(one: str, other: str) -> bool:
    return one[-1:].isdigit() and other[:1].isdigit()


class FileSearch:
    """Finds the files of one campaign's messages.

    Args:
        files: how files are examined.
        own: our own files, which no message may contain.

    """

    def __init__(self, files: FileSystem = FILE_SYSTEM, own: PrivateFiles | None = None) -> None:
        self.files = files
        self._own = own or PrivateFiles()
        self._names: dict[str, dict[str, list[str]]] = {}
        self._near_left = _MOST_HINTS

    def find(
        self,
        base: Path,
        path: str,
        missing: Missing = "error",
        *,
        literal: bool = False,
        alone: bool = False,
        fixed: bool = False,
    ) -> list[str]:
        """Return the files that *path*, a relative path or glob, denotes, links resolved, in order of names.

        Args:
            base: the folder to which *path* is relative, and which it may not leave.
            path: from a rule or a cell.
            missing: what to do if no file is found.
            literal: *path* is never a glob.
            fixed: *path* comes from the author, not a row: it may be a template that is also attached.
            alone: the file is for one row: a glob must not match a name with another number.

        Raises:
            FileProblem: no file is found and *missing* is ``error``, or one is outside *base*, not a regular
                file, or, for *alone*, perhaps another row's.

        """
        found: list[str] = []
        if path:
            wanted, root = WantedPath.parse(path, literal=literal), os.path.realpath(base)
            for file in self._expand(wanted, root):
                if real := self._regular(wanted, root, file, fixed=fixed):
                    if alone and not wanted.literal and wanted.is_cut(file):
                        raise _cut(wanted, file)
                    found.append(real)
        if not found and missing == "error":
            if path:
                raise FileProblem("A301", f"no file {quoted(wanted.shown)}", self._hint(wanted, root))
            raise FileProblem("A301", "the attachment's path is empty", _EMPTY)
        return list(dict.fromkeys(found))

    def _expand(self, wanted: WantedPath, root: str) -> Iterator[str]:
        """Yield the paths under *root* that it denotes: itself, or what a glob finds in order, but folders.

        A file with exactly that name comes before the glob that its name looks like.
        """
        path = os.path.join(root, wanted.shown)
        if self.files.exists(path):
            yield path
        elif wanted.literal:
            yield self._respelled(wanted.shown, root) or path
        else:
            for name in self._matching(wanted, root):
                if not os.path.isdir(path := os.path.join(root, name)):
                    yield path

    def _matching(self, wanted: WantedPath, root: str) -> list[str]:
        if wanted.text.isascii():
            return self.files.glob(root, wanted.text)
        parts = wanted.text.split("/")
        plain = next(place for place, part in enumerate(parts) if _MAGIC.search(_ESCAPED.sub("", part)))
        folder = "".join(f"{_ESCAPED.sub(_ONE, part)}/" for part in parts[:plain])
        found = self._respelled(folder, root) if folder else root
        if found is None:
            return []
        rest = "/".join(parts[plain:])
        spellings = (rest, normalize("NFC", rest), normalize("NFD", rest))
        names = {name for text in dict.fromkeys(spellings) for name in self.files.glob(found, text)}
        return sorted(os.path.join(found, name) for name in names)

    def _regular(self, wanted: WantedPath, root: str, file: str, *, fixed: bool) -> str | None:
        """Resolve the links of *file* and return the resulting regular file; None: the file does not exist.

        Raises:
            FileProblem: it is outside *root*, which contains no links itself, is not a regular file, or is
                ours.

        """
        real = os.path.realpath(file)
        if not (real + os.sep).startswith(root.rstrip(os.sep) + os.sep):
            self.files.exists(file)  # for the record of examined files
            raise FileProblem(
                "A302",
                f"{quoted(wanted.shown)} leads out of the folder for attachments",
                "is it meant to be sent? copy it into that folder, or name its own: `base` in [[attach]]",
            )
        try:
            facts = self.files.stat(file)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            why = (error.strerror or "").lower()
            raise FileProblem("A303", f"cannot read {quoted(wanted.shown)}: {why}") from None
        if not stat.S_ISREG(facts.st_mode):
            kind = "a folder" if stat.S_ISDIR(facts.st_mode) else "not a regular file"
            raise FileProblem("A303", f"{quoted(wanted.shown)} is {kind}")
        if what := self._own.what(root, real, facts, wanted.shown, template=fixed):
            raise FileProblem(
                "A316",
                f"{quoted(wanted.shown)} is {what}: it is never sent",
                "put text that recipients are meant to read into a file of its own",
            )
        return real

    # --- names that are spelled differently --------------------------------------------------------

    def _respelled(self, path: str, root: str) -> str | None:
        """Return the name that differs only in composed and decomposed characters; None: not found.

        Raises:
            FileProblem: there are several, and none is spelled exactly this way.

        """
        if path.isascii() and not path.endswith("/"):
            return None
        found = root
        for part in path.split("/"):
            if part in {"", "."} or self.files.exists(os.path.join(found, part)):
                found = os.path.join(found, part)
                continue
            same = [
                name for name in self._like(found, part) if normalize("NFC", name) == normalize("NFC", part)
            ]
            if len(same) > 1:
                raise FileProblem(
                    "A301",
                    f"there are {len(same)} files {quoted(part)}, which differ only in the form of accents",
                    "remove all but one of them",
                )
            if not same:
                return None
            found = os.path.join(found, same[0])
        return found

    def _like(self, folder: str, name: str) -> list[str]:
        """Return the names in *folder* that equal *name* but for case, spaces and the form of accents."""
        return self._folded(folder).get(_fold(name), [])

    def _folded(self, folder: str) -> dict[str, list[str]]:
        known = self._names.get(folder)
        if known is None:
            if len(self._names) >= _MOST_FOLDERS:
                self._names.clear()
            known = self._names[folder] = {}
            for name in self.files.glob(folder, "*"):
                known.setdefault(_fold(name), []).append(name)
        else:
            self.files.used_again(folder, "*")
        return known

    def _hint(self, wanted: WantedPath, root: str) -> str:
        """Return a hint at what was probably intended; going without a file comes last."""
        for text in dict.fromkeys((wanted.shown, wanted.shown.replace("\\", "/"))):
            meant = self._meant(text, root) if wanted.literal else None
            if meant and not self._is_ours(root, meant):
                return f"did you mean {quoted(meant)}?"
        folder, _, name = wanted.shown.rpartition("/")
        several = [f"{folder}/{piece}".strip("/") for piece in _SEVERAL.split(name) if piece]
        several += filter(None, _SEVERAL.split(wanted.shown))
        if _SEVERAL.search(wanted.shown) and any(self._meant(one, root) for one in several):
            return "that cell names several files: give each its own column and its own [[attach]]"
        return _WITHOUT

    def _is_ours(self, root: str, name: str) -> bool:
        real = os.path.realpath(os.path.join(root, name))
        try:
            return bool(self._own.what(root, real, self.files.stat(real), name))
        except OSError:
            return True

    def _meant(self, text: str, root: str) -> str | None:
        """Return the path that differs from *text* in case, spaces or one or two letters."""
        parts: list[str] = []
        for part in filter(None, text.split("/")):
            folder = os.path.join(root, *parts)
            if self.files.exists(os.path.join(folder, part)):
                parts.append(part)
                continue
            names = self._like(folder, part)
            if not names and len(part) <= _MOST_COMPARED and self._near_left:
                self._near_left -= 1
                there = [name for several in self._folded(folder).values() for name in several]
                names = list(near(part, there)) if len(there) <= _MOST_COMPARED else []
            if not names:
                return None
            parts.append(names[0])
        return "/".join(parts) or None


def _fold(name: str) -> str:
    """Remove what people do not see or do not regard as part of a name."""
    return _INVISIBLE.sub("", normalize("NFKC", name)).casefold()


def _cut(wanted: WantedPath, file: str) -> FileProblem:
    return FileProblem(
        "A313",
        f"{quoted(wanted.shown)} matches {quoted(os.path.basename(file))}, whose number continues: "
        "it may be for another row",
        "write what follows the number, as in `{{ number }}.pdf` or `{{ number }}-*.pdf`; "
        "if every row may get it: `shared = true`",
    )
