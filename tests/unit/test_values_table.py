"""The tables of ``docs/values.md`` are the test: each cell of them is run in the real environments."""

from __future__ import annotations

import copy
import html
import re
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jinja2 import DictLoader, nodes
from jinja2.compiler import operators
from jinja2.nodes import BinExpr, UnaryExpr
from msgspec.structs import replace

from mailmerge.errors import CampaignFileError, RowError
from mailmerge.model import Columns, Recipient
from mailmerge.render import MessageTemplates, Renderer, TemplateSource
from mailmerge.render.environments import make_environment
from mailmerge.values import (
    Date,
    DateTime,
    Duration,
    Number,
    Time,
    Truth,
    Value,
    canonical,
    displayed,
    notation,
)

PAGE = (Path(__file__).parents[2] / "docs" / "values.md").read_text("utf-8")
KINDS: dict[str, type[Value]] = {
    "number": Number,
    "date": Date,
    "date and time": DateTime,
    "time": Time,
    "duration": Duration,
    "yes or no": Truth,
}


def tables(title):
    """Return the tables of a section as lists of rows, the heading first; a row is a list of cells."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    found = []
    for block in re.findall(r"(?:^\|.*\|\n)+", section, re.MULTILINE):
        lines = [line.strip("|\n ").split(" | ") for line in block.splitlines() if set(line) != {"|", "-"}]
        found.append([[cell.strip().replace("\\|", "|") for cell in line] for line in lines])
    return found


def sample(name, shown, exact):
    """Make the cell that a row of the first table describes."""
    if name not in KINDS:
        return shown
    kind = KINDS[name]
    return kind(kind.read(exact), shown)


def unquoted(cell):
    """Take a cell's text out of its backticks."""
    return cell[1:-1] if cell.startswith("`") else cell


[_SAMPLES] = tables("The samples")
X = {row[0]: sample(row[0].partition(" (")[0], unquoted(row[1]), unquoted(row[2])) for row in _SAMPLES[1:]}
Y = {row[0]: sample(row[0].partition(" (")[0], unquoted(row[4]), unquoted(row[5])) for row in _SAMPLES[1:]}
ROWS = [
    (title, table[0], row)
    for title in ("Operators", "Filters", "Tests")
    for table in tables(title)
    for row in table[1:]
]
EXPRESSIONS = [expression for _, _, row in ROWS for expression in re.findall(r"`([^`]+)`", row[0])]


@cache
def empty(names, kind, where=None):
    """Compile all but the body."""
    options: dict[str, Any] = {kind: TemplateSource(f"message.{kind}", source="-")}
    templates = MessageTemplates(
        base=Path(), from_="me@example.org", to=("{{ email }}",), subject="-", **options
    )
    return Renderer(templates, Columns(names, names), where=where)


@cache
def renderer(names, kind, source):
    """Compile a body as a renderer does, once for all samples; everything else is made already."""
    made = copy.copy(empty(names, kind))
    body = made._compiler.body(TemplateSource(f"message.{kind}", source=source), kind)
    made._compiler.report()
    made._bodies = replace(made._bodies, **{kind: body})
    return made


def run(expression, kind, x, **more):
    """Render an expression over one row whose cells are the samples."""
    cells = {"email": "a@example.org", "x": x, **more}
    names = tuple(cells)
    rendered = renderer(names, kind, "{{ " + expression + " }}.").render(
        Recipient(2, Columns(names, names), tuple(cells.values()))
    )
    text = "".join(getattr(rendered, kind)).removesuffix(".")
    return html.unescape(text) if kind == "html" else text


def outcome(expression, kind, x, **more):
    """Return what is printed, or ``error`` if the row is refused, as the tables write it."""
    try:
        return run(expression, kind, x, **more) or "(nothing)"
    except RowError as error:
        return "error" if error.row == 2 else "an error without a row"


@pytest.mark.parametrize("kind", ["text", "html"])
@pytest.mark.parametrize(("heading", "row"), [row[1:] for row in ROWS], ids=[row[2][0] for row in ROWS])
def test_each_cell_of_the_tables_is_what_happens(heading, row, kind):
    """Every operator, filter and test of Jinja2 does with each type what the tables say, also escaped."""
    wanted = dict(zip(heading[1:], map(unquoted, row[1:]), strict=True))
    for expression in re.findall(r"`([^`]+)`", row[0]):
        found = {
            name: outcome(
                expression, kind, X[name], y=Y[name], shown=displayed(X[name]), exact=canonical(X[name])
            )
            for name in wanted
        }
        assert found == wanted, expression


