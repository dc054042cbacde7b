"""The renderer: what templates may do, what they print, and the wording of every refusal."""

from __future__ import annotations

import functools
import re
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path

import pytest

from mailmerge.errors import CampaignFileError, RowError, TemplateError
from mailmerge.model import AttachmentRule, Columns, Place, Recipient
from mailmerge.recipients import from_rows
from mailmerge.render import MessageTemplates, Renderer, TemplateSource
from mailmerge.render.filters import Filters
from mailmerge.values import Number, displayed

HEADINGS = ("First Name", "email", "plan", "amount", "due")
NAMES = ("first_name", "email", "plan", "amount", "due")
COLUMNS = Columns(HEADINGS, NAMES)
_CONTENT_PAGE = (Path(__file__).parents[2] / "docs" / "content.md").read_text("utf-8")


def row(*values, number=12):
    defaults = ("Kim", "kim@example.org", "gold", "1234.50", "2026-03-01")
    return Recipient(number, COLUMNS, (*values, *defaults[len(values) :]))


@pytest.fixture
def make(tmp_path):
    """Build a renderer with any template replaced; the template folder is tmp_path."""

    def build(where=None, **options):
        for kind in ("text", "html"):
            if isinstance(options.get(kind), str):
                options[kind] = TemplateSource(f"message.{kind}", source=options[kind])
        defaults = {
            "base": tmp_path,
            "from_": "Accounts <me@example.org>",
            "to": ("{{ first_name }} <{{ email }}>",),
            "subject": "Hello {{ first_name }}",
            "text": TemplateSource("message.text", source="Hello"),
        }
        return Renderer(MessageTemplates(**{**defaults, **options}), COLUMNS, where=where)

    return build


@pytest.fixture
def text(make):
    """Render one text body for one row."""

    def run(source, recipient=None, **options):
        return "".join(make(text=source, **options).render(recipient or row()).text)

    return run


# --- values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        ("00716", "00716"),
        ("nan", "nan"),
        ("", ""),
        (True, "TRUE"),
        (False, "FALSE"),
        (13800138000.0, "13800138000"),
        (1e21, "1000000000000000000000"),
        (0.1, "0.1"),
        (1e-7, "0.0000001"),
        (Decimal("1.10"), "1.10"),
        (Decimal("1E+3"), "1000"),
        (7, "7"),
        (date(2026, 3, 1), "2026-03-01"),
        (datetime.fromisoformat("2026-03-01 09:30"), "2026-03-01 09:30"),
        (datetime.fromisoformat("2026-03-01 09:30:05"), "2026-03-01 09:30:05"),
        (time(9, 30), "09:30"),
    ],
)
def test_values_print_as_people_write_them(text, value, printed):
    """No exponent, no trailing .0, no Python spelling; text stays as it is."""
    assert text("[{{ plan }}]", row("Kim", "k@x.org", value)) == f"[{printed}]"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal("NaN"), None])
def test_nothing_to_print_is_an_error_of_the_row(text, value):
    """None and NaN never reach a person; the message names the column."""
    with pytest.raises(RowError) as caught:
        text("Dear\n{{ plan }}", row("Kim", "k@x.org", value))
    assert caught.value.code == "D113"
    assert caught.value.row == 12
    assert caught.value.message.startswith("`plan` is ")
    assert (caught.value.line, caught.value.column) == (2, 4)


def test_template_tags_in_a_cell_stay_text(text):
    """Row values are never compiled."""
    assert text("{{ plan }}", row("Kim", "k@x.org", "{{ 7*7 }}{% if %}")) == "{{ 7*7 }}{% if %}"


def test_escaping_goes_by_part_not_by_file_name(make, tmp_path):
    """Cells are escaped in HTML whatever the file is called, and untouched in subject and text."""
    (tmp_path / "body.j2").write_text("<b>{{ plan }}</b>")
    (tmp_path / "body.html").write_text("{{ plan }}")
    rendered = make(
        subject="{{ plan }}",
        html=TemplateSource("body.j2", tmp_path / "body.j2"),
        text=TemplateSource("body.html", tmp_path / "body.html"),
    ).render(row("Kim", "k@x.org", "<script>\"&'"))
    assert "".join(rendered.html) == "<b>&lt;script&gt;&#34;&amp;&#39;</b>"
    assert "".join(rendered.text) == rendered.subject == "<script>\"&'"


def test_row_gives_headings_as_written(text):
    """`row` reaches columns whose heading is not a name."""
    assert text("{{ row['First Name'] }} {{ row.plan }}") == "Kim gold"


def test_variables_are_visible_and_columns_win(text):
    """`vars` are known everywhere; a column of the same name hides one."""
    assert text("{{ company }} {{ plan }}", vars={"company": "Acme", "plan": "none"}) == "Acme gold"


def test_set_in_one_part_never_leaks_into_another(make):
    """Each template has its own context."""
    renderer = make(text="{% set plan = '<i>' %}{{ plan }}", html="{{ plan }}")
    rendered = renderer.render(row())
    assert ("".join(rendered.text), "".join(rendered.html)) == ("<i>", "gold")


# --- files -----------------------------------------------------------------------------------------------


