"""What is wrong with a template: found before the first row, or when a row makes it fail.

Before: unknown names, missing includes, which columns are used. A name counts as known if it is a column, a
variable, a Jinja2 global, or bound in a template that shares its context (``set``, ``for``, macro arguments,
imports). ``x is defined`` and ``x|default(..)`` may ask for names that do not exist, and so may anything
under an ``if`` that tests ``x is defined``.

Later: an exception inside a template becomes one of ours, with the cause, file, line, column and row.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

from jinja2 import TemplateError as JinjaError
from jinja2 import TemplateNotFound, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.utils import missing
from msgspec import Struct
from msgspec.structs import replace

from mailmerge.errors import InputError, RowError, TemplateError
from mailmerge.model import UNSUBSCRIBE_URL, Diagnostic, Place
from mailmerge.render.environments import UnknownName
from mailmerge.render.mistakes import Mistakes, nearest, plainly
from mailmerge.render.template_survey import Reference, TemplateSurvey
from mailmerge.text import did_you_mean, quoted, toml_key
from mailmerge.values import BadValue, Value, displayed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from jinja2 import Environment

    from mailmerge.model import Columns, Recipient
    from mailmerge.render.environments import Sandbox
    from mailmerge.render.mistakes import Mistake
    from mailmerge.render.sources import SourceMap

_NodeT = TypeVar("_NodeT", bound=nodes.Node)


def name_hint(name: str, known: Iterable[str], what: str = "known names") -> str:
    """Hint at the name that was probably intended, else list the known ones."""
    names = sorted(known)
    return did_you_mean(name, names) or (
        f"{what}: {', '.join(names[:12])}{', …' if len(names) > 12 else ''}"
        if names
        else f"there are no {what}"
    )


class _Reached(Struct):
    """One template that is reached, and whether the row's context reaches it too."""

    name: str
    tree: nodes.Template
    sees_row: bool
    survey: TemplateSurvey


class Seen(Struct, frozen=True):
    """What was found in a template and those that it names literally."""

    problems: list[Diagnostic]
    own: frozenset[str]
    """The names that the template itself reads."""
    names: frozenset[str]
    """The names that all of them read."""
    written: frozenset[str]
    """Those whose displayed text may be output."""
    reached: tuple[str, ...]
    """The other templates: included, extended or imported."""


