"""Mistakes that people make first in templates: each gets a sentence and a fix, all of them in one pass."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailmerge.errors import CampaignFileError, TemplateError
from mailmerge.model import AttachmentRule, Columns, Place, Recipient
from mailmerge.recipients.recipient_list import read_header
from mailmerge.render import MessageTemplates, Renderer, TemplateSource

HEADINGS = (
    "email",
    "First Name",
    "Test 1",
    "amount",
    "50% off",
    "Größe (cm)",
    "名 前",
    "Customer's no.",
    "2024",
)
PLACES = ("subject", "to", "text", "html", "html.md", "include", "attach", "header")

_ESCAPED = "an editor has escaped characters in the tag: write "
_CURLED = "an editor has curled the quotes: write "


def columns(headings):
    """Return the columns as a list with these headings has them."""
    header, _ = read_header(headings, 1, lambda _: Place())
    assert isinstance(header.columns, Columns)
    return header.columns


def told(folder, place, tag, headings=HEADINGS):
    """Return what is reported for a template with *tag* in *place*: code, hint."""
    options: dict[str, Any] = {"text": TemplateSource("body.txt", source="Hello")}
    if place in {"text", "html"}:
        options[place] = TemplateSource(f"message.{place}", source=f"Hello\n{tag}\n")
    elif place == "html.md":
        (folder / "body.md").write_text(f"Hello\n\n{tag}\n", encoding="utf-8")
        options = {"html": TemplateSource("body.md", path=folder / "body.md")}
    elif place == "include":
        (folder / "part.txt").write_text(tag, encoding="utf-8")
        options["text"] = TemplateSource("message.text", source='{% include "part.txt" %}')
    elif place == "attach":
        options["attachments"] = (AttachmentRule(path=tag),)
    elif place == "header":
        options["headers"] = (("X-Test", tag),)
    else:
        options[place] = (f"{tag} <{{{{ email }}}}>",) if place == "to" else tag
    templates = MessageTemplates(
        **{"base": folder, "from_": "me@example.org", "to": ("{{ email }}",), "subject": "Hi", **options}
    )
    with pytest.raises(TemplateError) as caught:
        Renderer(templates, columns(headings))
    return [(problem.code, problem.hint) for problem in caught.value.diagnostics]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("tag", "code", "hint"),
    [
        ("{{ First Name }}", "T160", "write {{ first_name }}"),
        ("{{ Test 1 }}", "T160", "write {{ test_1 }}"),
        ("{{ 50% off }}", "T160", 'write {{ row["50% off"] }}'),
        ("{{ Größe (cm) }}", "T160", "write {{ größe_cm }}"),
        ("{{ 名 前|trim }}", "T160", "write {{ 名_前|trim }}"),
        ("{{ Customer's no. }}", "T160", 'write {{ row["Customer\'s no."] }}'),
        ("{{ first-name }}", "T160", "write {{ first_name }}"),
        ("{{ row.First Name }}", "T160", "write {{ first_name }}"),
        ("{{ [First Name] }}", "T160", "write {{ first_name }}"),
        ("{{ “First Name” }}", "T160", "write {{ first_name }}"),
        ('{{ First Name or "you" }}', "T160", 'write {{ first_name or "you" }}'),
        ("{% if First Name %}x{% endif %}", "T160", "write {% if first_name %}"),
        ("{{ 2024 }}", "T160", "write {{ _2024 }}"),
        ("{{ first_name|default(“x”) }}", "T101", _CURLED + '{{ first_name|default("x") }}'),
        ("{% if amount &gt; 3 %}x{% endif %}", "T101", _ESCAPED + "{% if amount > 3 %}"),
        ("{% if amount &lt; 3 %}x{% endif %}", "T101", _ESCAPED + "{% if amount < 3 %}"),
        ("{{ email&nbsp;}}", "T101", _ESCAPED + "{{ email }}"),
        ("{{{ email }}}", "T101", "{{{ }}} is the syntax of another program: write {{ email }}"),
        ("{{ email }", "T101", "write {{ email }}"),
        ("{{ email %}", "T101", "write {{ email }}"),
        ("{% if email %}x", "T101", "write {% endif %} where it should end"),
        ("x{% endif %}", "T101", "remove it, or write {% if ... %} before it"),
        ("{% if email %}x{% else if amount %}y{% endif %}", "T101", "write {% elif amount %}"),
        ('{% if email = "x" %}y{% endif %}', "T101", 'write {% if email == "x" %}'),
        ("{% if email && amount %}y{% endif %}", "T101", "write {% if email and amount %}"),
        ("{% if email %}y{% end %}", "T101", "write {% endif %}"),
        ("{% email %}", "T101", "write {{ email }}"),
        ("{{ .Email }}", "T101", "write {{ email }}"),
        ("{{ amount|money }}", "T161", 'write |money("EUR"), with your currency'),
        ("{{ amount|money(EUR) }}", "T102", 'a currency is a string, in quotes: |money("EUR")'),
    ],
)  # fmt: skip
def test_a_first_mistake_is_told_with_its_fix_wherever_it_is(tmp_path, place, tag, code, hint):
    """One problem, whose hint is what to write instead."""
    assert told(tmp_path, place, tag) == [(code, hint)]


@pytest.mark.parametrize(
    ("name", "first"),
    [
        *[("currency", "money"), ("curency", "money"), ("mony", "money"), ("USD", "money")],
        *[("upcase", "upper"), ("titelcase", "title"), ("strftime", "date"), ("datefromat", "date")],
    ],
)  # fmt: skip
def test_an_unknown_filter_is_told_with_those_that_there_are(tmp_path, name, first):
    """The nearest comes first, and none is left out."""
    ((code, hint),) = told(tmp_path, "text", f"{{{{ amount|{name} }}}}")
    assert code == "T101"
    assert hint.startswith(f"did you mean `{first}`? filters: {first}, ")
    assert {"money", "date", "number", "upper", "default"} <= set(re.findall(r"\w+", hint))


def test_all_mistakes_of_all_templates_are_told_at_once(tmp_path):
    """Nobody has to run the check once for each: subject, text and HTML, tags and names and filters."""
    templates = MessageTemplates(
        base=tmp_path,
        from_="me@example.org",
        to=("{{ email }}",),
        subject="{{ First Name }} {{ nope }}",
        text=TemplateSource("body.txt", source="{{ Test 1 }}\n{% if amuont %}\n{{ email|nope1 }}"),
        html=TemplateSource(
            "body.html", source="{{ Test 1 }}\n{{{ email }}}\n{% if 1 %}{{ x|nope2 }}{% endif %}"
        ),
    )
    with pytest.raises(TemplateError) as caught:
        Renderer(templates, columns(HEADINGS))
    places = [(problem.code, problem.place or Place()) for problem in caught.value.diagnostics]
    assert sorted((code, place.path, place.line) for code, place in places) == [
        ("T101", "body.html", 2),
        ("T101", "body.html", 3),
        ("T101", "body.txt", 2),
        ("T101", "body.txt", 3),
        ("T102", "body.html", 3),
        ("T102", "body.txt", 2),
        ("T102", "message.subject", 1),
        ("T160", "body.html", 1),
        ("T160", "body.txt", 1),
        ("T160", "message.subject", 1),
    ]


@pytest.mark.parametrize(
    ("where", "code", "hint"),
    [
        ("First Name == 'Ann'", "C433", "write first_name == 'Ann'"),
        ("Test 1", "C433", "write test_1"),
        ("first_name = “Ann”", "C433", 'write first_name == "Ann"'),
        ("email &lt;&gt; ''", "C433", "write email != ''"),
        ("{{ first_name }}", "C433", "write first_name"),
        ("50% off == '3'", "C431", "write row[\"50% off\"] == '3'"),
        ("amount > 3 AND email", "C433", "write amount > 3 and email"),
        ("First Name = 'Ann' AND EMail <> 'x'", "C433", "write first_name == 'Ann' and email != 'x'"),
        ("Email = 'a' AND First Name <> 'Cy'", "C433", "write email == 'a' and first_name != 'Cy'"),
        ("Amount >= 3 && Email", "C433", "write amount >= 3 and email"),
    ],
)
def test_a_condition_is_told_with_its_fix(tmp_path, where, code, hint):
    """What `where` says is helped with as tags are."""
    templates = MessageTemplates(
        base=tmp_path,
        from_="me@example.org",
        to=("{{ email }}",),
        subject="Hi",
        text=TemplateSource("body.txt", source="x"),
    )
    with pytest.raises(CampaignFileError) as caught:
        Renderer(templates, columns(HEADINGS), where=where)
    assert (caught.value.code, caught.value.hint) == (code, hint)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("email == 'x", "a quotation mark is not closed"),
        ('email == "x', "a quotation mark is not closed"),
        ("email ==", "something is missing at its end"),
    ],
)
def test_what_is_wrong_with_a_condition_is_said_plainly(tmp_path, where, message):
    """Without Jinja2's words for characters and ends."""
    templates = MessageTemplates(base=tmp_path, from_="me@example.org", to=("{{ email }}",), subject="Hi")
    with pytest.raises(CampaignFileError) as caught:
        Renderer(templates, columns(HEADINGS), where=where)
    assert caught.value.message == f"`where` is not an expression: {message}"