def test_extends_include_and_import_work_within_the_folder(make, tmp_path):
    """Inheritance, includes with loop variables and macros are plain Jinja2."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "base.html").write_text("<{% block body %}{% endblock %}>{% include 'parts/foot.html' %}")
    (tmp_path / "parts/foot.html").write_text("bye {{ first_name }}")
    (tmp_path / "parts/item.html").write_text("({{ it }})")
    (tmp_path / "macros.html").write_text("{% macro hi(n) %}hi {{ n }} of {{ company }}{% endmacro %}")
    body = (
        "{% extends 'base.html' %}{% import 'macros.html' as m %}{% block body %}{{ m.hi(first_name) }}"
        "{% for it in ['a', 'b'] %}{% include 'parts/item.html' %}{% endfor %}{% endblock %}"
    )
    (tmp_path / "body.html").write_text(body)
    renderer = make(html=TemplateSource("body.html", tmp_path / "body.html"), vars={"company": "Acme"})
    assert "".join(renderer.render(row()).html) == "<hi Kim of Acme(a)(b)>bye Kim"


@pytest.mark.parametrize(
    "name", ["../secret.txt", "/etc/passwd", "link.txt", "x/../../secret.txt", "nothing.txt"]
)
def test_nothing_outside_the_folder_is_included(make, tmp_path, name):
    """Neither .., nor an absolute name, nor a link leads out."""
    base = tmp_path / "templates"
    base.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (base / "link.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(TemplateError) as caught:
        make(base=base, text="{% include '" + name + "' %}")
    assert caught.value.code == "T103"
    assert caught.value.message == f'the template "{name}" was not found in the template folder'
    dynamic = make(base=base, text="{% include plan %}")
    with pytest.raises(TemplateError) as caught:
        dynamic.render(row("Kim", "k@x.org", name))
    assert (caught.value.code, caught.value.row) == ("T103", 12)


def test_a_template_must_be_utf_8(make, tmp_path):
    """Other encodings are refused with the line."""
    (tmp_path / "body.txt").write_bytes("ok\nGrüße".encode("latin-1"))
    with pytest.raises(TemplateError) as caught:
        make(text=TemplateSource("t/body.txt", tmp_path / "body.txt"))
    assert caught.value.message == "t/body.txt is not UTF-8: byte 0xfc in line 2"
    assert (caught.value.code, caught.value.line) == ("T104", 2)


def test_a_missing_template_names_its_neighbours(make, tmp_path):
    """A misspelt file name gets the near miss."""
    (tmp_path / "body.txt").write_text("x")
    with pytest.raises(TemplateError) as caught:
        make(text=TemplateSource("bdy.txt", tmp_path / "bdy.txt"))
    assert caught.value.message == "cannot read the template bdy.txt: no such file or directory"
    assert caught.value.hint == "did you mean `body.txt`?"


# --- names and template errors -------------------------------------------------------------------------


def test_all_unknown_names_at_once_with_their_places(make, tmp_path):
    """File, line, column and a near miss for each unknown name, also in included files and options."""
    (tmp_path / "foot.txt").write_text("Bye\n  {{ compny }}")
    (tmp_path / "body.txt").write_text(
        "fist_name\nDear {{ fist_name }},\n{% include 'foot.txt' %}{{ row['Plan'] }}"
    )
    place = Place("campaign.toml", 7, 1, source='subject = "{{ amout }} due"')
    with pytest.raises(TemplateError) as caught:
        make(
            subject="{{ amout }} due",
            text=TemplateSource("t/body.txt", tmp_path / "body.txt"),
            vars={"company": "Acme"},
            places={"message.subject": place},
        )
    found = [
        (p.code, p.message, p.hint, p.place.path, p.place.line, p.place.column, p.place.width)
        for p in caught.value.diagnostics
        if p.place
    ]
    assert found == [
        ("T102", "unknown name `amout`", "did you mean `amount`?", "campaign.toml", 7, 15, 5),
        ("T102", "unknown name `fist_name`", "did you mean `first_name`?", "t/body.txt", 2, 9, 9),
        ("T102", "unknown heading `Plan` in `row`", "did you mean `plan`?", "t/body.txt", 3, 33, 4),
        ("T102", "unknown name `compny`", "did you mean `company`?", "t/foot.txt", 2, 6, 6),
    ]
    assert caught.value.message == "4 problems in the templates"


@pytest.mark.parametrize(
    "source",
    [
        "{{ nick|default('you') }}",
        "{% if nick is defined %}{{ nick }}{% endif %}x",
        "{{ nick if nick is defined else 'you' }}",
        "{% if nick is defined and nick == 'x' %}{% endif %}x",
        "{% for p in [1] %}{{ p }}{{ loop.index }}{% endfor %}",
        "{% set a = 1 %}{{ a }}{% with b = 2 %}{{ b }}{% endwith %}",
        "{% macro m(x) %}{{ x }}{{ caller() }}{% endmacro %}{% call m(1) %}y{% endcall %}",
        "{{ range(3)|join }}{% set ns = namespace(n=1) %}{{ ns.n }}",
    ],
)
def test_names_that_are_bound_or_asked_for_are_no_problem(text, source):
    """Local names, globals, and names tested with `is defined` or given a default are allowed."""
    assert text(source)


@pytest.mark.parametrize(
    ("source", "code", "message"),
    [
        ("a\n{% if plan %}", "T101", "template syntax: `{% if plan %}` is never closed"),
        ("a\n{{ plan", "T101", "template syntax: the tag `{{ plan` does not end"),
        ("a\n{{ plan|shout }}", "T101", "template syntax: no filter named 'shout'"),
        ("a\n{% fro x in y %}", "T101", "template syntax: encountered unknown tag 'fro'"),
    ],
)
def test_syntax_errors(make, source, code, message):
    """Syntax errors are found before the first row, with the line."""
    with pytest.raises(TemplateError) as caught:
        make(text=source)
    assert (caught.value.code, caught.value.line) == (code, 2)
    assert caught.value.diagnostics[0].message.startswith(message)


@pytest.mark.parametrize(
    ("source", "code", "message"),
    [
        ("a\n{{ ''.__class__ }}", "T105", "not allowed in a template: "),
        ("a\n{{ plan|attr('__class__') }}", "T105", "not allowed in a template: "),
        ("a\n{{ '{0.__class__}'.format(plan) }}", "T105", "not allowed in a template: "),
        ("a\n{{ [].append(1) }}", "T105", "not allowed in a template: "),
        ("a\n{{ plan.nope }}", "T102", "text has no `nope`"),
        ("a\n{{ 1 // 0 }}", "T106", "the template fails for this row: integer division or modulo by zero"),
        ("a\n{{ plan.upper }}", "T106", "the template fails for this row: a function would be shown"),
        (
            "a\n{% macro m() %}\n{{ m() }}{% endmacro %}{{ m() }}",
            "T109",
            "the template includes or calls itself",
        ),
    ],
)
def test_faults_of_a_template_name_its_line_and_row(make, source, code, message):
    """The sandbox, unknown attributes and failing expressions are for the author to fix."""
    renderer = make(text=source)
    with pytest.raises(TemplateError) as caught:
        renderer.render(row())
    assert (caught.value.code, caught.value.row) == (code, 12)
    assert caught.value.message.startswith(message)
    assert caught.value.line in {2, 3}


@pytest.mark.parametrize(
    ("source", "column", "message"),
    [
        ("a\n{{ row[plan] }}", 8, '`plan` is "gold", which has no entry'),
        ("a\n{{ plan + 1 }}", 4, "`plan` is text, not a number to calculate with (+)"),
        ("a\n{{ plan > 1 }}", 4, '`plan` is not a number: "gold"'),
        ("a\n{{ plan.year }}", 4, "`plan` is text and has no `year`"),
        ("a\n{{ plan|int }}", 4, '`plan` is not a number: "gold"'),
        ("a\n{{ '%d' % plan }}", 11, "`plan` does not fit into '%d': %d format: a real number is required"),
        (
            "a\n{{ '{:.2f}'.format(plan) }}",
            None,
            "a value in \"{{ '{:.2f}'.format(plan) }}\" fails for this row",
        ),
        ("a\n{% for i in range(plan) %}{% endfor %}", 19, "`plan` is not a number to count to"),
        ("a\n{{ plan[7] }}", 4, "`plan` has no item number 7 (the first one is 0)"),
        ("a\n{{ plan.split(',')[1] }}", None, "a value in \"{{ plan.split(',')[1] }}\" has no item number 1"),
    ],
)
def test_values_that_cannot_be_used_are_errors_of_the_row(make, source, column, message):
    """What fails with this row's values makes this row invalid: the column and the place are told."""
    with pytest.raises(RowError) as caught:
        make(text=source).render(row())
    assert caught.value.message.startswith(message)
    assert (caught.value.code in {"D114", "D117"}, caught.value.row) == (True, 12)
    assert (caught.value.line, caught.value.column) == (2, column)


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("{{ [amount, 1] }}", "['1,234.50', 1]"),
        ("{{ {'a': [amount]} }}", "{'a': ['1,234.50']}"),
        ("{{ (amount,) ~ '!' }}", "('1,234.50',)!"),
        ("{{ [amount]|unique|list }}", "['1,234.50']"),
        ("{{ [[amount]]|string|upper }}", "[['1,234.50']]"),
        ("{{ [[amount]]|join }}", "['1,234.50']"),
    ],
)
def test_a_list_shows_its_values_as_the_sheet_does(text, source, shown):
    """A list that is printed by mistake shows nothing of how cells are kept."""
    amount = Number(Decimal("1234.5"), "1,234.50")
    assert text(source, row("Kim", "k@x.org", "gold", amount)) == shown