class NameCheck:
    """Checks the templates of one environment against the columns and variables."""

    def __init__(
        self,
        environment: Sandbox,
        sources: SourceMap,
        columns: Columns,
        variables: Iterable[str],
        *,
        grouped: bool = False,
    ) -> None:
        self._environment = environment
        self._sources = sources
        self._headings = set(columns.headings)
        self._variables = set(variables)
        self._fields = {*columns.names, *columns.headings}
        self._grouped = grouped
        self._columns = set(columns.names) | {"row"} | ({"rows"} if grouped else set())
        named = zip(columns.headings, columns.names, strict=True)
        self._row_heading = next((heading for heading, name in named if name == "row"), None)
        self._globals = set(environment.globals) | self._variables
        self._mistakes = Mistakes(environment, columns, self._columns | self._globals)

    def look(self, name: str, tree: nodes.Template, more: frozenset[str] = frozenset()) -> Seen:
        """Examine the compiled template *name*, and every template that it names literally.

        Only this template may use *more* names.
        """
        reached, problems = self._reach(name, tree)
        for one in reached:
            others = (other for other in reached if other is not one and other.sees_row == one.sees_row)
            problems += self._unknown(one, set(more).union(*(other.survey.bound for other in others)))
        names: frozenset[str] = frozenset().union(*(one.survey.names for one in reached))
        written: frozenset[str] = frozenset().union(*(one.survey.written for one in reached))
        if self._grouped:
            of_rows = self._of_rows(reached)
            names, written = names | of_rows, written | of_rows
        others_names = tuple(dict.fromkeys(one.name for one in reached[1:]))
        return Seen(problems, frozenset(reached[0].survey.names), names, written, others_names)

    def _of_rows(self, reached: Iterable[_Reached]) -> frozenset[str]:
        """Return which fields of single rows are read; ``row`` represents all of them."""
        surveys = [one.survey for one in reached]
        if not any("rows" in one.names for one in surveys):
            return frozenset()
        parts: set[str] = set().union(*(one.parts for one in surveys))
        return frozenset({"row"} if "*" in parts else parts & self._fields)

    def _reach(self, name: str, tree: nodes.Template) -> tuple[list[_Reached], list[Diagnostic]]:
        """Follow literal references from the template *tree*; return reached templates and problems."""
        reached = [_Reached(name, tree, sees_row=True, survey=TemplateSurvey(tree, parts=self._grouped))]
        broken: list[Diagnostic] = []
        for one in reached:  # grows while it is walked
            for reference, other in one.survey.references:
                sees_row = one.sees_row and not _is_blind_import(reference)
                if any(known.name == other and known.sees_row == sees_row for known in reached):
                    continue
                try:
                    found, wrong = self._load(other)
                except TemplateNotFound:
                    if not getattr(reference, "ignore_missing", False):
                        broken.append(self._not_found(one.name, other, reference.lineno))
                except TemplateSyntaxError as error:
                    broken += self.syntax_problems(error, other)
                except UNCOMPILABLE as error:
                    broken.append(uncompilable_problem(error, other, self._sources))
                else:
                    broken += wrong
                    reached.append(
                        _Reached(other, found, sees_row, TemplateSurvey(found, parts=self._grouped))
                    )
        return reached, broken

    def _load(self, name: str) -> tuple[nodes.Template, list[Diagnostic]]:
        loader = self._environment.loader
        assert loader is not None
        tree = self._environment.parse(loader.get_source(self._environment, name)[0], name)
        wrong = self.filter_problems(name, tree)
        if wrong:
            self._environment.compile(tree, name)  # without the unknown ones, to collect the names in it
        else:
            self._environment.get_template(name)  # finds what only the compiler sees
        return tree, wrong

    def _unknown(self, part: _Reached, shared: set[str]) -> Iterator[Diagnostic]:
        known = self._globals | shared | (self._columns if part.sees_row else set())
        unknown = self._environment.undeclared.get(part.name, set()) - known
        seen: set[str] = set()
        source = self._sources.texts.get(self._sources.origin(part.name), "")
        for mistake in self._mistakes.of_values(source):
            yield self._described(mistake, part.name)
        if unknown:
            unknown -= _exported(part.tree)
            for mistake, names in self._mistakes.of_names(source, unknown):
                seen |= names
                yield self._described(mistake, part.name)
            for name, line in _unguarded(part.tree):
                if name in unknown and name not in seen:
                    seen.add(name)
                    yield self._unknown_name(part, name, line)
        if self._row_heading is not None and "row" not in part.survey.bound | shared:
            for line in part.survey.whole_rows[:1]:
                yield Diagnostic(
                    code="T102",
                    message=f'`row` is the whole row, not the column "{self._row_heading}"',
                    hint=f"write `row[{quoted(self._row_heading)}]`",
                    place=self._sources.place(part.name, line, "row"),
                )
        for key, line in part.survey.row_keys:
            if "row" not in part.survey.bound | shared and key not in self._headings and key not in seen:
                seen.add(key)
                yield Diagnostic(
                    code="T102",
                    message=f"unknown heading `{key}` in `row`",
                    hint=name_hint(key, self._headings, "headings"),
                    place=self._sources.place(part.name, line, key),
                )

    def syntax_problems(
        self, error: TemplateSyntaxError, name: str, more: frozenset[str] = frozenset()
    ) -> list[Diagnostic]:
        """Describe everything that is wrong with template *name*, which Jinja2 cannot read."""
        name = error.name or name
        source = self._sources.texts.get(self._sources.origin(name), "")
        mistakes, repaired = self._mistakes.find(source)
        if not mistakes:
            return [self._syntax_problem(error, name)]
        problems = [self._described(mistake, name) for mistake in mistakes]
        try:
            tree = self._environment.parse(repaired, name)
            problems += self.filter_problems(name, tree)
            self._environment.compile(tree, name)
        except (TemplateSyntaxError, *UNCOMPILABLE):
            return problems
        return problems + self.look(name, tree, more).problems

    def filter_problems(self, name: str, tree: nodes.Template) -> list[Diagnostic]:
        """Describe filters and tests that are unknown, which are removed from *tree*, or called wrongly."""
        return [
            replace(
                self._described(mistake, name), place=self._sources.place(name, mistake.line, mistake.word)
            )
            for mistake in self._mistakes.of_filters(tree)
        ]

    def _described(self, mistake: Mistake, name: str) -> Diagnostic:
        place = self._sources.place(self._sources.origin(name), mistake.line, mistake.word)
        return Diagnostic(code=mistake.code, message=mistake.message, hint=mistake.hint, place=place)

    def _syntax_problem(self, error: TemplateSyntaxError, name: str) -> Diagnostic:
        """Describe a syntax error that no single tag causes."""
        problem = syntax_problem(error, self._sources, name)
        hint = near_filter(error, self._environment)
        if hint is None and problem.place is not None and problem.place.source:
            from mailmerge.designs.editors import damage

            hint = damage(problem.place.source)
        return replace(problem, hint=hint)

    def _unknown_name(self, part: _Reached, name: str, line: int) -> Diagnostic:
        candidates = (self._columns - {"row", "rows"}) | self._variables
        hint = name_hint(name, candidates, "columns and variables")
        if name == UNSUBSCRIBE_URL:
            hint = 'write unsubscribe = "https://example.org/u/{{ token }}" under [message]; bodies know it'
        if re.fullmatch("[A-Z]{3}", name):
            hint = f'a currency is a string, in quotes: |money("{name}")'
        if name == "rows":
            hint = 'several rows share a message, and are its `rows`, with group_by = "email" under [data]'
        if not part.sees_row and name in self._columns:
            hint = "an imported template does not see the row: write `import ... with context`"
        return Diagnostic(
            code="T102",
            message=f"unknown name `{name}`",
            hint=hint,
            place=self._sources.place(part.name, line, name),
        )

    def _not_found(self, name: str, other: str, line: int) -> Diagnostic:
        return Diagnostic(
            code="T103",
            message=f'the template "{other}" was not found in the template folder',
            hint="the name is relative to the template folder and cannot lead out of it",
            place=self._sources.place(name, line, other),
        )


