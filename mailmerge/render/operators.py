"""Compiles the operators of templates to the meaning that `mailmerge.values` defines.

Python's own ``==``, ``and`` or ``if`` would compare a string with a number and answer False, or take the
string ``no`` for true. Comparisons, conditions, ``~`` and arithmetic are therefore compiled to calls of the
environment, except where both sides are plain strings: that path is as fast as Jinja2's own.
"""

# ruff: noqa: N802  Jinja2 calls visitors by the names of its nodes

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, optimizeconst
from jinja2.optimizer import Optimizer

from mailmerge import values

if TYPE_CHECKING:
    from collections.abc import Callable

    from jinja2.compiler import Frame

_ORDERED: dict[str, Callable[[Any, Any], bool]] = {
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
}
_ANSWERS = (nodes.Compare, nodes.Test)
"""Expressions that are booleans themselves."""
_MEANT_BY_US: tuple[type[nodes.Expr], ...] = (
    nodes.Compare,
    nodes.And,
    nodes.Or,
    nodes.Not,
    nodes.CondExpr,
    nodes.Concat,
)
"""Expressions that Jinja2's optimiser would evaluate as Python does."""


class _Optimizer(Optimizer):
    """Leaves to the running template what Python would evaluate differently."""

    def generic_visit(self, node: nodes.Node, *args: Any, **options: Any) -> nodes.Node:
        return node if _has_own(node) else super().generic_visit(node, *args, **options)


def _has_own(node: nodes.Node) -> bool:
    return isinstance(node, _MEANT_BY_US) or next(node.find_all(_MEANT_BY_US), None) is not None


def _is_written(node: nodes.Expr) -> bool:
    """Return whether a string is written in the template itself: it contains no name."""
    if isinstance(node, nodes.Const):
        return isinstance(node.value, str)
    return not isinstance(node, nodes.Name) and next(node.find_all(nodes.Name), None) is None


class Operators:
    """What compiled templates call; a part of the environment."""

    truths: values.Truths

    def compare(self, symbol: str, left: Any, right: Any) -> bool:
        """Evaluate a comparison that is not between two plain strings."""
        if symbol == "eq":
            return values.equal(left, right)
        if symbol == "ne":
            return not values.equal(left, right)
        if symbol == "in":
            return values.contains(right, left)
        if symbol == "notin":
            return not values.contains(right, left)
        return values.ordered(_ORDERED[symbol], left, right)

    truth = staticmethod(values.truth)
    present = staticmethod(values.present)
    joined = staticmethod(values.displayed)
    repeated = staticmethod(values.repeated)