@pytest.mark.parametrize(
    "source", ["{{ last|float }}", "{{ lastly }}{{ last|float }}", "{{ row['last']|int }}"]
)
def test_the_column_of_an_error_is_one_that_is_named(source):
    """A column whose name is a part of another name is not blamed for a cell of the same text."""
    columns = Columns(
        ("email", "a", "t", "as", "last", "lastly"), ("email", "a", "t", "as", "last", "lastly")
    )
    recipient = Recipient(2, columns, ("a@x.org", "Ann", "Ann", "Ann", "Ann", "1"))
    body = TemplateSource("message.text", source=source)
    templates = MessageTemplates(base=Path(), from_="me@x.org", text=body, to=("{{ email }}",), subject="-")
    with pytest.raises(RowError, match="`last` is not a number"):
        Renderer(templates, columns).render(recipient)


# --- filters --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "locale", "expected"),
    [
        ("{{ due|date }}", "en_GB", "1 Mar 2026"),
        ("{{ due|date('long') }}", "de", "1. März 2026"),
        ("{{ due|date('full') }}", "zh_CN", "2026年3月1日星期日"),
        ("{{ due|date('dd.MM.yy') }}", "de", "01.03.26"),
        ("{{ '2026-03-01 16:30'|date('d MMM HH:mm') }}", "en", "1 Mar 16:30"),
        ("{{ '16:30'|time }}", "de", "16:30"),
        ("{{ '2026-03-01 16:30'|time('HH:mm') }}", "en", "16:30"),
        ("{{ amount|money('EUR') }}", "de", "1.234,50\u00a0€"),
        ("{{ amount|money('JPY') }}", "en", "¥1,234"),
        ("{{ amount|number }}", "de-DE", "1.234,5"),
        ("{{ amount|number(2) }}", "en", "1,234.50"),
        ("{{ '0.123456'|number }}", "en", "0.123456"),
        (
            "{{ ''|date(default='-') }}{{ ''|money('EUR', default='-') }}{{ ''|number(default='-') }}",
            "en",
            "---",
        ),
    ],
)
def test_filters_speak_the_locale(text, source, locale, expected):
    """Dates, times, money and numbers come out as the locale writes them."""
    assert text(source, locale=locale) == expected


