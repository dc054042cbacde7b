"""Which values a template uses where damage shows most: addresses, names, greetings, the subject."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailmerge.model import Columns
from mailmerge.render import MessageTemplates, Renderer, TemplateSource

COLUMNS = Columns(
    ("email", "First Name", "last", "title", "salutation", "id", "姓名"),
    ("email", "first_name", "last", "title", "salutation", "id", "姓名"),
)

GREETINGS = [
    ("Dear {{ title }} {{ last }}, your order {{ id }}", {"title", "last"}),
    ("\n  Hi {{ first_name }}!\nyour number is {{ id }}", {"first_name"}),
    (
        "{% if title == 'Ms' %}Liebe {{ first_name }}{% else %}Lieber {{ last }}{% endif %},\n",
        {"first_name", "last"},
    ),
    ("{% set name = first_name or last %}Hello {{ name }}!", {"first_name", "last"}),
    ('Guten Tag {{ row["First Name"] }},', {"First Name"}),
    ("Sehr geehrte Frau {{ last|title }},", {"last"}),
    ("Estimado/a {{ last }}:", {"last"}),
    ("Уважаемая {{ last }}!", {"last"}),
    ("尊敬的{{ 姓名 }}先生：", {"姓名"}),
    ("{{ 姓名 }}様\n\nid {{ id }}", {"姓名"}),
    ("{{ salutation }} {{ last }},\n\nid {{ id }}", {"salutation", "last"}),
    ("Your number is {{ id }}.\nBest regards\n{{ last }}", set()),
    ("Hidden {{ id }}, Cargo {{ last }}", set()),
    ("{{ id }} is your number.", set()),
]


def roles(text: str, html: str | None = None, to: str = "{{ email }}") -> dict[str, str]:
    """Compile a message, and say what its columns are used for."""
    return Renderer(
        MessageTemplates(
            base=Path(),
            from_="me@example.org",
            to=(to,),
            subject="Hello",
            text=TemplateSource("message.text", source=text),
            html=TemplateSource("message.html", source=html) if html else None,
        ),
        COLUMNS,
    ).roles()


@pytest.mark.parametrize(("text", "names"), GREETINGS)
def test_a_greeting_is_known_by_its_first_words(text: str, names: set[str]) -> None:
    """What is next to it, after it or below it does not belong to it."""
    found = {name for name, role in roles(text).items() if role == "in the greeting"}
    assert found & {*COLUMNS.names, *COLUMNS.headings} == names


def test_the_greeting_of_a_page_is_what_it_shows() -> None:
    """Markup, what is in the head, and where its lines break do not matter."""
    html = (
        "<html><head><title>Hi {{ id }}</title></head><body><p>Dear\n  <b>{{ first_name }}</b>,</p>"
        "<p>{{ last }}</p></body></html>"
    )
    assert roles("x", html)["first_name"] == "in the greeting"
    assert roles("x", html).keys().isdisjoint({"id", "last"})


def test_addresses_and_names_of_recipients_come_first() -> None:
    """A column is told by what matters most of all that it is used for."""
    found = roles("Dear {{ email }} {{ last }},", to="{{ last }} <{{ email }}>")
    assert (found["email"], found["last"]) == ("as an address in To", "as a name in To")