def syntax_problem(error: TemplateSyntaxError, sources: SourceMap, name: str) -> Diagnostic:
    """Describe a syntax error of template *name*, or of the template the error names itself."""
    quoted = (error.message or "").split("'")
    word = quoted[1] if len(quoted) > 2 else None
    return Diagnostic(
        code="T101", message=plainly(error), place=sources.place(error.name or name, error.lineno, word)
    )


def near_filter(error: TemplateSyntaxError, environment: Environment) -> str | None:
    """Hint at the filter or test that was probably intended."""
    kind, _, rest = (error.message or "").removeprefix("No ").partition(" named ")
    known = {"filter": environment.filters, "test": environment.tests}.get(kind)
    return nearest(kind, rest.strip("'."), known) if known else None


UNCOMPILABLE = (RecursionError, SyntaxError, ValueError, OverflowError, MemoryError)
"""What Python raises for a template that is nested too deeply, or contains a number that it cannot read."""


def uncompilable(error: Exception) -> tuple[str, str, str]:
    """Return code, reason and hint for a template or an expression that Python cannot compile."""
    if isinstance(error, RecursionError | SyntaxError | MemoryError):
        return (
            "T107",
            "it is nested too deeply, or too long in one piece",
            "split it: use `set` or a macro",
        )
    return "T108", f"a value in it cannot be used: {_first_line(error)}", "write it as a string, in quotes"