def test_the_locale_may_differ_by_row(make):
    """`message.locale` is a template; nothing of one row's locale stays."""
    renderer = make(text="{{ '1.5'|number }}", locale="{{ plan or 'en' }}")
    texts = ["".join(renderer.render(row("Kim", "k@x.org", plan)).text) for plan in ("de", "", "fr")]
    assert texts == ["1,5", "1.5", "1,5"]


@pytest.mark.parametrize("written", ["de-DE", "de_DE", "DE", "de", "de_de", "De-de"])
def test_a_cell_may_spell_a_locale_in_any_usual_way(text, written):
    """Hyphen or underscore, capitals or not: it is the same locale."""
    assert text("{{ '1234.5'|number }}", row("Kim", "k@x.org", written), locale="{{ plan }}") == "1.234,5"


@pytest.mark.parametrize(
    ("locale", "cell", "message", "hint"),
    [
        ("{{ plan }}", "german", '`plan` is not a locale: "german"', "did you mean `de`?"),
        ("{{ plan }}", "Deutsch", '`plan` is not a locale: "Deutsch"', "did you mean `de`?"),
        ("{{ plan }}", "de_GB", '`plan` is not a locale: "de_GB"', "did you mean `de`?"),
        ("{{ plan }}", "../x", '`plan` is not a locale: "../x"', "write it as en_GB"),
        ("{{ plan }}", "\0", '`plan` is not a locale: "\\u0000"', "write it as en_GB"),
        ("{{ plan }}", " ", "`plan` is empty: no locale", "{{ plan or 'en' }}"),
        ("{{ plan ~ amount }}", "tlh", '`message.locale` is not a locale: "tlh"', "write it as en_GB"),
    ],
)
def test_a_cell_that_is_not_a_locale_is_an_error_of_its_row(make, locale, cell, message, hint):
    """Also where no filter asks for it: the layout says which language the letter is in."""
    renderer = make(locale=locale)
    with pytest.raises(RowError) as caught:
        renderer.render(row("Kim", "k@x.org", cell, ""))
    assert (caught.value.code, caught.value.row) == ("D114", 12)
    assert caught.value.message.startswith(message)
    assert hint in (caught.value.hint or "")


def test_where_leaves_a_row_out_whatever_its_locale_is(make):
    """A row that is not written to is not invalid because of the language that it would be written in."""
    assert not make(where="first_name != 'Kim'", locale="{{ plan }}").selects(
        row("Kim", "k@x.org", "klingon")
    )


def test_a_locale_of_all_rows_that_is_none_is_told_before_the_first(make):
    """The campaign is wrong, not its rows."""
    with pytest.raises(TemplateError) as caught:
        make(locale="English")
    assert (caught.value.code, caught.value.message) == (
        "T152",
        '`message.locale` is not a locale: "English"',
    )
    assert "did you mean `en`?" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("locale", "expected"),
    [
        ("en", "0th 1st 2nd 3rd 4th 11th 12th 13th 21st 22nd 101st 111th 1,002nd"),
        ("de_AT", "0. 1. 2. 3. 4. 11. 12. 13. 21. 22. 101. 111. 1.002."),
        ("fr", "0e 1er 2e 3e 4e 11e 12e 13e 21e 22e 101e 111e 1\u202f002e"),
        ("sv", "0:e 1:a 2:a 3:e 4:e 11:e 12:e 13:e 21:a 22:a 101:a 111:e 1\u00a0002:a"),
        ("ca", "0è 1r 2n 3r 4t 11è 12è 13è 21è 22è 101è 111è 1.002è"),
        ("zh_TW", "第0 第1 第2 第3 第4 第11 第12 第13 第21 第22 第101 第111 第1,002"),
    ],
)
def test_ordinals(text, locale, expected):
    """The endings go by the ordinal categories of CLDR."""
    numbers = "[0, 1, 2, 3, 4, 11, 12, 13, 21, 22, 101, 111, '1002']"
    source = "{% for n in " + numbers + " %}{{ n|ordinal }} {% endfor %}"
    assert text(source, locale=locale).rstrip() == expected


