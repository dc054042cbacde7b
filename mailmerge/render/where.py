"""One Jinja2 expression over a row: ``data.where`` selects rows, ``group_by`` groups them.

Truth is as in templates, with two more rules. Text that is used as a condition must mean yes or no: ``where =
"status"`` would select everybody, and is an error. And a row with another word of the same meaning is
refused: ``opted_out != "yes"`` does not answer for ``TRUE``.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, ClassVar

from jinja2 import Template, TemplateSyntaxError, nodes
from jinja2.parser import Parser
from msgspec.structs import replace

from mailmerge.addresses import AddressError, parse_address_list
from mailmerge.errors import CampaignFileError, InputError, RowError
from mailmerge.model import Place
from mailmerge.render.environments import UnknownName
from mailmerge.render.failures import (
    UNCOMPILABLE,
    column_of,
    is_of_values,
    name_hint,
    near_filter,
    uncompilable,
    value_error,
)
from mailmerge.render.mistakes import Mistakes, plainly
from mailmerge.render.template_survey import TemplateSurvey
from mailmerge.text import joined_columns, quoted, trimmed
from mailmerge.values import BadValue, canonical, kind_of, truth
from mailmerge.values.notation import read_truth

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jinja2 import Environment

    from mailmerge.model import Columns, Recipient

_RESULT = "result"
_NO_ANSWER = "C432"
_SEVERAL = re.compile(r"\s*[,;+&|]+\s*|\s+and\s+", re.IGNORECASE)
"""What people write between the names of several columns."""


class Expression:
    """A compiled expression over a row's values."""

    option: ClassVar[str]
    """Its name in messages."""
    flag: ClassVar[str]
    """Its name in places if its origin is not known."""

    def __init__(
        self,
        environment: Environment,
        expression: str,
        known: Iterable[str],
        columns: Columns,
        place: Place | None = None,
    ) -> None:
        self._expression = expression
        self._written = place or Place(path=self.flag, line=1, source=expression)
        self._known = set(known)
        self._columns = columns
        self._mistakes = Mistakes(environment, columns, self._known | environment.globals.keys())
        try:
            self._compile(environment, expression)
        except TemplateSyntaxError as error:
            message = plainly(error).removeprefix("template syntax: ")
            hint = self._hint() or near_filter(error, environment) or self._mistakes.expression(expression)
            raise self._error(
                "C433", f"`{self.option}` is not an expression: {message}", hint, None
            ) from None
        except UNCOMPILABLE as error:
            _, reason, hint = uncompilable(error)
            raise self._error("C433", f"`{self.option}` cannot be used: {reason}", hint, None) from None

    def _compile(self, environment: Environment, expression: str) -> None:
        parser = Parser(environment, expression, state="variable")
        tree = parser.parse_expression()
        if not parser.stream.eos:
            parser.fail("unexpected text after the expression", 1)
        for node in (tree, *tree.find_all(nodes.Name)):
            known = self._known | environment.globals.keys()
            if isinstance(node, nodes.Name) and node.ctx == "load" and node.name not in known:
                raise self._unknown(node.name)
        self._environment = environment
        assign = nodes.Assign(nodes.Name(_RESULT, "store", lineno=1), self._prepared(tree), lineno=1)
        template = nodes.Template([assign], lineno=1)
        self.names = frozenset(TemplateSurvey(template).names)
        """The names that it reads."""
        code = environment.compile(template, self.option)
        self._template = Template.from_code(environment, code, environment.make_globals(None))

    def _prepared(self, tree: nodes.Expr) -> nodes.Expr:
        """Return the expression in the form that runs."""
        return tree

    def _hint(self) -> str | None:
        """Return what was meant by an expression of this kind that is wrong."""
        return None

    def value(self, variables: dict[str, Any], recipient: Recipient) -> Any:
        """Return its value for a row.

        Raises:
            RowError: the expression cannot use the row's values.
            CampaignFileError: the expression is wrong for every row.

        """
        context = self._template.new_context(variables, shared=True)
        try:
            for _ in self._template.root_render_func(context):
                pass
            return context.vars[_RESULT]
        except BadValue as error:
            raise self._refusal(error, recipient) from None
        except UnknownName as error:
            raise self._unknown(str(error.name), recipient.row) from None
        except Exception as error:  # noqa: BLE001  whatever the expression does with a value
            if is_of_values(error):
                reason = f"`{self.option}` fails for this row: {error}"
                raise RowError(reason, code="C434", place=self._place(), row=recipient.row) from None
            message = f"`{self.option}` fails for row {recipient.row}: {error}"
            raise self._error("C434", message, None, recipient.row) from None

    def _refusal(self, error: BadValue, recipient: Recipient) -> InputError:
        """Return an error of the row for its value, or of the expression for using text as a condition."""
        column = column_of(error.value, self._expression, recipient)
        refused = value_error(
            error, column, f"a value in `{self.option}`", self._place(column), recipient.row
        )
        if error.code != _NO_ANSWER:
            return refused
        return CampaignFileError(
            refused.message, code=error.code, hint=refused.hint, place=refused.place, row=recipient.row
        )

    def _place(self, column: str | None = None) -> Place:
        written = self._written
        begin = (written.column or 1) - 1
        word = re.escape(column or "")
        found = re.search(rf"(?<!\w){word}(?!\w)", (written.source or "")[begin:]) if word else None
        if found is None or column is None:
            return written
        return replace(written, column=begin + found.start() + 1, width=len(column))

    def _unknown(self, name: str, row: int | None = None) -> CampaignFileError:
        meant = self._mistakes.expression(self._expression)
        hint = meant or name_hint(name, self._known - {"row"}, "columns and variables")
        message = f"unknown name `{name}` in `{self.option}`"
        return CampaignFileError(message, code="C431", hint=hint, place=self._place(name), row=row)

    def _error(self, code: str, message: str, hint: str | None, row: int | None) -> CampaignFileError:
        return CampaignFileError(message, code=code, hint=hint, place=self._place(), row=row)


