"""Bodies from which a row chooses one: ``text = "body.{{ lang }}.md"``.

Every file that the pattern may match is found and compiled before the first row, so each is checked. The name
from a row's values is only looked up among the names that were found, never opened: no cell leads to another
file.
"""

from __future__ import annotations

import glob
import re
import stat
from itertools import islice
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from mailmerge.model import Diagnostic
from mailmerge.render.bodies import Bodies, compile_bodies
from mailmerge.render.failures import row_error
from mailmerge.render.filters import meant_locale
from mailmerge.render.sources import PATH_TAG, TemplateSource, fixed_folder, is_pattern
from mailmerge.text import near, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from mailmerge.errors import RowError
    from mailmerge.file_system import PrivateFiles
    from mailmerge.model import Recipient
    from mailmerge.render.compiler import Compiler
    from mailmerge.render.sources import MessageTemplates

_MOST: Final = 200
"""Most variants of a campaign: more are an error, because each is compiled."""
_SHOWN: Final = 12


class Variants:
    """The bodies of a campaign in which rows choose the files."""

    def __init__(self, compiler: Compiler, templates: MessageTemplates, own: PrivateFiles) -> None:
        self._patterns = tuple(_patterns(compiler, templates, own))
        self._bodies: dict[tuple[str, ...], Bodies] = {}
        for pattern in self._patterns:
            pattern.note_problems(compiler)
        chosen = list(islice(self._combinations(), _MOST + 1))
        if len(chosen) > _MOST:
            self._patterns[0].note_too_many(compiler)
            return
        for names in chosen:
            self._bodies[names] = compile_bodies(compiler, self._of(templates, names))
        self._check_alone(compiler, templates)

    def _combinations(self) -> Iterator[tuple[str, ...]]:
        """Yield what a row can choose: for two patterns, files with the same text for the same tag."""
        first, last = self._patterns[0], self._patterns[-1]
        if first is last:
            yield from ((name,) for name in first.found)
            return
        for name, values in first.found.items():
            for other, more in last.found.items():
                if not _differ(values, more):
                    yield name, other

    def _check_alone(self, compiler: Compiler, templates: MessageTemplates) -> None:
        """Check the files without a counterpart: no row can have them yet."""
        for number, pattern in enumerate(self._patterns):
            used = {names[number] for names in self._bodies}
            for name in pattern.found.keys() - used:
                alone = replace(
                    templates, text=None, html=None, layout=None, preheader=None, inline_css=False
                )
                compile_bodies(compiler, replace(alone, **{pattern.parts[0]: pattern.source(name)}))

    def _of(self, templates: MessageTemplates, chosen: tuple[str, ...]) -> MessageTemplates:
        for pattern, name in zip(self._patterns, chosen, strict=True):
            source = pattern.source(name)
            templates = replace(templates, **dict.fromkeys(pattern.parts, source))
        return templates

    @property
    def all(self) -> tuple[Bodies, ...]:
        """The bodies of all variants."""
        return tuple(self._bodies.values())

    def named(self, variables: dict[str, Any]) -> str:
        """Return the names of a row's files."""
        return ", ".join([pattern.compiled.text(variables) for pattern in self._patterns])

    def choose(self, variables: dict[str, Any], recipient: Recipient) -> Bodies:
        """Return the bodies of a row.

        Raises:
            RowError: the variant does not exist.

        """
        chosen = tuple([pattern.compiled.text(variables) for pattern in self._patterns])
        bodies = self._bodies.get(chosen)
        if bodies is None:
            raise self._missing(chosen, recipient)
        return bodies

    def _missing(self, chosen: tuple[str, ...], recipient: Recipient) -> RowError:
        for pattern, name in zip(self._patterns, chosen, strict=True):
            if name not in pattern.found:
                return pattern.missing(name, recipient)
        message = f"the text would be {quoted(chosen[0])}, but the HTML {quoted(chosen[1])}"
        return row_error("T150", message, recipient, hint="both parts must be the same variant")