@pytest.mark.parametrize(
    ("locale", "number", "expected"),
    [
        ("en", "1", "1 one"),
        ("en", "1.0", "1 one"),
        ("en", "1.5", "1.5 other"),
        ("en", "0", "0 zero"),
        ("en", "1234", "1,234 other"),
        ("fr", "1.5", "1,5 one"),
        ("pl", "3", "3 few"),
        ("pl", "5", "5 many"),
        ("pl", "22", "22 few"),
        ("ar", "2", None),
        ("ja", "1", "1 other"),
        ("cs", "1.5", "1,5 many"),
    ],
)
def test_plurals_go_by_the_categories_of_the_locale(text, locale, number, expected):
    """Also for fractions; the number is written as the locale does."""
    forms = ", ".join(f"{name}='%d {name}'" for name in ("zero", "one", "two", "few", "many", "other"))
    printed = text(f"{{{{ plan|plural({forms}) }}}}", row("Kim", "k@x.org", number), locale=locale)
    assert printed == expected if expected else printed.endswith(" two")


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        ("{{ plan|ordinal }}", '`plan` is not a number: "gold"', "digits"),
        ("{{ 1.5|ordinal }}", "is not a whole number", "only 0, 1, 2"),
        ("{{ -1|ordinal }}", "is not a whole number", "only 0, 1, 2"),
        ("{{ 3|ordinal }}", "has no known ordinal in the locale ko", "ca, cs, da"),
        ("{{ plan|plural(other='x') }}", '`plan` is not a number: "gold"', "digits"),
        ("{{ ''|plural(other='x') }}", "is empty: nothing for `plural` to print", "|plural(..., default="),
    ],
)
def test_what_cannot_be_counted_is_an_error_of_the_row(text, source, message, hint):
    """The message names the column, the hint what to write."""
    with pytest.raises(RowError) as caught:
        text(source, row("Kim", "k@x.org", "gold"), locale="ko")
    assert caught.value.code == "D114"
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ 1|plural('book', 'books') }}", "plural needs named forms"),
        ("{{ 1|plural(one='book') }}", "plural needs named forms"),
        ("{{ 1|plural(one='book', others='books') }}", 'plural does not know "others"'),
        ("{{ plan|fallback }}", "fallback needs a value to print instead"),
    ],
)
def test_filters_that_are_used_wrongly_are_errors_of_the_template(text, source, message):
    """They would be for every row; the message says what to write."""
    with pytest.raises(TemplateError, match=message) as caught:
        text(source)
    assert caught.value.line == 1


def test_fallback_takes_the_first_that_is_not_empty(text):
    """Blank cells are empty; a number that is zero is not; all empty, the last one counts."""
    recipient = row("Kim", "k@x.org", " \t", 0)
    assert text("{{ plan|fallback('', first_name) }}", recipient) == "Kim"
    assert text("{{ amount|fallback('none') }}", recipient) == "0"
    assert text("[{{ plan|fallback(plan, '') }}]", recipient) == "[]"
    with pytest.raises(TemplateError, match="nick"):
        text("{{ nick|fallback('friend') }}", recipient)


_PRINTED = re.findall(r"^\| `(\{\{.*?\}\})` \| `(\w+)` \| (.*) \|$", _CONTENT_PAGE, re.MULTILINE)


@pytest.mark.parametrize(("source", "locale", "printed"), _PRINTED)
def test_the_page_of_filters_is_true(tmp_path, source, locale, printed):
    """Each example of docs/content.md prints what it says there."""
    columns = Columns(("E", "N", "D", "A", "I", "F"), ("email", "n", "due", "amount", "nickname", "name"))
    cells = ("k@x.org", "3", "2026-12-31", "1234.5", "", " ")
    body = TemplateSource("message.text", source=source.replace("\\|", "|"))
    templates = MessageTemplates(
        base=tmp_path, from_="me@x.org", to=("{{ email }}",), subject="Hi", text=body, locale=locale
    )
    rendered = Renderer(templates, columns).render(Recipient(2, columns, cells))
    assert re.sub(r"[\u00a0\u202f]", " ", "".join(rendered.text or ())) == printed


def test_the_page_of_filters_has_examples_of_all():
    """The table was found, and no filter of ours is missing in it."""
    shown = "".join(source for source, _, _ in _PRINTED)
    assert {name for name in Filters().table() if f"|{name}" not in shown} == {"qr"}


@pytest.mark.parametrize(
    ("source", "value", "message"),
    [
        ("{{ amount|money('EUR') }}", "1.234,50", '`amount` is not a number: "1.234,50"'),
        ("{{ amount|number }}", "12 ", None),
        ("{{ amount|number }}", True, '`amount` is not a number: "TRUE"'),
        ("{{ amount|number }}", "", "`amount` is empty: nothing for `number` to print"),
        ("{{ amount|date }}", "01/03/2026", '`amount` is not a date: "01/03/2026"'),
        ("{{ amount|date }}", "2026-02-30", '`amount` is not a date: "2026-02-30"'),
        ("{{ amount|date }}", "", "`amount` is empty: nothing for `date` to print"),
    ],
)
def test_filters_read_text_strictly(text, source, value, message):
    """What might be misread is an error of the row that names the column."""
    recipient = row("Kim", "k@x.org", "gold", value)
    if message is None:
        assert text(source, recipient) == "12"
        return
    with pytest.raises(RowError) as caught:
        text(source, recipient)
    assert (caught.value.code, caught.value.message) == ("D114", message)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("2026/11/20", "%Y/%m/%d"),
        ("2026/3/5", "%Y/%m/%d"),
        ("2026.11.20", "%Y.%m.%d"),
        ("2026年11月20日", "%Y年%m月%d日"),
        ("05/03/2026", None),
        ("2026/13/20", None),
    ],
)
def test_a_date_with_the_year_first_gets_the_type_that_reads_it(text, value, kind):
    """Lists from China and Japan have them; where the year is last, only the author knows."""
    with pytest.raises(RowError) as caught:
        text("{{ amount|date }}", row("Kim", "k@x.org", "gold", value))

    hint = str(caught.value.hint)
    assert hint == "write it as 2026-12-31, or " + (
        f'set its type in data.types: "date:{kind}"' if kind else "give the column a date type"
    )
    if kind:
        typed = from_rows([{"d": value}], types={"d": f"date:{kind}"})
        assert [displayed(cell) for row in typed for cell in row.values] == [value]