def uncompilable_problem(error: Exception, name: str, sources: SourceMap) -> Diagnostic:
    """Describe what keeps Python from compiling template *name*; the line is not known."""
    code, reason, hint = uncompilable(error)
    return Diagnostic(
        code=code, message=f"the template cannot be used: {reason}", hint=hint, place=sources.place(name, 1)
    )


def _is_blind_import(node: Reference) -> bool:
    return not isinstance(node, nodes.Extends) and not node.with_context


def _exported(tree: nodes.Template) -> set[str]:
    """Return what is bound at the top of a template, and so is known in its blocks too."""
    kinds = (nodes.Assign, nodes.AssignBlock, nodes.Import, nodes.FromImport)
    top: list[nodes.Node] = [node for node in tree.body if isinstance(node, kinds)]
    return TemplateSurvey(nodes.Template(top)).bound | {
        node.name for node in tree.body if isinstance(node, nodes.Macro)
    }


def _unguarded(node: nodes.Node, safe: frozenset[str] = frozenset()) -> Iterator[tuple[str, int]]:
    """Yield the names read in *node* with their lines, but for bound and guarded ones."""
    if isinstance(node, nodes.Name):
        if node.ctx == "load" and node.name not in safe:
            yield node.name, node.lineno
        return
    safe |= _made_safe_by(node)
    for child in node.iter_child_nodes():
        yield from _unguarded(child, safe)


def _made_safe_by(node: nodes.Node) -> set[str]:
    """Return the names that *node* binds, or guards because they may not exist."""
    match node:
        case nodes.Test(name="defined" | "undefined"):
            return {name.name for name in _self_and(node, nodes.Name)}
        case nodes.Filter(name="default" | "d", node=nodes.Name(name=name)):
            return {name}
        case nodes.If() | nodes.CondExpr():
            return _tested(node.test)
        case nodes.And() | nodes.Or():
            return _tested(node)
        case nodes.For() | nodes.Macro() | nodes.CallBlock() | nodes.With():
            return {name.name for name in node.find_all(nodes.Name) if name.ctx != "load"}
    return set()


def _tested(node: nodes.Node) -> set[str]:
    tests = [test for test in _self_and(node, nodes.Test) if test.name in {"defined", "undefined"}]
    return {name.name for test in tests for name in _self_and(test, nodes.Name)}


def _self_and(node: nodes.Node, kind: type[_NodeT]) -> Iterator[_NodeT]:
    if isinstance(node, kind):
        yield node
    yield from node.find_all(kind)


_OF_VALUES = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def is_of_values(error: Exception) -> bool:
    """Return whether functions and methods raise such an error for a value that they cannot use."""
    return isinstance(error, _OF_VALUES) and not isinstance(error, JinjaError)


def failure(
    error: Exception, sources: SourceMap, known: Iterable[str], recipient: Recipient | None = None
) -> Exception:
    """Return what went wrong in a template, and where: a `RowError` for `BadValue`, else the author's error.

    An exception from outside a template is a bug of ours, and returned unchanged. *known* are the names that
    a template may use, for a hint at a near miss.
    """
    position = _position(error.__traceback__)
    if position is None or isinstance(error, MemoryError):
        return error
    name, line = position
    row = recipient.row if recipient else None
    if isinstance(error, InputError):
        return _of_row(error, row) if isinstance(error, TemplateError) else error
    source = sources.place(name, line).source or ""
    blamed = error if isinstance(error, BadValue) else _blamed(error, source, recipient)
    if blamed:
        return _bad_value(blamed, sources, name, line, recipient)
    if isinstance(error, TemplateSyntaxError):
        problem = syntax_problem(error, sources, name)
        return TemplateError(problem.message, code=problem.code, place=problem.place, row=row)
    fault = _fault(error, known)
    place = sources.place(name, line, fault.word)
    if fault.word and isinstance(error, UnknownName) and error.owner is not missing:
        place = _attribute(sources, name, line, fault.word) or place
    return TemplateError(fault.message, code=fault.code, hint=fault.hint, place=place, row=row)