@settings(derandomize=True)  # headings such as A|A, 0|A and -a are told two things, or none
@given(
    st.text(
        st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters="{}#\"'\\"), min_size=1
    )
    .map(lambda text: " ".join(text.split()))
    .filter(lambda text: len(text.strip()) > 1 and any(char.isalnum() for char in text))
)
@example("Vor- und Nachname")
@example("E-Mail (privat)")
@example("№ заказа")
@example("Prix €/kg")
@example("is it in?")
@example("-0")
@example("+ 5")
@example("False")
@example("none")
@example("a\xad")
@example("a,")
@example("Anrede, ")
@example("0\uf900")  # another character in NFC
def test_whatever_a_column_is_called_its_fix_works(tmp_path_factory, heading):
    """The tag with any heading prints the cell, or the one problem's hint is a tag that does."""
    folder = tmp_path_factory.getbasetemp()
    made = columns(("email", heading))

    def rendered(tag):
        templates = MessageTemplates(
            base=folder,
            from_="me@example.org",
            to=("{{ email }}",),
            subject="Hi",
            text=TemplateSource("body.txt", source=f"{tag}!"),
        )
        row = Recipient(2, made, ("a@example.org", "the cell"))
        return "".join(Renderer(templates, made).render(row).text or ())

    try:
        shown = rendered(f"{{{{ {heading} }}}}")
    except TemplateError as error:
        # A soft hyphen is what editors put into tags: that is told first, with the same fix.
        hints = [
            (problem.hint or "").removeprefix("an editor has changed the tag: ")
            for problem in error.diagnostics
            if problem.code == "T160" or (problem.hint or "").startswith("an editor has changed the tag: ")
        ]
        # "0is A" is a number and a test, too.
        others = () if heading[0].isdigit() and " " in heading else error.diagnostics[1:]
        assert len(hints) == 1, error.diagnostics  # noqa: PT017
        assert not others, error.diagnostics  # noqa: PT017
        shown = rendered(hints[0].removeprefix("write "))
    assert shown == "the cell!"
