"""What is judged once for all rows of a shape is judged as if each row were the only one."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mailmerge.check import message_view, rules
from mailmerge.check.lint import Lint
from mailmerge.check.message_view import SourceLocator
from mailmerge.check.rules import body as body_rules
from mailmerge.check.rules.body import run_together
from mailmerge.check.shapes import Shape
from mailmerge.model import Columns, Recipient
from mailmerge.plan.composer import Composer, Recipe
from mailmerge.render import MessageTemplates, TemplateSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailmerge.check.message_view import MessageView

COLUMNS = Columns(("email", "a", "b"), ("email", "a", "b"))
FIXED = [
    *("Hello ", "hi", "Dear", ", ", ",\n", "\n", " ", "  * ", "(", "!", "ciao:\n", "chi", "Good morning"),
    *("{{ x }}", "{{", "{", "%} ", "{% x %}", "\ufffd", "attached", "\n\n", "ſ", "Kaffee 咖啡 · "),
    *('<a href="', '">', "<a href='", "'>", "<a ", ">", '<img src="', '<p title="', '<p title="x', "=", '"'),
    *(
        "https://x.org/",
        "http://",
        "https://x.org/?u=",
        "/",
        "&amp;c=1",
        "x.local",
        "<",
        "</a>",
        "<b>",
        "href=",
    ),
    *(
        '<a href="https://x.org/?u=',
        "see https://x.org/",
        "<https://x.org/",
        '<img alt="',
        '" src="https://x.org/',
    ),
]
VALUES = [
    *("", "Ann", "Hello", "hello,", "hi!", "ear,", "a b", "two\nlines", "x\nhello, y", ", ", "- ", "ello"),
    *("{{ x }}", "{", "{{", " x }}", "\ufffd", "attached", "%}"),
    *(
        "12.5",
        "javascript:x",
        "https://x.org/",
        "http://x.org/a b/",
        "HTTP://x.org/a c.pdf",
        "bit.ly",
        "x.local",
    ),
    *('"', "'", '">', "<a href='javascript:y'>", "<", ">", "a%20b", "&#34;", 'b" title="c', "https", "/x"),
]
BODY = st.lists(st.one_of(st.sampled_from(FIXED), st.sampled_from((0, 1))), min_size=1, max_size=12)


class EachAlone(SourceLocator):
    """Knows no shapes."""

    def shape(self, chunks: Sequence[str]) -> None:
        """Answer that this one is not known."""


def composed() -> MessageView:
    """Make a message whose bodies can be replaced."""
    templates = MessageTemplates(
        Path(), "me@x.org", ("{{ email }}",), "News", text=TemplateSource("text", None, "x")
    )
    composer = Composer(Recipe(templates), COLUMNS)
    rendered = composer.render(Recipient(2, COLUMNS, ("ann@x.org", "", "")))
    return Lint().view(rendered, composer.freeze(rendered))


MESSAGE = composed()
MANY = {(str(number),): Shape((str(number),)) for number in range(message_view._MOST_SHAPES - 1)}
rules.load()
# What runs together is remembered by what is beside the value, whatever the shape.
RULES = [rule for rule in rules.EACH_MESSAGE if rule is not run_together]


def seen(body: Sequence[str | int] | None, values: Sequence[str]) -> tuple[str, ...] | None:
    """Render a body."""
    return None if body is None else tuple(values[one] if isinstance(one, int) else one for one in body)


@settings(max_examples=300)
@given(
    text=st.none() | BODY,
    html=st.none() | BODY,
    written=st.booleans(),
    rows=st.lists(st.tuples(st.sampled_from(VALUES), st.sampled_from(VALUES)), min_size=1, max_size=6),
)
@pytest.mark.parametrize("others", [{}, MANY], ids=["new", "full"])
def test_rows_of_a_shape_are_judged_as_each_alone(text, html, written, rows, others):
    """Whatever templates and values are, each rule finds in every row what it finds without a memory."""
    bodies = {"text": text, "html": html}
    texts = {
        name: "".join((f"{{{{ {'ab'[one]} }}}}") if isinstance(one, int) else one for one in body)
        for name, body in bodies.items()
        if body and written
    }
    fixed = frozenset(one for body in (text, html) for one in body or () if isinstance(one, str))
    remembering = SourceLocator(texts, fixed=fixed)
    remembering._shapes.update(others)
    for values in rows:
        recipient = Recipient(2, COLUMNS, ("ann@x.org", *values))
        rendered = replace(
            MESSAGE.rendered, recipient=recipient, text=seen(text, values), html=seen(html, values)
        )
        for rule in RULES:
            found = list(rule(Lint(remembering).view(rendered, MESSAGE.message)))
            alone = list(rule(Lint(EachAlone(texts, fixed=fixed)).view(rendered, MESSAGE.message)))
            assert found == alone, rule.__name__


@pytest.mark.parametrize("before", ["", "(", "Hello ", "Hello", "hi\t", "Liebe", "- Hallo  ", "(((( Hi "])
@pytest.mark.parametrize("after", ["", ",", ": a"])
def test_a_greeting_without_a_name_is_found_however_its_line_is_composed(before, after):
    """The beginning of a line is read once for all rows, and the rest of it in each, with the same result."""
    fixed = frozenset({before, after} - {""})
    remembering = SourceLocator(fixed=fixed)
    judged = set()
    for values in itertools.product(
        ("", " ", ",", ":", "!", "r,", "Ann", "Hello", "ello", "\t, x"), repeat=2
    ):
        body = tuple(filter(None, (before, *values, after)))
        rendered = replace(MESSAGE.rendered, text=body, html=None)
        found = list(body_rules.greeting(Lint(remembering).view(rendered, MESSAGE.message)))
        alone = list(body_rules.greeting(Lint(EachAlone(fixed=fixed)).view(rendered, MESSAGE.message)))
        assert found == alone, body
        judged.add(bool(found))

    assert judged == ({False} if before == "(((( Hi " else {True, False})