# --- mailboxes, subject, headers ----------------------------------------------------------------------


def test_a_cell_is_one_name_whatever_it_holds(make):
    """Commas, brackets and addresses in a name add no recipients."""
    rendered = make().render(row('Müller, Jörg <v@x.com>; "x"', "jm@example.org"))
    assert [(box.name, str(box.address)) for box in rendered.to] == [
        ('Müller, Jörg <v@x.com>; "x"', "jm@example.org")
    ]


def test_one_expression_may_hold_a_list(make):
    """`{{ x }}` alone is read as a strict list; empty optional fields are absent."""
    renderer = make(to=("{{ email }}",), cc=("{{ plan }}",), bcc=("me@example.org",))
    rendered = renderer.render(row("Kim", 'a@x.org; "B, C" <b@x.org>', ""))
    assert [str(box) for box in rendered.to] == ["a@x.org", "B, C <b@x.org>"]
    assert rendered.cc == ()
    assert str(rendered.bcc[0]) == "me@example.org"


SUGGESTION = (
    "did you mean kim@gmail.com? fix the cell or exclude the row: --where 'email != \"kim@gmial,com\"'"
)


@pytest.mark.parametrize(
    ("address", "message", "hint"),
    [
        (
            "kim@gmial,com",
            '`email` is not an address: "kim@gmial,com" (it contains a space, comma or semicolon)',
            SUGGESTION,
        ),
        (
            "a@x.org, b@y.org",
            '`email` is not an address: "a@x.org, b@y.org" (it contains more than one address)',
            'several addresses in one cell are accepted without a name: to = "{{ email }}"',
        ),
        (
            "a@x.org, b@y",
            '`email` is not an address: "a@x.org, b@y" (it contains more than one address)',
            "fix the cell or exclude the row: --where 'email != \"a@x.org, b@y\"'",
        ),
        (
            " \u200b",
            "`email` is empty: the message has no recipient",
            "fill in the cell or exclude the row: --where 'email != \"\"'",
        ),
    ],
)
def test_a_bad_address_is_explained(make, address, message, hint):
    """A bad address is shown with its reason and the way out."""
    with pytest.raises(RowError) as caught:
        make().render(row("Kim", address))
    code = "D110" if address.strip(" \u200b") else "D141"
    assert (caught.value.code, caught.value.message, caught.value.hint) == (code, message, hint)
    assert caught.value.row == 12
    assert caught.value.place == Place(cell="column email")


def test_d42_a_line_break_in_a_header_of_ones_own_is_explained(make):
    """A control character in a header names column, header and the escaped value."""
    make = functools.partial(make, headers=(("X-Plan", "{{ plan }}"),))
    with pytest.raises(RowError) as caught:
        make().render(row("Kim", "k@x.org", "Eve\nBcc: v@x.com"))
    assert caught.value.code == "D112"
    assert caught.value.message == 'line break in `plan` would end the X-Plan header: "Eve\\nBcc: v@x.com"'
    with pytest.raises(RowError, match=r"^tab in `plan` cannot be part of X-Plan"):
        make().render(row("Kim", "k@x.org", "a\tb"))
    for name in ("a\0b", "a\x0bb", "a\x1cb"):
        with pytest.raises(RowError, match=r"^control character in `first_name` cannot be part of To"):
            make().render(row(name))


@pytest.mark.parametrize(
    ("cell", "what"),
    [
        ("Eve\nBcc: v@x.com", "a line break"),
        ("Eve \r\n Bcc: v@x.com", "a line break"),
        ("Eve\u2028Bcc: v@x.com", "a line break"),
        ("Eve\tBcc: v@x.com", "a tab"),
        ("Eve \t Bcc: v@x.com", "a tab"),
        ("Eve   Bcc: v@x.com", "several spaces in a row"),
    ],
)
def test_d42_a_name_or_subject_is_one_line(make, cell, what):
    """Tabs, line ends and runs of spaces in a cell become one space, and that is reported with its place."""
    rendered = make(subject="Hello {{ first_name }}!").render(row(f" {cell}\r\n"))

    assert rendered.subject == "Hello Eve Bcc: v@x.com!"
    assert rendered.to[0].name == "Eve Bcc: v@x.com"
    assert [found.code for found in rendered.warnings] == ["M222", "M222"]
    assert rendered.warnings[0].message == f"`first_name` contains {what}, which becomes a space in To"
    assert (rendered.warnings[0].row, rendered.warnings[0].place) == (12, Place(cell="column First Name"))
    assert make().render(row()).warnings == ()


