"""Typst to PDF: one reused compiler for each template; the row comes in as data and is never markup.

The compiler reads whatever a template names, and does not report what that was. So it works in a separate
folder, which contains the template and the files that it names in quotes, and nothing else: no cell can show
another file, and the inputs of a PDF are known before it is made.
"""

from __future__ import annotations

import json
import os
import re
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mailmerge import files
from mailmerge.documents import DocumentError, Material, digest_of
from mailmerge.message.file_search import FileProblem
from mailmerge.model import Place
from mailmerge.text import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIXED = 946_684_800
"""The creation date in every PDF: 2000-01-01, in seconds since 1970."""
_NAMED = re.compile(r'"([^"\\\n]+\.[A-Za-z0-9]{1,8})"')
_COMMENT = re.compile(r'"(?:[^"\\\n]|\\.)*"|(?<!:)//[^\n]*|/\*.*?\*/', re.DOTALL)
_PACKAGE = re.compile(r'"(@[\w-]+/[^"]*)"')
_TODAY = re.compile(r"datetime\.today\b")
_WHERE = re.compile(r"┌─ (.*):(\d+):(\d+)")
_MISSING = re.compile(r"dictionary does not contain key \"(.*)\"")


class Typesetter:
    """Makes PDFs from one template.

    Args:
        template: the template's file.
        base: the campaign's folder.
        material: the files in it.

    Raises:
        DocumentError: it names a package, or today's date.

    """

    def __init__(self, template: Path, base: Path, material: Material) -> None:
        self._shown = str(template)
        self._sources: dict[str, bytes] = {}
        """The files that it uses, by their names in its folder."""
        try:
            self._main = template.resolve().relative_to(base.resolve()).as_posix()
        except ValueError:
            self._main = template.name
        self._texts: dict[str, str] = {}
        self._refused: list[FileProblem] = []
        """Why files that it names, or may name, are withheld."""
        digests: dict[str, str] = {}
        waiting = [(self._main, str(template))]
        while waiting:
            name, path = waiting.pop()
            content = Path(path).read_bytes()
            self._sources[name], digests[name] = (
                content,
                digest_of(content.decode("utf-8", "backslashreplace")),
            )
            if not name.endswith(".typ"):
                continue
            self._texts[name] = text = content.decode("utf-8", "replace")
            self._refuse_changing(name, text)
            named = ((other, self._find(other, material)) for other in _named_files(name, text))
            waiting += ((other, path) for other, path in named if path and other not in self._sources)
        self.digest = digest_of(self._main, json.dumps(digests, sort_keys=True))
        """A digest that changes with the template and everything that it names."""
        self._compiler: Any = None
        self._entry = ""

    def _find(self, name: str, material: Material) -> str | None:
        try:
            found = material.find(name)
        except FileProblem as problem:
            self._refused.append(problem)
            return None
        return found[0] if found else None

    def _refuse_changing(self, name: str, text: str) -> None:
        """Refuse what would produce a different file tomorrow, or fetch something."""
        code = _COMMENT.sub(lambda found: found[0] if found[0].startswith('"') else "", text)
        if found := _PACKAGE.search(code):
            raise DocumentError(
                f"{self._shown} imports the package {quoted(found[1])}, which would be fetched from the web",
                "copy it into the campaign's folder and import it from there",
                self._place(name, *_position(text, found[1])),
            )
        if _TODAY.search(code):
            raise DocumentError(
                f"{self._shown} uses today's date: the same row would make another file tomorrow",
                "pass it as a value: vars = { today = 2026-12-31 }, and sys.inputs.today in the template",
                self._place(name, *_position(text, "datetime.today")),
            )

    def pdf(self, data: str) -> bytes:
        """Return a PDF.

        Args:
            data: a JSON object of strings: the template's ``sys.inputs``.

        Raises:
            DocumentError: the template does not compile with it.

        """
        import typst

        try:
            made = self._ready().compile(
                self._entry, format="pdf", sys_inputs=json.loads(data), timestamp=_FIXED
            )
        except typst.TypstError as error:
            raise self._failure(error) from None
        except RuntimeError as error:
            raise DocumentError(f"Typst failed: {error}") from error
        return bytes(made)

    def _ready(self) -> Any:
        """Return the compiler, with its folder: created for the first PDF, removed with this object."""
        if self._compiler is None:
            import typst

            scratch = files.ScratchFolder()
            weakref.finalize(self, scratch.close)
            root = scratch.path
            for name, content in self._sources.items():
                files.create_file(root / name, content)
            self._entry = str(root / self._main)
            self._compiler = typst.Compiler(root=str(root))
        return self._compiler

    def _failure(self, error: Any) -> DocumentError:
        """Return the error in terms of the template's own lines."""
        message = str(error.message)
        hint = "; ".join(map(str, error.hints)) or None
        if missing := _MISSING.match(message):
            message = f"sys.inputs has no value {quoted(missing[1])}"
            hint = "it has each column and variable; json(bytes(sys.inputs.row)) the cells by heading"
        elif "file not found" in message:
            message = f"{message.partition(' (')[0]}: Typst sees only files that the template names in quotes"
            hint = 'write its full name, such as "images/logo.png"'
            if self._refused:
                hint = self._refused[0].message
        found = _WHERE.search(str(error.diagnostic))
        place = None
        if found is not None:
            name = next((one for one in self._texts if found[1].endswith(one)), self._main)
            place = self._place(name, int(found[2]), int(found[3]) + 1)  # it counts columns from 0
        return DocumentError(message, hint, place)

    def _place(self, name: str, line: int, column: int) -> Place:
        lines = self._texts.get(name, "").splitlines()
        shown = self._shown if name == self._main else name
        source = lines[line - 1] if 0 < line <= len(lines) else None
        return Place(path=shown, line=line, column=column, source=source)


def _named_files(name: str, text: str) -> Iterator[str]:
    """Return what a template names in quotes and may be a file, relative to the campaign's folder."""
    folder = os.path.dirname(name)  # noqa: PTH120
    for named in _NAMED.findall(text):
        other = named[1:] if named.startswith("/") else os.path.normpath(os.path.join(folder, named))  # noqa: PTH118
        if not other.startswith(("..", "/")) and "://" not in named and not named.startswith("@"):
            yield other.replace(os.sep, "/")


def _position(text: str, word: str) -> tuple[int, int]:
    before = text[: text.find(word)]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
