"""From an exception inside a template to one of ours: whose fault, which file, line, column and row."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import TemplateError as JinjaError
from jinja2 import TemplateNotFound, TemplateSyntaxError
from jinja2.exceptions import SecurityError
from jinja2.utils import missing
from msgspec.structs import replace

from mailmerge.errors import InputError, RowError, TemplateError
from mailmerge.model import Place
from mailmerge.render.environments import UnknownName
from mailmerge.render.name_check import name_hint, syntax_problem
from mailmerge.text import quoted
from mailmerge.values import BadValue, Value, displayed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from mailmerge.model import Recipient
    from mailmerge.render.sources import SourceMap


_OF_VALUES = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def is_of_values(error: Exception) -> bool:
    """Whether this is what functions and methods raise for a value that they cannot use."""
    return isinstance(error, _OF_VALUES) and not isinstance(error, JinjaError)


def failure(
    error: Exception, sources: SourceMap, known: Iterable[str], recipient: Recipient | None = None
) -> Exception:
    """Say what went wrong in a template, and where; for `BadValue` the row is to blame, else the author.

    What was raised where no template ran is a bug of ours: it is returned as it is. *known* are the names
    that a template may use, for a hint at a near miss.
    """
    position = _position(error.__traceback__)
    if isinstance(error, (InputError, MemoryError)) or position is None:
        return error
    name, line = position
    row = recipient.row if recipient else None
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


def _attribute(sources: SourceMap, name: str, line: int, word: str) -> Place | None:
    """Find *word* where it stands after a dot: the same word alone is another name."""
    place = sources.place(name, line, f".{word}")
    if place.column is None or place.width == 1:
        return None
    return replace(place, column=place.column + 1, width=place.width - 1)


class _Fault(NamedTuple):
    """What an exception means to the template's author."""

    code: str
    message: str
    hint: str | None = None
    word: str | None = None
    """What to underline."""


def _unknown(error: UnknownName, known: Iterable[str]) -> _Fault:
    word = str(error.name) if error.name is not None else None
    if error.owner is missing:
        hint = name_hint(word or "", known, "columns and variables")
        return _Fault("T102", f"unknown name `{word}`", hint, word)
    if isinstance(error.owner, dict):
        keys = [key for key in error.owner if isinstance(key, str)]
        return _Fault("T102", f"there is no `{word}` in it", name_hint(word or "", keys, "keys"), word)
    kind = type(error.owner)
    owner = {str: "text", int: "number", float: "number"}.get(kind, kind.__name__)
    return _Fault("T102", f"there is no `{word}` in a {owner}" if word else _first_line(error), word=word)


def _forbidden(error: SecurityError, _known: Iterable[str]) -> _Fault:
    hint = "templates run in a sandbox: only values, filters and harmless methods are allowed"
    return _Fault("T105", f"not allowed in a template: {_first_line(error).rstrip('.')}", hint)


def _no_template(error: TemplateNotFound, _known: Iterable[str]) -> _Fault:
    name = str(error.name or _first_line(error))
    hint = "the name is relative to the template folder and cannot lead out of it"
    return _Fault("T103", f'no template "{name}" in the template folder', hint, name)


def _endless(_error: RecursionError, _known: Iterable[str]) -> _Fault:
    return _Fault("T106", "the template includes or calls itself endlessly")


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
"""Whatever a template can raise; the first that fits describes it."""


def _fault(error: Exception, known: Iterable[str]) -> _Fault:
    describe = next(describe for kind, describe in _FAULTS if isinstance(error, kind))
    return describe(error, known)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _bad_value(
    error: BadValue, sources: SourceMap, name: str, line: int, recipient: Recipient | None
) -> RowError:
    place = sources.place(name, line)
    heading = column_of(error.value, place.source or "", recipient)
    if heading:
        place = sources.place(name, line, heading)
    what = f"a value in {quoted((place.source or name).strip())}"
    return value_error(error, heading, what, place, recipient.row if recipient else None)


def value_error(error: BadValue, column: str | None, what: str, place: Place, row: int | None) -> RowError:
    """Make an error of the row; *what* stands for the value where its *column* is not known."""
    message = f"{f'`{column}`' if column else what} {error.reason}"
    if error.reason.startswith("is not a ") and (shown := _shown(error.value)):
        message += f": {quoted(shown)}"
    hint = error.hint.replace("{it}", column or "the value") if error.hint else None
    return RowError(message, code=error.code, hint=hint, place=place, row=row)


def _shown(value: Any) -> str:
    if value is None or isinstance(value, Value | str | bool):
        return str(displayed(value)) if value is not None else ""
    return str(value)


def column_of(value: Any, line: str, recipient: Recipient | None) -> str | None:
    """Find the column that holds *value*; a text, which others may hold as well, only if *line* names it."""
    if recipient is None:
        return None
    pairs = zip(recipient.columns.names, recipient.columns.headings, recipient.values, strict=True)
    found = [
        (name, name in line or heading in line) for name, heading, cell in pairs if _is_cell(value, cell)
    ]
    named = [name for name, in_line in found if in_line]
    if named:
        return named[0]
    return found[0][0] if found and isinstance(value, Value) else None


def _is_cell(value: Any, cell: Any) -> bool:
    return cell is value or (
        type(cell) is type(value) and not isinstance(cell, Value) and bool(cell == value)
    )


def _blamed(error: Exception, line: str, recipient: Recipient | None) -> BadValue | None:
    """Blame the row for what happens only with its values; None: the template would fail for any row."""
    if isinstance(error, UnknownName) and error.owner is not missing:
        looked_up = column_of(error.name, line, recipient) and str(error.name) not in line
        reason = f"is {quoted(error.name)}, which is not in what it is looked up in"
        hint = 'say what stands for the others: .get({it}, "…")'
        return BadValue("D117", reason, error.name, hint) if looked_up else None
    if recipient and is_of_values(error) and _reads_names(line):
        return BadValue("D117", f"fails for this row: {_first_line(error)}", error, _advice(error))
    return None


def _reads_names(line: str) -> bool:
    """Whether a line of a template has more than constants in its tags."""
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
    """Build a `RowError` that points at a cell of *recipient*."""
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