def test_d42_blanks_that_the_template_writes_stay(make):
    """Only cells are corrected: two spaces that the author wrote stay two; a line end becomes a space."""
    renderer = make(subject="Hello  {{ first_name }}", from_="The  Office <me@example.org>")
    assert renderer.render(row()).subject == "Hello  Kim"
    assert renderer.render(row()).warnings == ()
    assert renderer.render(row()).from_.name == "The  Office"
    assert (
        make(subject="{% if plan %}\nHello {{ first_name }}\n{% endif %} x").render(row()).subject
        == "Hello Kim x"
    )


def test_ends_of_a_name_are_trimmed_and_separators_become_blanks(make):
    """Excel's trailing line breaks do no harm; bidi controls stay."""
    rendered = make(subject=" {{ first_name }} ").render(row("Kim\u2028Lee\u202e \n"))
    assert rendered.subject == "Kim Lee\u202e"


def test_empty_subject_and_body_are_errors_of_the_row(make):
    """Nothing empty goes out."""
    with pytest.raises(RowError) as caught:
        make(subject="{{ plan }}").render(row("Kim", "k@x.org", " "))
    assert caught.value.code == "D115"
    with pytest.raises(RowError) as caught:
        make(text="\n{{ plan }} ").render(row("Kim", "k@x.org", ""))
    assert (caught.value.code, caught.value.message) == ("D116", "the text body is empty")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"from_": "nobody"}, "C442"),
        ({"to": ("a@x.org, b@x.org",)}, "C442"),
    ],
)
def test_options_that_cannot_work_stop_the_campaign(make, options, code):
    """Constant mailboxes are checked before the first row."""
    with pytest.raises(TemplateError) as caught:
        make(**options)
    assert caught.value.code == code


@pytest.mark.parametrize("token", ["a b", "a>,<mailto:v@x.org", "a,b", "ä", "<x>"])
def test_an_unsubscribe_address_cannot_be_broken_by_a_cell(make, token):
    """Spaces, commas and brackets in a value make the row invalid."""
    renderer = make(headers=(("List-Unsubscribe", "<https://x.org/u/{{ plan }}>, <mailto:u@x.org>"),))
    assert renderer.render(row()).headers == (
        ("List-Unsubscribe", "<https://x.org/u/gold>, <mailto:u@x.org>"),
    )
    with pytest.raises(RowError) as caught:
        renderer.render(row("Kim", "k@x.org", token))
    assert caught.value.code == "D119"


def test_a_cell_cannot_be_a_glob(make):
    """Only the template's own * is one: a cell with * names a file that is called so."""
    renderer = make(attachments=(AttachmentRule("in/{{ plan }}-*.pdf"), AttachmentRule("a.pdf", "b.pdf")))
    rendered = renderer.render(row("Kim", "k@x.org", "*"))
    assert rendered.attachments[0].path == "in/[*]-*.pdf"
    assert [bool(constant) for constant in renderer.constant_attachments] == [False, True]


# --- where --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "selected"),
    [
        ("plan == 'gold'", True),
        ("plan != 'gold' or amount|float > 1000", True),
        ("amount > 1000", True),
        ("due >= '2026-03-01' and not due > '2026-03-01'", True),
        ("not (plan == 'gold')", False),
        ("row['First Name'] in ['Kim']", True),
        ("plan in wanted", True),
    ],
)
def test_where_selects_rows(make, where, selected):
    """An expression over columns and variables."""
    assert make(where=where, vars={"wanted": "gold silver"}).selects(row()) is selected


@pytest.mark.parametrize(
    ("where", "code", "message", "hint"),
    [
        ("plam == 'x'", "C431", "unknown name `plam` in `where`", "did you mean `plan`?"),
        ("plan == ", "C433", "`where` is not an expression: ", None),
        ("plan plan", "C433", "`where` is not an expression: ", None),
        ("plan.__class__ == 1", "C434", "`where` fails for row 12: ", None),
    ],
)
def test_where_refuses_what_is_no_condition(make, where, code, message, hint):
    """Unknown names and what is not an expression stop with a hint."""
    with pytest.raises(CampaignFileError) as caught:
        make(where=where).selects(row())
    assert caught.value.code == code
    assert caught.value.message.startswith(message)
    assert (caught.value.hint or "").startswith(hint or "")


AS_CONDITION = '`plan` is text ("gold"), which is neither true nor false'
TRY = 'compare it: plan == "yes"; to test that it is not empty: plan != ""'


@pytest.mark.parametrize(
    ("where", "column"), [("plan", 1), ("not plan", 5), ("amount > 5 and plan", 16), ("not (plan or due)", 6)]
)
def test_where_stops_at_a_text_that_says_neither_yes_nor_no(make, where, column):
    """Text that is not an answer decides for nobody: the expression was meant otherwise."""
    with pytest.raises(CampaignFileError) as caught:
        make(where=where).selects(row())
    assert (caught.value.code, caught.value.message, caught.value.hint) == ("C432", AS_CONDITION, TRY)
    assert (caught.value.place, caught.value.row) == (Place("--where", 1, column, 4, where), 12)