def _differ(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    return any(one[tag] != other[tag] for tag in one.keys() & other.keys())


def _patterns(compiler: Compiler, templates: MessageTemplates, own: PrivateFiles) -> Iterator[_Pattern]:
    text, html = templates.text, templates.html
    if text == html and text is not None:  # Markdown
        option = "message.text" if "message.text" in templates.places else "message.html"
        yield _Pattern(compiler, option, text, ("text", "html"), own)
        return
    for part, source in (("text", text), ("html", html)):
        if source is not None and is_pattern(source):
            yield _Pattern(compiler, f"message.{part}", source, (part,), own)


class _Pattern:
    """The pattern of one file, and the existing files."""

    def __init__(
        self,
        compiler: Compiler,
        option: str,
        source: TemplateSource,
        parts: tuple[str, ...],
        own: PrivateFiles,
    ) -> None:
        assert source.path is not None
        self.parts = parts
        self.found: dict[str, dict[str, str]] = {}
        """By name relative to the folder: the text for each tag."""
        self._option = option
        self._folder = fixed_folder(source.path)
        self._pattern = source.path.relative_to(self._folder).as_posix()
        self._outside: list[str] = []
        self.compiled = compiler.option(option, self._pattern)
        pieces = PATH_TAG.split(self._pattern)
        self._tags = pieces[1::2]
        self._expression = re.compile(
            "".join("([^/]*)" if at % 2 else re.escape(piece) for at, piece in enumerate(pieces))
        )
        wild = "".join("*" if at % 2 else glob.escape(piece) for at, piece in enumerate(pieces))
        self._look(compiler, re.sub(r"\*+", "*", wild), own)

    def _look(self, compiler: Compiler, wild: str, own: PrivateFiles) -> None:
        files, root = compiler.files, str(self._folder.resolve())
        for name in files.glob(root, wild):
            name = PurePath(name).as_posix()  # noqa: PLW2901  the same name
            values = self._expression.fullmatch(name)
            path = Path(root, name)
            facts = files.stat(str(path)) if values and files.exists(str(path)) else None
            if values is None or facts is None or not stat.S_ISREG(facts.st_mode):
                continue
            real = path.resolve()
            if not real.is_relative_to(root):
                self._outside.append(name)
            elif not own.what(root, str(real), facts, name, template=True):
                own.add_template(str(path))
                self.found[name] = dict(zip(self._tags, values.groups(), strict=True))

    def source(self, name: str) -> TemplateSource:
        """Return a variant as a body that does not depend on the row."""
        path = self._folder / name
        return TemplateSource(name=str(path), path=path)

    def note_problems(self, compiler: Compiler) -> None:
        """Record what is wrong for all rows."""
        place = compiler.sources.place(self._option, 1, self._pattern)
        for name in self._outside:
            message = f"{name} is a link that leads out of the folder: it is not a variant"
            hint = "copy the file into the folder"
            compiler.note(Diagnostic("T151", message, hint=hint, place=place))
        if not self.found and not self._outside:
            example = PATH_TAG.sub("en", self._pattern)
            hint = f"write one file for each value, such as {example}"
            if "{%" in self._pattern:
                hint = (
                    "in the name of a file, write a choice as an expression: {{ 'de' if german else 'en' }}"
                )
            message = f"no file matches {quoted(self._pattern)}"
            compiler.note(Diagnostic("T151", message, hint=hint, place=place))

    def note_too_many(self, compiler: Compiler) -> None:
        """Record that too many variants match."""
        place = compiler.sources.place(self._option, 1, self._pattern)
        message = f"more than {_MOST} variants match {quoted(self._pattern)}"
        hint = "put the variants into their own folder"
        compiler.note(Diagnostic("T151", message, hint=hint, place=place))

    def missing(self, name: str, recipient: Recipient) -> RowError:
        """Return the error for a missing variant of a row, naming the existing ones."""
        columns = recipient.columns
        used = [column for column in columns.names if column in self.compiled.names]
        heading = columns.headings[columns.names.index(used[0])] if len(used) == 1 else None
        value = self._value(name)
        if value == "" and heading:
            message = f"`{used[0]}` is empty: no variant of {self._option}"
            tag = self._pattern.replace(f"{{{{ {used[0]} }}}}", f"{{{{ {used[0]} or '{self._first()}' }}}}")
            return row_error("T150", message, recipient, heading, hint=f"fill in the cell, or write {tag}")
        known = self._known()
        meant = self._meant(value, known) if value is not None else near(name, self.found)[:1]
        hint = f"did you mean {' or '.join(f'`{one}`' for one in meant)}? " if meant else ""
        more = ", ..." if len(known) > _SHOWN else ""
        hint += f"variants: {', '.join(known[:_SHOWN])}{more}"
        message = f"{self._option} has no variant {quoted(name)}"
        return row_error("T150", message, recipient, heading, hint=hint)

    def _known(self) -> list[str]:
        """Return the variants as a cell would name them: by the text for the tag, if there is only one."""
        if len(self._tags) != 1:
            return sorted(self.found)
        return sorted(values[self._tags[0]] for values in self.found.values())

    def _first(self) -> str:
        known = self._known()
        return "en" if "en" in known else known[0]

    def _value(self, name: str) -> str | None:
        """Return the row's text for the tag, if there is only one."""
        before, _, after = PATH_TAG.sub("\0", self._pattern).partition("\0")
        if len(self._tags) != 1 or not (name.startswith(before) and name.endswith(after)):
            return None
        return name[len(before) : len(name) - len(after)]

    @staticmethod
    def _meant(value: str, known: list[str]) -> tuple[str, ...]:
        """Guess the intended variant: by other capitals, a language with its country or by its name."""
        folded = {name.casefold(): name for name in known}
        short = re.split(r"[-_]", value.strip().casefold())[0]
        tried = (value.strip().casefold(), short)
        if found := next((folded[one] for one in tried if one in folded), None):
            return (found,)
        meant = meant_locale(value) if len(value) > 3 else None
        if meant and meant.casefold() in folded:
            return (folded[meant.casefold()],)
        return near(value, known)[:1]
