"""The Jinja2 environments: ``text`` escapes nothing, ``html`` everything, whatever a file's name.

Two more are ``text`` with trimmed values: ``line`` for headers, ``path`` for attachments' paths; ``field`` is
for CSV files that are made (`mailmerge.render.delimited`). All are
sandboxed (campaign folders are shared between people), strict about unknown names, and load templates from
the template folder only.
"""

from __future__ import annotations

import errno
import re
import stat
from datetime import datetime, time, timedelta
from decimal import Decimal
from functools import partial
from types import BuiltinMethodType
from typing import TYPE_CHECKING, Any, Literal

from jinja2 import (
    BaseLoader,
    StrictUndefined,
    TemplateNotFound,
    TemplateRuntimeError,
    Undefined,
    UndefinedError,
)
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing
from markupsafe import Markup, escape

from mailmerge import values
from mailmerge.errors import TemplateError
from mailmerge.file_system import FILE_SYSTEM, PrivateFiles
from mailmerge.model import Place
from mailmerge.render import builtins, growth
from mailmerge.render.operators import OperatorGenerator, Operators
from mailmerge.render.tags import Tags
from mailmerge.values import MISSING, BadValue, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from jinja2 import Environment, nodes
    from jinja2.compiler import Frame
    from jinja2.runtime import Context

    from mailmerge.file_system import FileSystem
    from mailmerge.model import Columns
    from mailmerge.render.sources import SourceMap


_DICT_ATTRIBUTES = frozenset(dir(dict))
_TEXT_METHODS = frozenset(name for name in dir(str) if not name.startswith("_")) - {"format", "format_map"}
_LOOP_NUMBERS = frozenset({"depth", "depth0", "first", "index", "index0", "last", "revindex", "revindex0"})
_OF_SOME_VALUES = _TEXT_METHODS.union(
    *(
        (name for name in dir(kind) if not name.startswith("_"))
        for kind in (Decimal, datetime, time, timedelta)
    )
)
_HARMLESS: dict[type, frozenset[str]] = {str: _TEXT_METHODS, LoopContext: _LOOP_NUMBERS}
"""Types that the sandbox would allow after slow checks, and that templates use most."""


class UnknownName(UndefinedError):
    """A template used a name, key or attribute that does not exist."""

    def __init__(self, message: str | None = None, *, name: object = None, owner: object = missing) -> None:
        super().__init__(message)
        self.name = name
        self.owner = owner
        """The object that lacks the key or attribute; ``missing`` for a plain name."""


class Missing(StrictUndefined):
    """Undefined that remembers its name when it finally fails."""

    __slots__ = ()

    def __init__(
        self, hint: str | None = None, obj: Any = missing, name: str | None = None, exc: Any = UndefinedError
    ) -> None:
        named: Any = partial(UnknownName, name=name, owner=obj) if exc is UndefinedError else exc
        super().__init__(hint, obj, name, named)


class _Generator(OperatorGenerator):
    """Records which names come from outside the template."""

    environment: Sandbox

    def enter_frame(self, frame: Frame) -> None:
        """Record what is looked up when the template runs."""
        super().enter_frame(frame)
        undeclared = self.environment.undeclared.setdefault(self.name or "", set())
        undeclared.update(
            name for action, name in frame.symbols.loads.values() if action == "resolve" and name
        )


