"""The short cuts of the sandbox: the same output as Jinja2's own sandbox, and nothing more allowed."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mailmerge.errors import TemplateError
from mailmerge.model import Columns, Recipient
from mailmerge.render import MessageTemplates, Renderer, TemplateSource
from mailmerge.values import Date

VALUES: dict[str, Any] = {
    "name": "Zoë <b>&'\"</b> O'Brien",
    "items": "tea|2;mug & cup|1",
    "email": "a@example.org",
    "empty": "",
    "number": 12,
    "long": "é<" * 300,
}
VARIABLES: dict[str, Any] = {"shops": [{"title": "A & B", "items": "own"}, {"title": "<C>", "count": 3}]}
TEMPLATES = [
    "{{ name }}{{ name|upper }}{{ name|safe }}{{ name|e }}{{ number }}{{ empty }}{{ long }}{{ long }}",
    "{% for it in items.split(';') %}{% set f = it.split('|') %}{{ loop.index }}{{ f[0] }}{% endfor %}",
    "{% for x in 'ab' %}{{ loop.length }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% for s in shops %}{{ s.title }}{{ s.count|default('-') }}{{ loop.revindex0 }}{% endfor %}",
    "{% macro box(x) %}<i>{{ x }}</i>{% endmacro %}{{ box(name) }}{{ box('<') ~ name }}",
    "{% set kept %}[{{ name }}]{% endset %}{{ kept }}{{ kept|length }}",
    "{% filter upper %}{{ name }}&amp;{% endfilter %}",
    "{{ 'a-%s' % name }}{{ name.replace('<', '&') }}{{ ','.join(items.split(';')) }}{{ name.title() }}",
    "{{ '{0}: {1}'.format(name, number) }}{{ '{n}'.format_map({'n': name}) }}",
    "{% autoescape true %}{{ name }}{% endautoescape %}{% autoescape false %}{{ name }}{% endautoescape %}",
    "{% autoescape number > 1 %}{{ name }}{{ number }}{% endautoescape %}",
    "{{ name if number > 3 else 'no' }}{{ (number, name) }}{{ name[0] }}{{ name[:3] ~ number }}",
    "{% call(x) each() %}{{ x }}{{ name }}{% endcall %}".replace(
        "{% call", "{% macro each() %}({{ caller('<') }}){% endmacro %}{% call"
    ),
]


def render(kind, source):
    """Render one body of this kind over `VALUES`."""
    columns = Columns(tuple(VALUES), tuple(VALUES))
    body = TemplateSource(f"message.{kind}", source=source)
    bodies: dict[str, Any] = {kind: body}
    templates = MessageTemplates(
        base=Path(),
        from_="me@example.org",
        to=("{{ email }}",),
        subject="Hello",
        vars=VARIABLES,
        **bodies,
    )
    rendered = Renderer(templates, columns).render(Recipient(2, columns, tuple(VALUES.values())))
    return "".join(getattr(rendered, kind))


@pytest.mark.parametrize("source", TEMPLATES)
@pytest.mark.parametrize("kind", ["text", "html"])
def test_short_cuts_print_what_the_plain_sandbox_prints(kind, source):
    """Every short cut gives the very text that Jinja2's own sandbox gives."""
    plain = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=kind == "html")
    assert render(kind, source) == plain.from_string(source).render({**VARIABLES, **VALUES})


@pytest.mark.parametrize(
    "source",
    [
        "{{ name.__class__ }}",
        "{{ name.split.__self__ }}",
        "{{ '{0.__class__}'.format(name) }}",
        "{{ '{n.__class__}'.format_map({'n': name}) }}",
        "{{ name|attr('__class__') }}",
        "{{ ('{0.__class__}'|attr('format'))(name) }}",
        "{% set f = ['{0.__class__}']|map(attribute='format')|first %}{{ f(name) }}",
        "{% set f = '{0.__class__}'.format %}{{ f(name) }}",
        "{% for x in shops %}{{ loop._iterator }}{% endfor %}",
        "{% for x in shops %}{{ loop.__class__ }}{% endfor %}",
        "{% for x in shops %}{% set ignored = x.update({'a': 1}) %}{{ x }}{% endfor %}",
        "{% set ignored = shops.append(1) %}{{ ignored }}",
    ],
)
def test_short_cuts_open_no_way_out(source):
    """What the sandbox refuses is refused still."""
    with pytest.raises(TemplateError) as caught:
        render("html", source)
    assert caught.value.diagnostics[0].code.startswith("T")


CELL = Date(date(2026, 3, 5), "{0.__class__}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ cell.__class__ }}",
        "{{ cell._write() }}",
        "{{ cell.value.__class__ }}",
        "{{ cell['__class__'] }}",
        "{{ cell|attr('__class__') }}",
        "{{ [cell]|map(attribute='__class__')|first }}",
        "{{ cell.format(name) }}",
        "{{ '{0.__class__}'.format(cell) }}",
        "{{ '{0.value.__class__}'.format(cell) }}",
        "{{ cell.replace.func.__globals__ }}",
        "{{ cell.upper.__self__ }}",
        "{{ {}.get.func.__globals__ }}",
        "{{ range.__globals__ }}",
        "{{ (cell ~ '').format(name) }}",
    ],
)
def test_cells_open_no_way_out(source):
    """A value and its displayed text lead to nothing that a string would not lead to."""
    columns = Columns(("email", "name", "cell"), ("email", "name", "cell"))
    templates = MessageTemplates(
        base=Path(),
        from_="me@example.org",
        to=("{{ email }}",),
        subject="Hello",
        text=TemplateSource("message.text", source=source),
    )
    with pytest.raises(TemplateError) as caught:
        Renderer(templates, columns).render(Recipient(2, columns, ("a@example.org", "x", CELL)))
    assert caught.value.diagnostics[0].code.startswith("T")


def test_many_values_do_not_pile_up():
    """The memory of escaped texts is bounded, and long texts are not kept at all."""
    columns = Columns(("name", "email"), ("name", "email"))
    templates = MessageTemplates(
        base=Path(),
        from_="me@example.org",
        to=("{{ email }}",),
        subject="Hello",
        html=TemplateSource("message.html", source="<b>{{ name }}</b>"),
    )
    renderer = Renderer(templates, columns)
    for number in range(5000):
        rendered = renderer.render(Recipient(2, columns, (f"<{number}", "a@example.org")))
        assert "".join(rendered.html or ()) == f"<b>&lt;{number}</b>"
    renderer.render(Recipient(2, columns, ("<" * 1000, "a@example.org")))
    environment: Any = renderer._compiler._environments["html"]
    kept = environment.escaped
    assert 0 < len(kept) <= 4096
    assert max(map(len, kept)) <= 200
