"""``--where`` and ``data.where``: one Jinja2 expression that says whether a row is meant.

Text is no truth value here: a column that says "no" would count as true. Wherever the expression uses a
value as a condition (as a whole, under ``not``, ``and``, ``or``), text is an error with the way out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jinja2 import Template, TemplateSyntaxError, nodes
from jinja2.parser import Parser

from mailmerge.errors import CampaignFileError
from mailmerge.model import Place
from mailmerge.render.environments import UnknownName
from mailmerge.render.name_check import Survey, name_hint
from mailmerge.text import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jinja2 import Environment

    from mailmerge.model import Recipient

_RESULT = "result"


class Where:
    """A compiled condition over a row's values."""

    def __init__(self, environment: Environment, expression: str, known: Iterable[str]) -> None:
        self._expression = expression
        self._known = set(known)
        try:
            parser = Parser(environment, expression, state="variable")
            tree = parser.parse_expression()
            if not parser.stream.eos:
                parser.fail("unexpected text after the expression", 1)
        except TemplateSyntaxError as error:
            message = (error.message or "").rstrip(".")
            raise self._error("C433", f"`where` is not an expression: {message}", None, None) from None
        for node in (tree, *tree.find_all(nodes.Name)):
            known = self._known | environment.globals.keys()
            if isinstance(node, nodes.Name) and node.ctx == "load" and node.name not in known:
                raise self._unknown(node.name)
        environment.filters[_checked.__name__] = _checked
        self._environment = environment
        assign = nodes.Assign(nodes.Name(_RESULT, "store", lineno=1), _condition(tree), lineno=1)
        template = nodes.Template([assign], lineno=1)
        self.names = frozenset(Survey(template).names)
        """Names that it reads."""
        code = environment.compile(template, "where")
        self._template = Template.from_code(environment, code, environment.make_globals(None))

    def __call__(self, variables: dict[str, Any], recipient: Recipient) -> bool:
        """Say whether the row is selected.

        Raises:
            CampaignFileError: the expression fails for this row, or its value is text.

        """
        context = self._template.new_context(variables, shared=True)
        try:
            for _ in self._template.root_render_func(context):
                pass
            return bool(context.vars[_RESULT])
        except CampaignFileError as error:
            raise self._error(error.code, error.message, error.hint, recipient.row) from None
        except UnknownName as error:
            raise self._unknown(str(error.name), recipient.row) from None
        except Exception as error:  # noqa: BLE001  whatever the expression does with a value
            hint = None
            if isinstance(error, TypeError):
                hint = "text and numbers cannot be compared: write |int or |float after the column"
            message = f"`where` fails for row {recipient.row}: {error}"
            raise self._error("C434", message, hint, recipient.row) from None

    def _unknown(self, name: str, row: int | None = None) -> CampaignFileError:
        hint = name_hint(name, self._known - {"row"}, "columns and variables")
        return self._error("C431", f"unknown name `{name}` in `where`", hint, row)

    def _error(self, code: str, message: str, hint: str | None, row: int | None) -> CampaignFileError:
        place = Place(path="--where", line=1, source=self._expression)
        return CampaignFileError(message, code=code, hint=hint, place=place, row=row)


def _condition(node: nodes.Expr) -> nodes.Expr:
    """Check every operand that serves as a condition when the expression runs."""
    if isinstance(node, (nodes.And, nodes.Or)):
        return type(node)(_condition(node.left), _condition(node.right), lineno=node.lineno)
    if isinstance(node, nodes.Not):
        return nodes.Not(_condition(node.node), lineno=node.lineno)
    text = nodes.Const(node.name if isinstance(node, nodes.Name) else "it", lineno=node.lineno)
    return nodes.Filter(node, _checked.__name__, [text], [], None, None, lineno=node.lineno)


def _checked(value: object, name: str) -> object:
    if isinstance(value, str):
        raise CampaignFileError(
            f"`{name}` is text ({quoted(value)}), which is neither true nor false",
            code="C432",
            hint=f'compare it: {name if name != "it" else "column"} == "yes"',
        )
    return value