def _of_row(error: TemplateError, row: int | None) -> TemplateError:
    """Return the error of a template that this row includes: other rows may include a correct one."""
    if error.row is not None or row is None:
        return error
    return TemplateError(error.message, code=error.code, hint=error.hint, place=error.place, row=row)


def _attribute(sources: SourceMap, name: str, line: int, word: str) -> Place | None:
    """Find *word* after a dot: the same word alone is another name."""
    place = sources.place(name, line, f".{word}")
    if place.column is None or place.width == 1:
        return None
    return replace(place, column=place.column + 1, width=place.width - 1)


class _Fault(Struct, frozen=True):
    """What an exception means to the template's author."""

    code: str
    message: str
    hint: str | None = None
    word: str | None = None
    """The text to underline."""


def _unknown(error: UnknownName, known: Iterable[str]) -> _Fault:
    word = str(error.name) if error.name is not None else None
    if error.owner is missing:
        hint = name_hint(word or "", known, "columns and variables")
        return _Fault("T102", f"unknown name `{word}`", hint, word)
    if isinstance(error.owner, dict):
        keys = [key for key in error.owner if isinstance(key, str)]
        return _Fault("T102", f"it has no `{word}`", name_hint(word or "", keys, "keys"), word)
    kind = type(error.owner)
    owner = {str: "text", int: "a number", float: "a number"}.get(kind, f"a {kind.__name__}")
    return _Fault("T102", f"{owner} has no `{word}`" if word else _first_line(error), word=word)


def _forbidden(error: SecurityError, _known: Iterable[str]) -> _Fault:
    hint = "templates run in a sandbox: only values, filters and harmless methods are allowed"
    return _Fault("T105", f"not allowed in a template: {_first_line(error).rstrip('.')}", hint)


def _no_template(error: TemplateNotFound, _known: Iterable[str]) -> _Fault:
    name = str(error.name or _first_line(error))
    hint = "the name is relative to the template folder and cannot lead out of it"
    return _Fault("T103", f'the template "{name}" was not found in the template folder', hint, name)


def _endless(_error: RecursionError, _known: Iterable[str]) -> _Fault:
    return _Fault("T109", "the template includes or calls itself endlessly")


def _failing(error: Exception, _known: Iterable[str]) -> _Fault:
    kind = "" if isinstance(error, JinjaError) else f" ({type(error).__name__})"
    return _Fault("T106", f"the template fails for this row: {_first_line(error)}{kind}", _advice(error))


_FAULTS: tuple[tuple[type[Exception], Callable[[Any, Iterable[str]], _Fault]], ...] = (
    (UnknownName, _unknown),
    (SecurityError, _forbidden),
    (TemplateNotFound, _no_template),  # its subclass TemplatesNotFound names the last one that was tried
    (RecursionError, _endless),
    (Exception, _failing),
)
"""Everything that a template can raise; the first that fits describes it."""


def _fault(error: Exception, known: Iterable[str]) -> _Fault:
    describe = next(describe for kind, describe in _FAULTS if isinstance(error, kind))
    return describe(error, known)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _bad_value(
    error: BadValue, sources: SourceMap, name: str, line: int, recipient: Recipient | None
) -> RowError:
    place = sources.place(name, line)
    holder = recipient if recipient is None else _holder(error.value, place.source or "", recipient)
    heading = getattr(error, "column", None) or column_of(error.value, place.source or "", holder)
    if heading:
        place = sources.place(name, line, heading)
    what = f"a value in {quoted((place.source or name).strip())}"
    return value_error(error, heading, what, place, holder.row if holder else None)


def _holder(value: Any, line: str, recipient: Recipient) -> Recipient:
    """Return the row of a group message that contains *value*; the first one if that is not known."""
    every = (recipient, *(other for _, other in recipient.others))
    return next((one for one in every if column_of(value, line, one)), recipient)