@pytest.mark.parametrize("number", [0, 1], ids=["==", "<"])
def test_each_pair_of_types_is_what_happens(number):
    """What two cells of any two types answer to ``==`` and ``<`` is in the tables, in either order."""
    table = tables("Two cells")[number]
    symbol = ["==", "<"][number]
    wanted = {
        (row[0], name): cell for row in table[1:] for name, cell in zip(table[0][1:], row[1:], strict=True)
    }
    found = {(left, right): outcome(f"x {symbol} y", "text", X[left], y=X[right]) for left, right in wanted}
    assert found == wanted
    assert {name for pair in wanted for name in pair} == set(X)


def test_nothing_of_jinja2_is_missing_in_the_tables():
    """Each filter, test and operator that a template can use is in one of the tables."""
    environment = make_environment("text", loader=DictLoader({}), filters={}, variables={})
    trees = [environment.parse("{{ " + expression + " }}") for expression in EXPRESSIONS]

    def used(kind):
        return [node for tree in trees for node in tree.find_all(kind)]

    assert set(environment.filters) - {node.name for node in used(nodes.Filter)} == set()
    chosen = {node.args[0].value for node in used(nodes.Filter) if node.name == "select" and node.args}
    assert set(environment.tests) - {node.name for node in used(nodes.Test)} - chosen == set()
    assert set(operators) - {operand.op for node in used(nodes.Compare) for operand in node.ops} == set()
    arithmetic = {kind for base in (BinExpr, UnaryExpr) for kind in base.__subclasses__()}
    others = {nodes.Concat, nodes.Getitem, nodes.Getattr, nodes.Slice, nodes.CondExpr, nodes.Call}
    assert {kind for kind in arithmetic | others if not used(kind)} == set()


def test_our_own_filters_are_in_the_tables():
    """The filters that are added to Jinja2's are there, too."""
    for name in ("date", "time", "money", "number", "ordinal", "plural", "fallback"):
        assert any(f"x|{name}" in expression for expression in EXPRESSIONS)


TRUTHS = [row for table in tables("True or false") for row in table[1:]]


@pytest.mark.parametrize("row", TRUTHS, ids=[row[0] for row in TRUTHS])
def test_d44_each_word_counts_as_the_table_says_everywhere(row):
    """What counts as true is the same under if, not, and, or, in loops, filters, tests and where."""
    for word in words(row[0]):
        questions = [
            "'yes' if x else 'no'",
            "'no' if not x else 'yes'",
            "'yes' if x and true else 'no'",
            "'yes' if false or x else 'no'",
            "'yes' if [x]|select|list else 'no'",
            "'no' if [x]|reject|list else 'yes'",
            "'yes' if [{'k': x}]|selectattr('k')|list else 'no'",
            "'no' if [{'k': x}]|rejectattr('k')|list else 'yes'",
            "'yes' if x|trim else 'no'",
            "'yes' if x ~ '' else 'no'",
        ]
        found = {outcome(question, kind, word) for question in questions for kind in ("text", "html")}
        loop = "{% for i in [x] if i %}yes{% else %}no{% endfor %}{{ ''"
        found.add(outcome("'' }}" + loop, "text", word))
        macro = "{% macro m(p) %}{{ 'yes' if p else 'no' }}{% endmacro %}{{ m(x)"
        found.add(outcome("'' }}" + macro, "text", word))
        assert found == {row[1]}, word
        assert selected(word) == row[2]
        other = {"other": "other", "x": word}[row[3]]
        assert outcome("x or 'other'", "text", word) == other
        assert outcome("x|default('other', true)", "text", word) == other


def words(cell):
    """Return the texts in a cell of the table; without any it means an empty cell."""
    return re.findall(r"`([^`]*)`", cell) or [""]


def test_the_table_has_every_word_for_yes_and_no():
    """No word is understood that the page does not list."""
    listed = {word.casefold() for row in TRUTHS for word in words(row[0])}
    assert set(notation._WORDS) - listed == set()


def selected(word):
    """Return what ``where = "x"`` decides for a row."""
    names = ("email", "x")
    recipient = Recipient(2, Columns(names, names), ("a@example.org", word))
    try:
        chosen = empty(names, "text", "x").selects(recipient)
    except RowError:
        return "error"
    except CampaignFileError:
        return "stops"
    return "yes" if chosen else "no"


def test_days_are_what_is_between_two_dates():
    """The result of arithmetic is a value again: it has its own types and texts."""
    assert outcome("(y - x).days", "text", X["date"], y=Y["date"]) == "1"
    assert outcome("(y - x).value == z", "text", X["date"], y=Y["date"], z=timedelta(days=1)) == "TRUE"