class _BodyGenerator(_Generator):
    """Prints plain strings directly: only values that are not ``str`` go through ``finalize``."""

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        if frame.eval_ctx.volatile:
            super()._output_child_pre(node, frame, finalize)
        else:
            text = "escaped[value_]" if frame.eval_ctx.autoescape else "value_"
            self.write(f"({text} if (value_ := (")

    def _output_child_post(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        if frame.eval_ctx.volatile:
            super()._output_child_post(node, frame, finalize)
        else:
            convert = "escape" if frame.eval_ctx.autoescape else "str"
            self.write(f")).__class__ is str else {convert}(environment.finalize(value_)))")


_SPECIAL = re.compile("[&<>'\"]").search


class _Escaped(dict[str, str]):
    """Cache of strings escaped for HTML: the same few values are printed repeatedly."""

    _MOST = 4096
    _LONGEST = 200

    def __missing__(self, text: str) -> str:
        escaped = str(escape(text)) if _SPECIAL(text) else text
        if len(text) <= self._LONGEST:
            if len(self) >= self._MOST:
                self.clear()
            self[text] = escaped
        return escaped


class Sandbox(Operators, ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, faster for what is plainly allowed: items of dicts, methods of `str`, loop counters.

    Operators, filters and tests treat cells as ``docs/values.md`` says.
    """

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})
    intercepted_unops = frozenset({"+", "-"})

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.escaped = _Escaped()
        self.truths = values.Truths()
        self.filters.update(builtins.filters())
        self.tests.update(builtins.tests())
        self.globals["range"] = growth.count_range
        self.globals["lipsum"] = growth.sample_text
        self.policies["json.dumps_function"] = builtins.dump_json
        self.undeclared: dict[str, set[str]] = {}
        """By template: the names that it reads but does not bind itself."""

    code_generator_class = _Generator

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return an attribute, else an item; a dict's own methods win, as in Jinja2."""
        kind = type(obj)
        if kind is dict and attribute in obj and attribute not in _DICT_ATTRIBUTES:
            return obj[attribute]
        if kind is RowFields and attribute in obj:  # a list may have a column called Items or Count
            return obj[attribute]
        if kind in _HARMLESS and attribute in _HARMLESS[kind]:
            return getattr(obj, attribute)
        if attribute == "get" and isinstance(obj, dict):
            return partial(_get, obj)
        return self._of_value(obj, attribute) if values.kind_of(obj) else super().getattr(obj, attribute)

    def _of_value(self, value: Any, attribute: str) -> Any:
        """Return ``value``, a method of the displayed text, or an attribute of the Python value."""
        own = value.value if isinstance(value, Value) else value
        if attribute == "value":
            return own
        has_own = hasattr(own, attribute)
        if attribute in _TEXT_METHODS and isinstance(value, Value):
            text_method = getattr(value.displayed, attribute)
            return partial(_either, text_method, getattr(own, attribute)) if has_own else text_method
        if has_own or attribute not in _OF_SOME_VALUES:
            return super().getattr(own, attribute)
        reason = f"is {values.described(value)} and has no `{attribute}`"
        failed: Any = partial(_blame, reason, value)  # if one cell of the column has another type
        return self.undefined(name=attribute, exc=failed)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return an item; if the key is a cell, its texts are looked up."""
        kind = argument.__class__
        if kind is str or (kind is int and obj.__class__ is list):
            try:
                return obj[argument]
            except (TypeError, LookupError):
                pass
        if isinstance(obj, dict):
            found = values.find(obj, argument)
            if found is not MISSING:
                return found
        elif isinstance(argument, Value) and not isinstance(obj, Undefined):
            argument = argument.__index__()
        elif kind is str and values.kind_of(obj):  # |map(attribute="year")
            return self.getattr(obj, argument)
        return super().getitem(obj, argument)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Calculate."""
        del context
        return values.calculate(operator, left, right)

    def call_unop(self, context: Context, operator: str, arg: Any) -> Any:
        """Apply a sign to a number."""
        del context
        return values.signed(operator, arg)

    def call(self, context: Context, obj: Any, /, *args: Any, **options: Any) -> Any:
        """Call what a template calls, if that is allowed."""
        if type(obj) is BuiltinMethodType and type(obj.__self__) is str and obj.__name__ in _TEXT_METHODS:
            for scope in ("_loop_vars", "_block_vars"):  # meant for functions that need the context
                options.pop(scope, None)
            if obj.__name__ in growth.GROWING:
                growth.refuse_growth(obj.__name__, obj.__self__, args)
            try:
                return obj(*args, **options)
            except TypeError:  # a cell that is not a string: ", ".join([due, paid])
                return obj(*map(builtins.text_argument, args), **options)
        return super().call(context, obj, *args, **options)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Format as ``"{:>8}".format(x)`` does, except with widths that would fill the memory."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None
        text = value.__self__

        def format_(*args: Any, **options: Any) -> str:
            tables = [item for item in args if isinstance(item, dict)]
            given = (*args, *options.values(), *(item for table in tables for item in table.values()))
            growth.refuse_wide_format(text, given)
            return wrapped(*args, **options)

        return format_


class RowFields(dict[str, Any]):
    """The fields of one of several rows, by name or by original heading."""

    def __init__(self, fields: Mapping[str, Any], columns: Columns) -> None:
        super().__init__((name, fields[name]) for name in columns.names)
        self._columns = columns

    def __missing__(self, heading: str) -> Any:
        columns = self._columns
        for found, name in zip(columns.headings, columns.names, strict=True):
            if found == heading:
                return self[name]
        raise KeyError(heading)


def _blame(reason: str, value: Any, _message: str) -> BadValue:
    return BadValue("D117", reason, value, "give the column a type in data.types")


def _get(table: dict[Any, Any], key: Any, default: Any = None) -> Any:
    """Look up as ``table[key]`` does."""
    found = values.find(table, key)
    return default if found is MISSING else found


def _either(of_text: Callable[..., Any], of_value: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call the string's method if the arguments are strings, else the value's: both have a ``replace``."""
    texts = args and not options and all(isinstance(arg, str) for arg in args)
    return of_text(*args) if texts else of_value(*args, **options)


class FolderLoader(BaseLoader):
    """Loads UTF-8 templates from one folder; no ``..``, absolute name or link leads out of it."""

    def __init__(
        self,
        base: Path,
        shown_base: str,
        sources: SourceMap,
        files: FileSystem = FILE_SYSTEM,
        own: PrivateFiles | None = None,
    ) -> None:
        self._own = own or PrivateFiles()
        self._files = files
        self._base = base.resolve()
        self._shown_base = shown_base
        self._sources = sources

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        """Read *template*, a name with ``/`` relative to the folder."""
        clean = not {"", ".", ".."} & set(template.split("/")) and not {"\\", "\0"} & set(template)
        named = self._base.joinpath(*template.split("/")) if clean else self._base
        path = named.resolve()
        if not (clean and self._is_file(named) and path.is_relative_to(self._base)):
            raise TemplateNotFound(template)
        shown = self._shown_base + template
        if what := self._own.what(str(self._base), str(path), path.stat(), template, template=True):
            raise TemplateError(
                f"{shown} is {what}: no template can include it",
                code="A316",
                hint="put text that recipients are meant to read into a file of its own",
            )
        self._own.add_template(str(path))
        try:
            text = decode(self._files.read(path), shown)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise TemplateError(f"cannot read the template {shown}: {reason}") from None
        self._sources.add(template, text, shown)
        if environment.autoescape and template.lower().endswith(MARKDOWN):
            from mailmerge.render.markdown import as_html

            text = as_html(text, template, Tags(environment))
        return text, str(path), lambda: True

    def _is_file(self, path: Path) -> bool:
        try:
            return stat.S_ISREG(self._files.stat(str(path)).st_mode)
        except ValueError:  # not a path
            return False
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
                return False
            raise


def decode(data: bytes, shown: str) -> str:
    """Decode a template file, which must be UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TemplateError(
            f"{shown} is not UTF-8: byte 0x{data[error.start]:02x} in line {line}",
            code="T104",
            hint="save it as UTF-8 in your editor",
            place=Place(path=shown, line=line),
        ) from None


MARKDOWN = (".md", ".markdown")
"""Suffixes of templates that are Markdown."""
TemplateKind = Literal["text", "html", "line", "path", "field", "moment"]


def make_environment(
    kind: TemplateKind,
    *,
    loader: BaseLoader,
    filters: Mapping[str, Callable[..., Any]],
    variables: Mapping[str, Any],
    finalize: Callable[[Any], Any] | None = None,
) -> Sandbox:
    """Build an environment; *variables* are visible everywhere, also in imported templates.

    *finalize* replaces the way in which bodies print values.
    """
    environment = Sandbox(
        loader=loader,
        autoescape=kind == "html",
        undefined=Missing,
        finalize={"line": printed_in_line, "path": printed_in_path}.get(kind, finalize or printed),
        auto_reload=False,
    )
    if environment.finalize is printed:
        environment.code_generator_class = _BodyGenerator
    environment.filters.update(filters)
    environment.globals.update({name: values.cell_of(value) for name, value in variables.items()})
    return environment


def printed(value: Any) -> Any:
    """Turn a value that ``{{ }}`` is about to print into what a person would write.

    Raises:
        BadValue: there is nothing to print (None, NaN).

    """
    kind = value.__class__
    if kind is str or kind is int:
        return value
    if callable(value) and not isinstance(value, Undefined):
        raise TemplateRuntimeError("a function would be shown instead of its result: write () after it")
    return values.displayed(value)


def printed_in_line(value: Any) -> Any:
    """Print *value* into a header: spreadsheet cells often end with an invisible line break."""
    return value.strip() if value.__class__ is str else printed(value)


def printed_in_path(value: Any) -> Any:
    """Print *value* into a path that may be a glob: only a template's own ``*`` is special, not a cell's."""
    # As `glob.escape` writes them; it takes a microsecond for each, and a cell may have 131,072.
    path = str(printed_in_line(value)).replace("[", "[[]").replace("*", "[*]").replace("?", "[?]")
    return path or EMPTY


def printed_as_moment(value: Any) -> str:
    """Print *value* as it is compared, whatever the list displays: ``2026-03-05 14:00``."""
    return value.canonical if isinstance(value, Value) else str(printed(value)).strip()


# --- merged values, marked for people to see; never in what is sent ----------------------------------

# Two characters from a private-use plane: no font, list or template uses them.
START = "\U000f5ab0"
END = "\U000f5ab1"
EMPTY = "\U000f5ab2"
"""What an empty value leaves in a path, so that its absence can be noticed."""


def marked(value: Any) -> Any:
    """Print *value* between the two marks; output that contains marks already (of a macro) is unchanged."""
    shown = printed(value)
    if hasattr(shown, "__html__"):
        markup = Markup(shown.__html__())  # noqa: S704  the same that the unmarked template prints
        return markup if START in markup else Markup("{}{}{}").format(START, markup, END)
    text = str(shown)
    return text if START in text else f"{START}{text}{END}"


def unmarked(text: str) -> str:
    """Remove the marks again."""
    return text.replace(START, "").replace(END, "")
