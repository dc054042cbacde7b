"""Compiles every template of a campaign once, and collects all problems instead of stopping at the first."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, get_args

from jinja2 import Template, TemplateSyntaxError, nodes

from mailmerge.designs import MESSAGE_SUFFIXES
from mailmerge.errors import TemplateError
from mailmerge.file_system import FILE_SYSTEM
from mailmerge.model import UNSUBSCRIBE_URL, Diagnostic, Place
from mailmerge.render.environments import (
    FolderLoader,
    TemplateKind,
    decode,
    make_environment,
    printed,
    printed_as_moment,
    printed_in_line,
)
from mailmerge.render.failures import UNCOMPILABLE, NameCheck, name_hint, uncompilable_problem
from mailmerge.render.filters import Filters
from mailmerge.render.sources import SourceMap
from mailmerge.suggest import Invocation, suggested
from mailmerge.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import CodeType

    from jinja2 import Environment

    from mailmerge.file_system import FileSystem, PrivateFiles
    from mailmerge.model import Columns
    from mailmerge.render.failures import Seen
    from mailmerge.render.sources import MessageTemplates, TemplateSource
    from mailmerge.render.tags import Derived


class Compiled:
    """One compiled template; text without any tag is a constant and never runs."""

    __slots__ = (
        "_new_context",
        "_pieces",
        "_root",
        "_trimmed",
        "constant",
        "name",
        "names",
        "reached",
        "template",
    )

    def __init__(self, name: str, template: Template, tree: nodes.Template, seen: Seen) -> None:
        self.name = name
        self.template = template
        self.names = seen.own
        """The names that it reads, for messages that name a column."""
        self.reached = seen.reached
        """The templates that it includes, extends or imports by literal names."""
        self.constant = _constant(tree)
        environment = template.environment
        self._trimmed = environment.finalize is printed_in_line
        simple = self._trimmed or (environment.finalize is printed and not environment.autoescape)
        self._pieces = _simple_pieces(tree) if simple else ()
        self._new_context = template.new_context
        self._root = template.root_render_func

    def chunks(self, variables: dict[str, Any]) -> Iterable[str]:
        """Run it over *variables*, which are shared and must contain the globals too.

        The context is fresh, so that blocks and ``set`` of one template never reach another.
        """
        return self._plain_chunks(variables) or self._root(self._new_context(variables, True))

    def text(self, variables: dict[str, Any]) -> str:
        """Run it and return the joined chunks."""
        if self.constant is not None:
            return self.constant
        return "".join(self.chunks(variables))

    def _plain_chunks(self, variables: dict[str, Any]) -> list[str]:
        """Return the chunks of a template of only text and names; empty: the engine is needed."""
        chunks = []
        for is_name, text in self._pieces:
            value = variables.get(text) if is_name else text
            if value.__class__ is not str:
                if not isinstance(value, Value):
                    return []
                value = value.displayed
            chunks.append(value.strip() if is_name and self._trimmed else value)
        return chunks


class Compiler:
    """The environments of one campaign and the problems found in its templates so far."""

    def __init__(
        self,
        templates: MessageTemplates,
        columns: Columns,
        *,
        finalize: Callable[[Any], Any] | None = None,
        files: FileSystem = FILE_SYSTEM,
        own: PrivateFiles | None = None,
    ) -> None:
        self.files = files
        self.sources = SourceMap(templates.places)
        self.filters = Filters()
        self.problems: list[Diagnostic] = []
        self.warnings: list[Diagnostic] = []
        """Diagnostics of rendering about the current row."""
        self.names: set[str] = set()
        """The names and headings that any template reads."""
        self.written: set[str] = set()
        """Those whose displayed text may be output."""
        self._base = templates.base
        self._columns = columns
        self._read: dict[str, tuple[str, str]] = {}
        loader = FolderLoader(templates.base, _shown_base(templates), self.sources, files, own)
        self._environments, self._checks = {}, {}
        finalizers: dict[str, Callable[[Any], Any]] = {"moment": printed_as_moment}
        unused = set() if templates.calendar else {"moment"}
        if all(rule.template is None for rule in templates.attachments):
            unused.add("field")
        else:
            from mailmerge.render.delimited import printed_in_field

            finalizers["field"] = printed_in_field
        for kind in get_args(TemplateKind):
            if kind in unused:
                continue
            environment = make_environment(
                kind,
                loader=loader,
                filters=self.filters.table(),
                variables=templates.vars,
                finalize=finalizers.get(kind, finalize),
            )
            self._environments[kind] = environment
            shown = (UNSUBSCRIBE_URL,) if templates.unsubscribe and kind in {"text", "html"} else ()
            known = (*templates.vars, *shown)
            grouped = templates.group_by is not None
            self._checks[kind] = NameCheck(environment, self.sources, columns, known, grouped=grouped)

    @property
    def text(self) -> Environment:
        """The environment that escapes nothing."""
        return self._environments["text"]

    def option(
        self, name: str, source: str, kind: TemplateKind = "line", more: frozenset[str] = frozenset()
    ) -> Compiled:
        """Compile the value of an option such as ``message.subject``, which may use *more* names."""
        self.sources.add(name, source)
        return self._compile(name, source, kind, more)

    def environment(self, kind: TemplateKind) -> Environment:
        """Return the environment of a kind of template."""
        return self._environments[kind]

    def body(self, part: TemplateSource, kind: TemplateKind) -> Compiled:
        """Compile a body: a file, or text given directly."""
        name, text = self.load(part)
        return self._compile(name, text, kind)

    def derived(self, name: str, made: Derived, kind: TemplateKind) -> Compiled:
        """Compile a template that was made from others."""
        self.sources.derive(name, made)
        return self._compile(name, made.text, kind)

    def note_syntax(self, error: TemplateSyntaxError) -> None:
        """Record what is wrong with a template that cannot be compiled."""
        self.note(*self._checks["text"].syntax_problems(error, error.name or ""))

    def look_over(self, part: TemplateSource, kind: TemplateKind) -> None:
        """Record what is wrong with the tags of a body that is not compiled."""
        name, source = self.load(part)
        try:
            self.environment(kind).parse(source, name)
        except TemplateSyntaxError as error:
            self.note(*self._checks[kind].syntax_problems(error, name))

    def load(self, part: TemplateSource) -> tuple[str, str]:
        """Return the name and the source of a template.

        Raises:
            TemplateError: its file cannot be read.

        """
        if part.path is None:
            self.sources.add(part.name, part.source or "")
            return part.name, part.source or ""
        if part.name in self._read:
            return self._read[part.name]
        if part.path.suffix.lower() in MESSAGE_SUFFIXES:
            take_over = suggested(Invocation("", "new"), "init", "--from", str(part.path))
            raise TemplateError(
                f"{part.name} is a message, not a template",
                code="T132",
                hint=f"to turn its text, pictures and attachments into a campaign: {take_over} "
                "(add --list with your list)",
                place=Place(path=part.name),
            )
        try:
            text = decode(self.files.read(part.path), part.name)
        except OSError as error:
            folder = part.path.parent
            others = [entry.name for entry in folder.iterdir() if entry.is_file()] if folder.is_dir() else []
            raise TemplateError(
                f"cannot read the template {part.name}: {(error.strerror or str(error)).lower()}",
                code="T100",
                hint=name_hint(part.path.name, others, "files next to it"),
                place=Place(path=part.name),
            ) from None
        try:
            name = part.path.resolve().relative_to(self._base.resolve()).as_posix()
        except ValueError:
            name = part.name
        self.sources.add(name, text, part.name)
        self._read[part.name] = name, text
        return name, text

    def note_used(self, words: set[str], texts: set[str]) -> None:
        """Record the names or headings by which a template that is not Jinja refers to columns."""
        used = words.intersection(self._columns.names) | (words | texts).intersection(self._columns.headings)
        self.names |= used
        self.written |= used

    def _compile(
        self, name: str, source: str, kind: TemplateKind, more: frozenset[str] = frozenset()
    ) -> Compiled:
        try:
            return self._compiled(name, source, kind, more)
        except UNCOMPILABLE as error:
            self.note(uncompilable_problem(error, name, self.sources))
        return self._compiled("", "", kind)

    def _compiled(
        self, name: str, source: str, kind: TemplateKind, more: frozenset[str] = frozenset()
    ) -> Compiled:
        environment, check = self._environments[kind], self._checks[kind]
        code = None
        try:
            tree = environment.parse(source, name)
        except TemplateSyntaxError as error:
            self.note(*check.syntax_problems(error, name, more))
            return self._compile("", "", kind)
        wrong = check.filter_problems(name, tree)
        try:
            code = environment.compile(tree, name)
        except TemplateSyntaxError as error:
            wrong += check.syntax_problems(error, name, more)
        seen = check.look(name, tree, more)
        self.note(*wrong, *seen.problems)
        self.names |= seen.names
        self.written |= seen.written
        if code is None or wrong:
            return self._compile("", "", kind)
        template = Template.from_code(environment, code, dict(environment.globals))
        return Compiled(name, template, tree, seen)

    def note(self, *problems: Diagnostic) -> None:
        """Record problems to be reported, each once."""
        for problem in problems:
            if not any((p.message, p.place) == (problem.message, problem.place) for p in self.problems):
                self.problems.append(problem)

    def report(self) -> None:
        """Raise all problems found as one error."""
        if not self.problems:
            return
        first, count = self.problems[0], len(self.problems)
        message = first.message if count == 1 else f"{count} problems in the templates"
        raise TemplateError(
            message, code=first.code, hint=first.hint, place=first.place, problems=self.problems
        )

    def static_chunks(self, compiled: Compiled, kind: TemplateKind) -> tuple[str, ...]:
        """Return the fixed strings that *compiled* can yield, also from inherited and included templates."""
        environment = self._environments[kind]
        templates = [compiled.template, *map(environment.get_template, compiled.reached)]
        functions = [f for t in templates for f in (t.root_render_func, *t.blocks.values())]
        return tuple(dict.fromkeys(text for f in functions for text in _constants(f.__code__)))


def _constants(code: CodeType) -> Iterator[str]:
    for constant in code.co_consts:
        if isinstance(constant, str):
            yield constant
        elif hasattr(constant, "co_consts"):
            yield from _constants(constant)


def _constant(tree: nodes.Template) -> str | None:
    outputs = tree.body
    if not all(isinstance(node, nodes.Output) for node in outputs):
        return None
    pieces = [piece for node in outputs for piece in node.iter_child_nodes()]
    if not all(isinstance(piece, nodes.TemplateData) for piece in pieces):
        return None
    return "".join(piece.data for piece in pieces if isinstance(piece, nodes.TemplateData))


def _simple_pieces(tree: nodes.Template) -> tuple[tuple[bool, str], ...]:
    """Split a template of only text and plain names, which need no engine while the values are strings."""
    pieces: list[tuple[bool, str]] = []
    for output in tree.body:
        for piece in output.iter_child_nodes():
            if isinstance(output, nodes.Output) and isinstance(piece, nodes.Name):
                pieces.append((True, piece.name))
            elif isinstance(output, nodes.Output) and isinstance(piece, nodes.TemplateData):
                pieces.append((False, piece.data))
            else:
                return ()
    return tuple(pieces)


def _shown_base(templates: MessageTemplates) -> str:
    """Return the template folder as messages name it, with its slash: as in the name of the body's file."""
    for part in (templates.html, templates.text):
        if part and part.path:
            relative = os.path.relpath(part.path, templates.base).replace(os.sep, "/")
            if part.name.endswith(relative):
                return part.name[: len(part.name) - len(relative)]
    return ""