class OperatorGenerator(CodeGenerator):
    """Generates the calls."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._conditions: set[int] = set()
        if self.optimizer is not None:
            self.optimizer = _Optimizer(self.environment)

    def write_commons(self) -> None:
        """Write the beginning of every root and block."""
        self.writeline("escaped, truths = environment.escaped, environment.truths")
        super().write_commons()

    def visit(self, node: nodes.Node, *args: Any, **options: Any) -> Any:
        """Visit a node; one that was marked is a condition."""
        if id(node) in self._conditions:
            self._conditions.discard(id(node))
            return self._condition(node, *args)
        return super().visit(node, *args, **options)

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:
        if _has_own(node):
            raise nodes.Impossible
        return super()._output_child_to_const(node, frame, finalize)

    def visit_If(self, node: nodes.If, frame: Frame) -> None:
        """Write ``if`` and ``elif``."""
        self._conditions.update(id(part.test) for part in (node, *node.elif_))
        super().visit_If(node, frame)

    def visit_For(self, node: nodes.For, frame: Frame) -> None:
        """Write ``for``, whose items may have a condition."""
        if node.test:
            self._conditions.add(id(node.test))
        super().visit_For(node, frame)

    def visit_CondExpr(self, node: nodes.CondExpr, frame: Frame) -> None:
        """Write ``a if b else c``."""
        self._conditions.add(id(node.test))
        super().visit_CondExpr(node, frame)

    def visit_Not(self, node: nodes.UnaryExpr, frame: Frame) -> None:
        """Write ``not``."""
        self.write("(not ")
        self._condition(node.node, frame)
        self.write(")")

    def visit_And(self, node: nodes.BinExpr, frame: Frame) -> None:
        """Write ``a and b`` where its value is used: the left side is a condition."""
        name = self.temporary_identifier()
        self.write("(")
        self.visit(node.right, frame)
        self.write(" if ")
        self._asked(node.left, frame, name)
        self.write(f" else {name})")

    def visit_Or(self, node: nodes.BinExpr, frame: Frame) -> None:
        """Write ``a or b`` where its value is used: the left side, if it is not empty."""
        name = self.temporary_identifier()
        self.write(f"({name} if environment.present({name} := ")
        self.visit(node.left, frame)
        self.write(") else ")
        self.visit(node.right, frame)
        self.write(")")

    def _condition(self, node: nodes.Node, frame: Frame) -> None:
        if isinstance(node, nodes.And | nodes.Or):
            self.write("(")
            self._condition(node.left, frame)
            self.write(" and " if isinstance(node, nodes.And) else " or ")
            self._condition(node.right, frame)
            self.write(")")
        elif isinstance(node, (*_ANSWERS, nodes.Not)):
            self.visit(node, frame)
        else:
            self._asked(node, frame, self.temporary_identifier())

    def _asked(self, node: nodes.Node, frame: Frame, name: str) -> None:
        # A value that is not a string has its own truth; markup is a subclass of `str`.
        short = f"truths[{name}] if len({name}) <= {values.LONGEST_WORD}"
        self.write(f"(({short} else not {name}.isspace()) if ({name} := ")
        self.visit(node, frame)
        self.write(
            f").__class__ is str else environment.truth({name}) if {name}.__class__ is Markup else {name})"
        )

    @optimizeconst
    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        """Write a comparison; ``a < b < c`` evaluates ``b`` once."""
        left: nodes.Expr | str = node.expr
        self.write("(")
        for number, operand in enumerate(node.ops, 1):
            if number > 1:
                self.write(" and ")
            left = self._comparison(left, operand, frame, keep=number < len(node.ops))
        self.write(")")

    def _comparison(self, left: nodes.Expr | str, operand: nodes.Operand, frame: Frame, *, keep: bool) -> str:
        symbol, right = operand.op, operand.expr
        first, second = self.temporary_identifier(), self.temporary_identifier()
        python = {"eq": "==", "ne": "!="}.get(symbol)
        if python and isinstance(right, nodes.Const) and right.value.__class__ is str and not keep:
            self.write(f"{first} {python} {right.value!r} if ({first} := ")
            self._write_either(left, frame)
            self.write(f").__class__ is str else environment.compare({symbol!r}, {first}, {right.value!r})")
            return ""
        if python:
            self.write(f"{first} {python} {second} if ({first} := ")
            self._write_either(left, frame)
            self.write(f").__class__ is ({second} := ")
            self.visit(right, frame)
            self.write(f").__class__ is str else environment.compare({symbol!r}, {first}, {second})")
        else:
            self.write(f"environment.compare({symbol!r}, ")
            self._write_either(left, frame)
            self.write(f", ({second} := " if keep else ", (")
            self.visit(right, frame)
            self.write("))")
        return second

    def _write_either(self, node: nodes.Expr | str, frame: Frame) -> None:
        if isinstance(node, str):
            self.write(node)
        else:
            self.visit(node, frame)

    @optimizeconst
    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        """Write ``x[0]``, which is plain indexing for a list that is long enough."""
        at = node.arg.value if isinstance(node.arg, nodes.Const) else None
        if at.__class__ is not int or at < 0:
            super().visit_Getitem(node, frame)
            return
        name = self.temporary_identifier()
        self.write(f"({name}[{at}] if ({name} := ")
        self.visit(node.node, frame)
        self.write(f").__class__ is list and len({name}) > {at} else environment.getitem({name}, {at}))")

    @optimizeconst
    def visit_Mul(self, node: nodes.BinExpr, frame: Frame) -> None:
        """Write ``*``, which repeats only a string that is written in the template."""
        if _is_written(node.left) or _is_written(node.right):
            self.write("environment.repeated(")
            self.visit(node.left, frame)
            self.write(", ")
            self.visit(node.right, frame)
            self.write(")")
        else:
            super().visit_Mul(node, frame)

    @optimizeconst
    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        """Write ``~``, which joins displayed texts."""
        if frame.eval_ctx.volatile:
            join = "(markup_join if context.eval_ctx.volatile else str_join)"
        else:
            join = "markup_join" if frame.eval_ctx.autoescape else "str_join"
        self.write(f"{join}((")
        for part in node.nodes:
            name = self.temporary_identifier()
            self.write(f"{name} if ({name} := ")
            self.visit(part, frame)
            self.write(f").__class__ is str else environment.joined({name}), ")
        self.write("))")
