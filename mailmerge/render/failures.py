"""From an exception inside a template to one of ours: whose fault, which file, line, column and row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import TemplateNotFound, TemplateSyntaxError
from jinja2.exceptions import SecurityError
from jinja2.utils import missing
from msgspec.structs import replace

from mailmerge.errors import InputError, RowError, TemplateError
from mailmerge.model import Place
from mailmerge.render.environments import BadValue, UnknownName
from mailmerge.render.name_check import name_hint, syntax_problem
from mailmerge.text import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from mailmerge.model import Recipient
    from mailmerge.render.sources import SourceMap


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
    if isinstance(error, BadValue):
        return _bad_value(error, sources, name, line, recipient)
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
    text = _first_line(error)
    hint = None
    if isinstance(error, TypeError) and "'str'" in text:
        hint = (
            'cells of a text list are text: give the column a type in data.types, such as amount = "decimal"'
        )
    return _Fault("T106", f"the template fails for this row: {text} ({type(error).__name__})", hint)


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
    heading = _column_of(error.value, place.source or "", recipient)
    if heading:
        place = sources.place(name, line, heading)
        message = f"`{heading}` {error.reason}"
    else:
        message = f"a value in {quoted((place.source or name).strip())} {error.reason}"
    if error.value not in (None, "") and error.reason.startswith("is not a "):
        message += f": {quoted(error.value)}"
    return RowError(
        message, code=error.code, hint=error.hint, place=place, row=recipient.row if recipient else None
    )


def _column_of(value: Any, line: str, recipient: Recipient | None) -> str | None:
    """Find the column that holds *value* and is named in *line*."""
    if recipient is None:
        return None
    pairs = zip(recipient.columns.names, recipient.columns.headings, recipient.values, strict=True)
    for name, heading, cell in pairs:
        if (cell is value or (type(cell) is type(value) and cell == value)) and (
            name in line or heading in line
        ):
            return name
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