@pytest.mark.parametrize(
    ("where", "code", "column", "message", "hint"),
    [
        (
            "plan > 5",
            "D117",
            1,
            '`plan` is not a number: "gold"',
            "write it as 1234.50",
        ),
        ("5 > plan", "D117", 5, '`plan` is not a number: "gold"', None),
        ("plan|float > 5", "D114", 1, '`plan` is not a number: "gold"', None),
        ("plan.split() < 5", "C434", None, "`where` fails for this row: ", None),
    ],
)
def test_where_makes_a_row_invalid_whose_values_do_not_fit(make, where, code, column, message, hint):
    """One odd cell is that row's problem: it is reported with its column, and the other rows continue."""
    with pytest.raises(RowError) as caught:
        make(where=where).selects(row())
    assert caught.value.message.startswith(message)
    assert (caught.value.code, caught.value.row) == (code, 12)
    assert hint is None or caught.value.hint == hint
    assert caught.value.place == Place("--where", 1, column, 4 if column else 1, where)


@pytest.mark.parametrize(
    ("where", "cell"),
    [
        ("plan != 'yes'", "TRUE"),
        ("'yes' != plan", "Yes"),
        ("plan == 'no'", "FALSE"),
        ("amount > 5 and row['plan'] != 'ja'", "yes"),
        ("not plan == 'x'", "X"),
    ],
)
def test_where_refuses_another_word_that_says_the_same(make, where, cell):
    """Who is asked for by "yes" and says TRUE is neither selected nor left out in silence."""
    with pytest.raises(RowError) as caught:
        make(where=where).selects(row("Kim", "k@x.org", cell))
    assert (caught.value.code, caught.value.row) == ("D117", 12)
    assert f'`plan` is "{cell}", and ' in caught.value.message
    assert 'types = { plan = "boolean" } in [data]' in str(caught.value.hint)


@pytest.mark.parametrize(
    ("where", "cell"),
    [
        ("plan != 'yes'", "no"),
        ("plan != 'yes'", "gold"),
        ("plan != 'yes'", ""),
        ("plan == 'yes' or plan == 'TRUE'", "TRUE"),
        ("plan|lower == 'yes'", "YES"),
        ("plan != 'J'", "Y"),
        ("plan != 'gold'", "TRUE"),
        ("plan != '1'", "0"),
    ],
)
def test_where_compares_words_that_are_no_doubt(make, where, cell):
    """Other answers, spaces, words that are asked for as well, and single letters are compared as text."""
    assert make(where=where).selects(row("Kim", "k@x.org", cell))


def test_the_digest_follows_every_source(make, tmp_path):
    """A change in any template, included ones too, changes the campaign version."""
    (tmp_path / "foot.txt").write_text("one")
    options = {"text": "{% include 'foot.txt' %}"}
    first = make(**options).sources_digest
    assert make(**options).sources_digest == first
    assert make(**options, subject="Other").sources_digest != first
    assert make(**options, vars={"a": "1"}).sources_digest != first
    (tmp_path / "foot.txt").write_text("two")
    assert make(**options).sources_digest != first


def test_static_chunks_hold_the_fixed_texts_of_all_templates(make, tmp_path):
    """Included and inherited texts count as fixed."""
    (tmp_path / "foot.html").write_text("<hr>{{ plan }}<i>foot</i>")
    chunks = make(html="<b>{{ plan }}</b>{% include 'foot.html' %}").static_chunks()["html"]
    assert {"<b>", "</b>", "<hr>", "<i>foot</i>"} <= set(chunks)


def test_a_fault_of_ours_is_not_blamed_on_the_template(make):
    """What is raised where no template runs stays what it is, so that it is seen as a bug."""
    torn = Recipient(12, COLUMNS, ("Kim",))

    with pytest.raises(ValueError, match="shorter"):
        make().render(torn)


def test_a_column_called_row_is_reached_by_its_heading():
    """`row` is the whole row; where a column is called so, `row` alone is refused with what to write."""
    columns = Columns(("email", "Row", "In", "%"), ("email", "row", "in", "column_4"))
    person = Recipient(2, columns, ("a@x.org", "r", "i", "p"))

    def renderer(source):
        text = TemplateSource("message.text", source=source)
        templates = MessageTemplates(
            base=Path(), from_="me@x.org", to=("{{ email }}",), subject="Hi", text=text
        )
        return Renderer(templates, columns)

    source = 'Hello {{ row["Row"] }}{{ row["In"] }}{{ row["%"] }}{{ column_4 }}{{ row.values()|list|length }}'
    assert "".join(renderer(source).render(person).text) == "Hello ripp4"
    for source in ("{{ row }}", "{{ row|upper }}", "{% if row == 'r' %}x{% endif %}"):
        with pytest.raises(TemplateError, match='`row` is the whole row, not the column "Row"') as caught:
            renderer(source)
        assert caught.value.hint == 'write `row["Row"]`'


@pytest.mark.parametrize("options", ["", "(12, true, target='_blank')"])
def test_links_in_a_long_text_are_those_of_a_short_one(make, options):
    """Only words that can be links are looked at there, and become the same as with Jinja2's own filter."""
    words = (
        "http://e.org/a?b=1&c www.x.org, a@b.org (see http://x.com). x.COM <b> foo.info & mailto:me@x.org "
        '\u3000 HTTPS://E.org @a@b <http://q.net> "x.edu" www.x.org.www.y.org\tlast.mil http://1.2.3.4:80/x'
    )
    filler = "plain & simple\n" * 1000
    html = f"{{{{ first_name|urlize{options} }}}}"
    short = "".join(make(html=html).render(row(words)).html)
    long = "".join(make(html=html).render(row(f"{words} {filler}{words}")).html)

    assert short.count("<a ") == 11
    assert long == f"{short} {filler.replace('&', '&amp;')}{short}"
