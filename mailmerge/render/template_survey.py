"""What one template reads, binds and refers to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import nodes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Reference = nodes.Extends | nodes.Include | nodes.Import | nodes.FromImport
"""A tag that names another template."""
_VALUE_FILTERS = frozenset({"date", "time", "money", "number", "int", "float", "round"})
"""Filters that format a value themselves, whatever its displayed text."""


class TemplateSurvey:
    """What one template reads, binds and refers to, found in a single walk."""

    __slots__ = ("bound", "names", "parts", "references", "row_keys", "whole_rows", "written")

    def __init__(self, tree: nodes.Node, *, parts: bool = False) -> None:
        self.names: set[str] = set()
        """Every name that is read anywhere; for ``row["heading"]`` the heading, without ``row``."""
        self.written: set[str] = set()
        """Those whose displayed text may be output, not only their value or a condition on it."""
        self.bound: set[str] = set()
        """The names that ``set``, ``for``, macros and imports define."""
        self.references: list[tuple[Reference, str]] = []
        """Literal names of other templates, with the tags that contain them."""
        self.row_keys: list[tuple[str, int]] = []
        """The headings in ``row["heading"]``, with their lines."""
        self.whole_rows: list[int] = []
        """Lines with ``row`` alone, where a cell may be intended."""
        self.parts: set[str] = set()
        """Attributes and strings, if requested: fields of ``rows`` are among them, all fields if ``*`` is."""
        rows = 0
        every = list(tree.find_all(nodes.Node))
        asked = _asked(every)
        values = _values_only(every)
        for node in every:
            if isinstance(node, nodes.Name):
                (self.names if node.ctx == "load" else self.bound).add(node.name)
                if id(node) not in values:
                    self.written.add(node.name)
                rows += node.name == "row"
                if node.name == "row" and node.ctx == "load" and id(node) not in asked:
                    self.whole_rows.append(node.lineno)
            elif isinstance(node, nodes.Getitem):
                self._note_key(node)
            elif isinstance(node, nodes.Macro):
                self.bound.add(node.name)
            elif isinstance(node, Reference):
                self._note_reference(node)
        if rows == len(self.row_keys):  # it is only used to get cells by their headings
            self.names.discard("row")
        if parts:
            self.parts = set(_parts(every))

    def _note_key(self, node: nodes.Getitem) -> None:
        row = isinstance(node.node, nodes.Name) and node.node.name == "row"
        if row and isinstance(node.arg, nodes.Const):
            self.names.add(str(node.arg.value))
            self.written.add(str(node.arg.value))
            self.row_keys.append((str(node.arg.value), node.lineno))

    def _note_reference(self, node: Reference) -> None:
        if isinstance(node, nodes.FromImport):
            self.bound.update(item[1] if isinstance(item, tuple) else item for item in node.names)
        elif isinstance(node, nodes.Import):
            self.bound.add(node.target)
        if isinstance(node.template, nodes.Const) and isinstance(node.template.value, str):
            self.references.append((node, node.template.value))


def _parts(every: Iterable[nodes.Node]) -> Iterator[str]:
    """Yield what may name a field of one of several rows; ``*`` if that is not known in advance."""
    for node in every:
        if isinstance(node, nodes.Getattr):
            yield "*" if node.attr in {"items", "keys", "values"} else node.attr
        elif isinstance(node, nodes.Const):
            yield from str(node.value).replace(",", ".").split(".") if isinstance(node.value, str) else ()
            yield str(node.value)
        elif isinstance(node, nodes.Getitem) and not isinstance(
            node.arg, nodes.Const | nodes.Slice | nodes.Neg
        ):
            yield "*"


def _asked(every: Sequence[nodes.Node]) -> set[int]:
    """Find names of which the template uses a part: ``row["due"]``, ``row.items()``, ``for x in row``."""
    found = {id(node.node) for node in every if isinstance(node, nodes.Getitem | nodes.Getattr)}
    return found.union(id(loop.iter) for loop in every if isinstance(loop, nodes.For))


def _values_only(every: Iterable[nodes.Node]) -> set[int]:
    """Find names of which the template uses only the value: ``due|date``, ``due < today``, ``if due``."""
    found: list[nodes.Node] = []
    for node in every:
        if isinstance(node, nodes.Compare):
            found += [node.expr, *(operand.expr for operand in node.ops)]
        elif isinstance(node, nodes.If | nodes.CondExpr):
            found.append(node.test)
        elif isinstance(node, nodes.Filter) and node.name in _VALUE_FILTERS and node.node is not None:
            found.append(node.node)
    return {id(node) for node in found if isinstance(node, nodes.Name)}