class Where(Expression):
    """A condition."""

    option = "where"
    flag = "--where"

    def _prepared(self, tree: nodes.Expr) -> nodes.Expr:
        self._environment.filters[_checked.__name__] = _checked
        self._environment.filters[_unlike_word.__name__] = _unlike_word
        _look_for_other_words(tree)
        return _condition(tree)

    def __call__(self, variables: dict[str, Any], recipient: Recipient) -> bool:
        """Return whether the row is selected; see `value` for the errors."""
        return bool(self.value(variables, recipient))


class GroupBy(Expression):
    """Which rows share a message: those with the same value."""

    option = "group_by"
    flag = "--group-by"

    def _prepared(self, tree: nodes.Expr) -> nodes.Expr:
        if isinstance(tree, nodes.And) and (hint := self._hint()):  # it would be the last of them alone
            raise self._error("C433", f"`{self.option}` is a condition, not a value", hint, None)
        return tree

    def _hint(self) -> str | None:
        """Return the value for several columns if that is what was written: ``email, name``."""
        parts = [part.strip("\"' ") for part in _SEVERAL.split(self._expression.strip("[]() "))]
        columns = [*zip(self._columns.headings, self._columns.names, strict=True)]
        spelt = {heading.casefold(): name for heading, name in columns}
        spelt |= {name.casefold(): name for _, name in columns}
        names = [spelt.get(part.casefold()) for part in parts]
        if len(names) < 2 or None in names:
            return None
        return joined_columns(map(str, names))

    def __call__(self, variables: dict[str, Any], recipient: Recipient) -> str:
        """Return the group's key; empty: the row is in no group. See `value` for further errors.

        Raises:
            RowError: the expression cannot use the row's values, or has no value.
            CampaignFileError: the expression is wrong for every row.

        """
        found = self.value(variables, recipient)
        if found is None:
            return ""
        if isinstance(found, str):
            return group_key(found)
        if kind_of(found) is None:
            raise self._error(
                "C434", "`group_by` must have a value, such as that of a column", self._hint(), None
            )
        return group_key(canonical(found))


def group_key(text: str) -> str:
    """Return the key of a group: normalised addresses, else the trimmed text itself."""
    text = trimmed(text)
    if "@" in text:
        with contextlib.suppress(AddressError):
            return ", ".join(box.address.normalised for box in parse_address_list(text))
    return text


def _look_for_other_words(tree: nodes.Expr) -> None:
    """Check values that are compared with a word for yes or no: they may mean the same in another word."""
    words = [
        node.value
        for node in tree.find_all(nodes.Const)
        if isinstance(node.value, str) and read_truth(node.value) is not None
    ]
    for compared in [tree, *tree.find_all(nodes.Compare)] if words else ():
        if not isinstance(compared, nodes.Compare):
            continue
        sides = compared.expr, compared.ops[0].expr
        if len(compared.ops) > 1 or compared.ops[0].op not in {"eq", "ne"}:
            continue
        for value, word in (sides, sides[::-1]):
            if isinstance(word, nodes.Const) and word.value in words and not isinstance(value, nodes.Const):
                known = nodes.List([nodes.Const(known) for known in words])
                looked_at = nodes.Filter(
                    value, _unlike_word.__name__, [word, known], [], None, None, lineno=value.lineno
                )
                if value is sides[0]:
                    compared.expr = looked_at
                else:
                    compared.ops[0].expr = looked_at


def _unlike_word(value: Any, word: str, known: Sequence[str]) -> Any:
    """Return a value that is compared with a word, unless it is another word of the same meaning."""
    if isinstance(value, str) and value not in known and read_truth(value) is read_truth(word):
        short = len(value.strip()) == 1 and len(word) == 1  # Y and J are also letters
        if not short or value.strip().casefold() == word.casefold():
            raise BadValue(
                "D117",
                f"is {quoted(value)}, and {quoted(word)} means the same but is spelled differently",
                value,
                f"also compare it with {quoted(value)}; or give the column a type, "
                'types = { {key} = "boolean" } in [data], and write {it}, or: not {it}',
            )
    return value


def _condition(node: nodes.Expr) -> nodes.Expr:
    """Check every operand that serves as a condition when the expression runs."""
    if isinstance(node, (nodes.And, nodes.Or)):
        return type(node)(_condition(node.left), _condition(node.right), lineno=node.lineno)
    if isinstance(node, nodes.Not):
        return nodes.Not(_condition(node.node), lineno=node.lineno)
    return nodes.Filter(node, _checked.__name__, [], [], None, None, lineno=node.lineno)


def _checked(value: Any) -> bool:
    answer = truth(value)
    if isinstance(value, str) and answer and not read_truth(value):
        reason = f"is text ({quoted(value)}), which is neither true nor false"
        raise BadValue(
            _NO_ANSWER, reason, value, 'compare it: {it} == "yes"; to test that it is not empty: {it} != ""'
        )
    return answer