def value_error(error: BadValue, column: str | None, what: str, place: Place, row: int | None) -> RowError:
    """Return an error of the row; *what* describes the value if its *column* is not known."""
    message = f"{f'`{column}`' if column else what} {error.reason}"
    if error.reason.startswith("is not a ") and (shown := _shown(error.value)):
        message += f": {quoted(shown)}"
    hint = error.hint
    if hint:
        hint = hint.replace("{it}", column or "the value").replace("{key}", toml_key(column or "COLUMN"))
    return RowError(message, code=error.code, hint=hint, place=place, row=row)


def _shown(value: Any) -> str:
    if value is None or isinstance(value, Value | str | bool):
        return str(displayed(value)) if value is not None else ""
    return str(value)


def column_of(value: Any, line: str, recipient: Recipient | None) -> str | None:
    """Find the column that contains *value*; a string, which others may equal, only if *line* names it."""
    if recipient is None:
        return None
    pairs = zip(recipient.columns.names, recipient.columns.headings, recipient.values, strict=True)
    found = [
        (name, _names(line, name) or _names(line, heading))
        for name, heading, cell in pairs
        if _is_cell(value, cell)
    ]
    named = [name for name, in_line in found if in_line]
    if named:
        return named[0]
    return found[0][0] if found and isinstance(value, Value) else None


def _names(line: str, name: str) -> bool:
    """Return whether *line* contains *name* by itself: `t` is not named by `total`."""
    return name in line and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", line) is not None


def _is_cell(value: Any, cell: Any) -> bool:
    return cell is value or (
        type(cell) is type(value) and not isinstance(cell, Value) and bool(cell == value)
    )


def _blamed(error: Exception, line: str, recipient: Recipient | None) -> BadValue | None:
    """Return an error of the row if only its values cause it; None: the template would fail for any row."""
    if isinstance(error, UnknownName) and isinstance(error.name, int) and recipient:
        if not isinstance(error.owner, str | list | tuple):
            return None
        reason = f"has no item number {error.name} (the first one is 0)"
        hint = "give a default: add |default('…')"
        return BadValue("D117", reason, error.owner, hint)
    if isinstance(error, UnknownName) and error.owner is not missing:
        looked_up = column_of(error.name, line, recipient) and str(error.name) not in line
        reason = f"is {quoted(error.name)}, which has no entry"
        hint = 'give a default for the others: .get({it}, "…")'
        return BadValue("D117", reason, error.name, hint) if looked_up else None
    if recipient and is_of_values(error) and _reads_names(line):
        return BadValue("D117", f"fails for this row: {_first_line(error)}", error, _advice(error))
    return None


def _reads_names(line: str) -> bool:
    """Return whether a line of a template has more than constants in its tags."""
    tags = "".join(re.findall(_TAG, line)) or line
    return any(word not in _KEYWORDS for word in re.findall(_NAME, re.sub(_STRING, "", tags)))


_TAG = r"\{[{%].*?[%}]\}"
_STRING = r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')"""
_NAME = r"(?<![\w.|])[A-Za-z_]\w*"
_KEYWORDS = {"if", "elif", "else", "for", "in", "is", "not", "and", "or", "set", "true", "false", "none"}


def _advice(error: Exception) -> str | None:
    if isinstance(error, TypeError) and "'str'" in str(error):
        return (
            'cells of a text list are text: give the column a type in data.types, such as amount = "decimal"'
        )
    return None


def row_error(
    code: str, message: str, recipient: Recipient, heading: str | None = None, **more: Any
) -> RowError:
    """Return a `RowError` that points at a cell of *recipient*."""
    place = Place(cell=f"column {heading}") if heading else None
    return RowError(message, code=code, place=place, row=recipient.row, **more)


def _position(traceback: TracebackType | None) -> tuple[str, int] | None:
    """Find the innermost frame that runs a template, and its line in the template's source."""
    found = None
    while traceback is not None:
        template = traceback.tb_frame.f_globals.get("__jinja_template__")
        if template is not None:
            found = template.name, template.get_corresponding_lineno(traceback.tb_lineno)
        traceback = traceback.tb_next
    return found
