"""Bodies that people write: Markdown, MJML, layouts, moved styles, texts made from HTML, preheaders."""
# ruff: noqa: E501, ISC004  a case takes a line

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailmerge.check.clients import MJML_OWN, used
from mailmerge.check.html_document import HtmlDocument
from mailmerge.check.rules.html import external_styles
from mailmerge.errors import CampaignFileError, TemplateError
from mailmerge.model import Columns, Recipient
from mailmerge.render import MessageTemplates, Renderer, TemplateSource
from mailmerge.render.plain_text import text_of
from mailmerge.render.sources import Layout, stock_layout
from mailmerge.render.style_sheets import inlined

HOSTILE = (
    "*bold* _it_ `code`",
    "[x](javascript:alert(1))",
    "<script>alert(1)</script>",
    "# heading",
    "- item",
    "a | b | c",
    "> quote",
    "1. one",
    "first\n\nsecond\n# third",
    "&amp; &lt; &#42;",
    "<https://example.org>",
    "https://example.org",
    "![x](y)",
    "{{ email }} {% if x %}",
    "---",
    "```",
    "[r]: https://example.org",
    "\\*",
    "\U000f5ab30\U000f5ab4",
    '" onclick="x',
)


def columns(**cells):
    return Columns(tuple(cells), tuple(cells))


@pytest.fixture
def make(tmp_path):
    """Return what renders one row with bodies in files of the template folder; *keep* gives the renderer."""

    def run(name, source, layout=None, layout_vars=None, files=(), keep=False, **more):
        cells = {"email": "kim@example.org", **more.pop("cells", {})}
        for other, text in {name: source, **dict(files)}.items():
            (tmp_path / other).write_text(text, "utf-8")
        part = TemplateSource(name, tmp_path / name)
        kinds = {"text": part, "html": part} if name.endswith(".md") else {"html": part}
        if isinstance(layout, str):
            path = stock_layout(layout) if "." not in layout else tmp_path / layout
            layout = Layout(TemplateSource(layout, path), layout_vars or {})
        templates = MessageTemplates(
            base=tmp_path,
            from_="me@example.org",
            to=("{{ email }}",),
            subject=more.pop("subject", "Hello"),
            layout=layout,
            **{**kinds, **more},
        )
        header = columns(**cells)
        renderer = Renderer(templates, header)
        return renderer if keep else renderer.render(Recipient(2, header, tuple(cells.values())))

    return run


class Seen(HTMLParser):
    """What a browser makes of HTML: the elements, and the texts in them."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.shown = [], {}, []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.setdefault(tag, []).append(dict(attrs))

    def handle_data(self, data):
        self.shown.append(data)

    @property
    def text(self):
        return "".join(self.shown)


def told(diagnostics):
    """Return code, file and line of each problem."""
    return {(d.code, d.place and d.place.path, d.place and d.place.line) for d in diagnostics}


def html_of(rendered):
    return "".join(rendered.html)


def text_part(rendered):
    return "".join(rendered.text)


def shape(html):
    """Write HTML without the spaces between its elements."""
    return re.sub(r">\s+<", "><", html.strip())


# --- Markdown ---------------------------------------------------------------------------------------------

PAGE = """# Hi {{ x }}

Dear **{{ x }}**, _{{ x }}_ {{ x }}

- {{ x }}

> {{ x }}

| A | B |
|---|---|
| {{ x }} | b |

[link](https://example.org/{{ x }} "{{ x }}") `{{ x }}` {{ x }}
"""


@pytest.mark.parametrize("cell", HOSTILE)
def test_a_cell_is_never_markdown(make, cell):
    """Whatever a cell says is shown as it is, in elements that the template alone decides."""
    rendered = make("body.md", PAGE, cells={"x": cell})
    seen, harmless = Seen(html_of(rendered)), Seen(html_of(make("body.md", PAGE, cells={"x": "x"})))

    assert seen.tags == harmless.tags
    assert seen.text.count(cell) == harmless.text.count("x")
    assert seen.attributes["a"] == [{"href": f"https://example.org/{cell}", "title": cell}]
    assert text_part(rendered) == PAGE.replace("{{ x }}", cell).removesuffix("\n")


LIST, ROWS = ("a", "<b>"), ("a*b*", "|c|")


@pytest.mark.parametrize(
    ("source", "html", "text"),
    [
        (
            "{% for i in items %}\n- {{ i }}\n{% endfor %}",
            "<ul><li>a</li><li>&lt;b&gt;</li></ul>",
            "- a\n- <b>\n",
        ),
        (
            "Text:\n{% for i in items %}\n- {{ i }}\n{% endfor %}\nAfter",
            "<p>Text:</p><ul><li>a</li><li>&lt;b&gt;</li></ul><p>After</p>",
            "Text:\n- a\n- <b>\n\nAfter",
        ),
        (
            "{% for i in items %}- {{ i }}\n{% endfor %}",
            "<ul><li>a</li><li>&lt;b&gt;</li></ul>",
            "- a\n- <b>\n",
        ),
        (
            "{% for i in items -%}\n1. {{ i }}\n{% endfor %}",
            "<ol><li>a</li><li>&lt;b&gt;</li></ol>",
            "1. a\n1. <b>\n",
        ),
        ("{% for i in nil %}\n- {{ i }}\n{% else %}\nNothing\n{% endfor %}", "<p>Nothing</p>", "\nNothing\n"),
        (
            "- one\n{% if yes %}\n- two\n{% else %}\n- three\n{% endif %}\n- four",
            "<ul><li>one</li><li>two</li><li>four</li></ul>",
            "- one\n- two\n- four",
        ),
        (
            "{% for i in items %}\n{% if i == 'a' %}\n- {{ i }}\n{% endif %}\n{% endfor %}",
            "<ul><li>a</li></ul>",
            "- a\n",
        ),
        (
            "- {{ items[0] }}\n{% for i in items %}\n  - {{ i }}\n{% endfor %}",
            "<ul><li>a\n<ul><li>a</li><li>&lt;b&gt;</li></ul></li></ul>",
            "- a\n  - a\n  - <b>\n",
        ),
        (
            "| A |\n|---|\n{% for i in items %}\n| {{ i }} |\n{% endfor %}\n| sum |",
            "<table><thead><tr><th>A</th></tr></thead><tbody><tr><td>a</td></tr><tr><td>&lt;b&gt;</td></tr>"
            "<tr><td>sum</td></tr></tbody></table>",
            "| A |\n|---|\n| a |\n| <b> |\n| sum |",
        ),
        (
            "| A |\n|---|\n{% for i in items -%}\n| {{ i }} |\n{% endfor %}",
            "<table><thead><tr><th>A</th></tr></thead><tbody><tr><td>a</td></tr><tr><td>&lt;b&gt;</td></tr>"
            "</tbody></table>",
            "| A |\n|---|\n| a |\n| <b> |\n",
        ),
        ("{% if yes %}\n**one**\n{% else %}\ntwo\n{% endif %}", "<p><strong>one</strong></p>", "**one**\n"),
        (
            "{% if not yes %}\n# T\n\n- x\n{% else %}\n## U\ny\n{% endif %}\nz",
            "<h2>U</h2><p>y</p><p>z</p>",
            "## U\ny\n\nz",
        ),
        ("Dear\n{%- if not yes %}\nyou\n{%- endif %}\nbye", "<p>Dear\nbye</p>", "Dear\nbye"),
        ("a {% if yes %}**b**{% else %}c{% endif %} d", "<p>a <strong>b</strong> d</p>", "a **b** d"),
        ("a\n\n{% if not yes %}b{% endif %}\n\nc", "<p>a</p><p>c</p>", "a\n\n\n\nc"),
        (
            "{% for i in items %}{{ i }}{% if not loop.last %}, {% endif %}{% endfor %}",
            "<p>a, &lt;b&gt;</p>",
            "a, <b>",
        ),
        ("[{{ x }}]({{ x }})", '<p><a href="X">X</a></p>', "[X](X)"),
        ("[a]({% if yes %}https://y{% else %}https://n{% endif %})", '<p><a href="https://y">a</a></p>', "[a](https://y)"),
        ("<{{ url }}>", '<p><a href="https://e.org/?a=1&amp;b">https://e.org/?a=1&amp;b</a></p>', "<https://e.org/?a=1&b>"),
        ("<{{ email }}>", '<p><a href="mailto:kim@example.org">kim@example.org</a></p>', "<kim@example.org>"),
        ("https://e.org/?x={{ x }}&y", '<p><a href="https://e.org/?x=X&amp;y">https://e.org/?x=X&amp;y</a></p>', "https://e.org/?x=X&y"),
        ("![{{ x }}]({{ x }}.png)", '<p><img src="X.png" alt="X"></p>', "![X](X.png)"),
        ("{{ x }}. a\n{{ x }}) b", "<p>X. a\nX) b</p>", "X. a\nX) b"),
        ("{# note #}\na{# b #}c\n{#\nmore\n#}\nd", "<p>ac\nd</p>", "ac\nd"),
        ("{% raw %}{{ x }} *y*{% endraw %} z", "<p>{{ x }} <em>y</em> z</p>", "{{ x }} *y* z"),
        ("```\n{% for i in items %}{{ i }}\n{% endfor %}\n```", "<pre><code>a\n&lt;b&gt;\n\n</code></pre>", "```\na\n<b>\n```"),
        (
            "{% macro m(a) %}**{{ a }}**{% endmacro %}\n\nHi {{ m('<') }}",
            "<p>Hi <strong>&lt;</strong></p>",
            "\n\nHi **<**",
        ),
        ("{% set y = x|lower %}\nHi {{ y }}", "<p>Hi x</p>", "Hi x"),
        ('<b class="k">{{ x }}</b> & <br>', '<p><b class="k">X</b> &amp; <br></p>', '<b class="k">X</b> & <br>'),
        ("&#123;&#123; x }}", "<p>{{ x }}</p>", "&#123;&#123; x }}"),
        ("~~{{ x }}~~ a  \nb", "<p><s>X</s> a<br>\nb</p>", "~~X~~ a  \nb"),
    ],
)  # fmt: skip
def test_tags_around_and_in_markdown(make, source, html, text):
    """Conditions and loops go around whole items, rows and paragraphs, or stay in their line."""
    cells = {"x": "X", "url": "https://e.org/?a=1&b", "items": None, "yes": None}
    setup = "{% set items = ['a', '<b>'] %}{% set nil = [] %}{% set yes = true %}\n"
    rendered = make("body.md", setup + source, cells={k: v for k, v in cells.items() if v})

    assert shape(html_of(rendered)) == shape(html)
    assert text_part(rendered) == text


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("one\n\nHi {% if email %}\n\nBig\n\n{% endif %}there", 3),
        ("one\n\n> a {% if email %}\n\nb {% endif %} c", 3),
    ],
)
def test_torn_markdown_is_refused(make, source, line):
    """A condition that begins in one paragraph and ends in another would tear the HTML: its line is named."""
    with pytest.raises(TemplateError) as caught:
        make("body.md", source)

    assert told(caught.value.diagnostics) == {("T110", "body.md", line)}


@pytest.mark.parametrize(
    ("name", "source", "line", "column"),
    [
        ("body.md", "# Hi\n\n{# a\nb #}\n- x\n- {{ nme }}\n", 6, 6),
        ("body.md", "a\n\n{% if nme %}\nb\n{% endif %}\n", 3, 7),
        ("body.md", "a\n\n| A |\n|---|\n| {{ email|upper }} {{\nnme }} |\n", 6, 1),
        ("body.html", "<p>\n<b>{{ nme }}</b>\n", 2, 7),
        ("body.mjml", "<mjml><mj-body><mj-section><mj-column>\n<mj-text>{{ nme }}</mj-text>"
         "</mj-column></mj-section></mj-body></mjml>", 2, 13),
    ],
)  # fmt: skip
def test_messages_point_at_what_was_written(make, name, source, line, column):
    """An unknown name is shown in the line and column of the author's file, whatever was made of it."""
    with pytest.raises(TemplateError) as caught:
        make(name, source, layout="letter")

    assert told(caught.value.diagnostics) == {("T102", name, line)}
    assert {d.place.column for d in caught.value.diagnostics if d.place} == {column}


@pytest.mark.parametrize(
    ("source", "line", "code"),
    [("a\n\n{% if email %}\nb", 3, "T101"), ("a\n\n{{ email|nope }}", 3, "T101"), ("a\n{{ 'x }}", 2, "T101")],
)
def test_syntax_errors_of_markdown_have_their_lines(make, source, line, code):
    """What Jinja cannot read is told for the line of the Markdown file."""
    with pytest.raises(TemplateError) as caught:
        make("body.md", source)

    assert told(caught.value.diagnostics) == {(code, "body.md", line)}


@pytest.mark.parametrize("name", ["body.md", "body.html"])
def test_a_tag_without_its_end_is_told_for_the_body(make, name):
    """What surrounds a body, and has tags itself, is not blamed for a condition that the body leaves open."""
    told_too = {
        "heading": "{{ email }}",
        "footer": "{{ email }}",
        "button": "{{ email }}",
        "button_url": "{{ email }}",
    }
    with pytest.raises(TemplateError) as caught:
        make(name, "a\n\n{% if email %}\nb\n", "letter", told_too)

    assert told(caught.value.diagnostics) == {("T101", name, 3)}


def test_places_in_the_html_of_markdown_are_lines_of_it(make):
    """Whatever is found in a paragraph's HTML is told for the line where the paragraph begins."""
    source = "# T\n\n{# a\nb #}\n{% if email %}\n- one\n- two\n{% endif %}\nmore\nof it\n\n> *quote*\n"
    rendered = make("body.md", source, keep=True, layout="letter")
    sources = rendered.sources
    html = sources.made["body.md (HTML)"].text
    lines = {
        word: sources.place("body.md (HTML)", html.count("\n", 0, html.index(word)) + 1).line
        for word in ("T</h1>", "one</li>", "two</li>", "more", "quote</em>")
    }

    assert lines == {"T</h1>": 1, "one</li>": 6, "two</li>": 7, "more": 9, "quote</em>": 12}


def test_included_markdown_is_markdown(make):
    """A Markdown file that another includes becomes HTML in one part and stays as it is in the other."""
    rendered = make("body.md", "a\n\n{% include 'foot.md' %}\n", files={"foot.md": "**{{ email }}**\n"})

    assert shape(html_of(rendered)) == "<p>a</p><p><strong>kim@example.org</strong></p>"
    assert text_part(rendered) == "a\n\n**kim@example.org**"


@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize(("source", "shown"), [("a\n\n{}\n\nb\n", "a\n\nx\n\nb"), ("a\n{}\nb\n", "a\nx\nb")])
def test_what_is_included_ends_its_line(make, end, source, shown):
    """Whether or not its file ends with a line end."""
    body = source.format("{% include 'foot.md' %}")
    assert text_part(make("body.md", body, files={"foot.md": f"x{end}"})) == shown


WORDS = st.lists(
    st.sampled_from(["- a", "1. b", "| a | b |", "|---|---|", "c {{ x }}", "", "# d", "> e", "  f", "```",
                     "{% if x %}", "{% endif %}", "{% for i in [1, 2] %}", "{% endfor %}", "{% else %}",
                     "{% if x %}g{% endif %}", "h {%- if x %}", "- i {% endif %}", "<p>", "{# j #}"]),
    max_size=12,
)  # fmt: skip


@given(WORDS)
def test_whatever_is_written_is_made_or_refused(tmp_path_factory, lines):
    """Markdown with tags anywhere becomes a template, with all its tags, or is refused with a place in it."""
    folder = tmp_path_factory.mktemp("any")
    (folder / "body.md").write_text("x {{ x }}\n" + "\n".join(lines))
    part = TemplateSource("body.md", folder / "body.md")
    templates = MessageTemplates(folder, "me@example.org", ("{{ email }}",), "S", text=part, html=part)
    header = columns(email="", x="")
    try:
        rendered = Renderer(templates, header).render(Recipient(2, header, ("kim@example.org", "*X*")))
    except TemplateError as error:
        seen = {path for _, path, _ in told(error.diagnostics)}
    else:
        same = html_of(rendered).count("*X*") == text_part(rendered).count("*X*")
        seen = {"body.md" if same else html_of(rendered)}
    assert seen == {"body.md"}


# --- layouts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["letter", "newsletter"])
def test_stock_layouts_show_what_they_are_told(make, name):
    """Colour, logo, button and footer are where they belong, and cells in them are data."""
    told = {
        "colour": "#0b6e4f",
        "logo": "logo.png",
        "logo_alt": "Garden club",
        "button": "Pay {{ x }}",
        "button_url": "https://example.org/{{ x }}",
        "footer": "Example & Co\n\n[Imprint](https://example.org/i)",
    }
    rendered = make(
        "body.md", "Dear {{ x }}", name, told, inline_css=True, subject="To {{ x }}", cells={"x": "<k>"}
    )
    html = html_of(rendered)
    seen = Seen(html)

    assert seen.attributes["img"][0] | {"src": "logo.png", "alt": "Garden club"} == seen.attributes["img"][0]
    assert [link["href"] for link in seen.attributes["a"]] == [
        "https://example.org/<k>",
        "https://example.org/i",
    ]
    assert "#0b6e4f" in {cell.get("bgcolor") for cell in seen.attributes["td"]}
    assert {"To <k>", "Pay <k>", "Dear <k>", "Example & Co"} <= {piece.strip() for piece in seen.shown}
    assert "<<" not in html
    assert "{{" not in html


OURS = '<html lang="<<lang>>"><body><% if logo %><img src="<<logo>>"><% endif %>\n<p>{{ email }}</p>{{ content }}</body></html>'


def test_own_layout(make):
    """A layout of the campaign's own is a file with a place for the body, and reads the row as the body does."""
    rendered = make(
        "body.html", "<b>{{ email|upper }}</b>", "ours.html", files={"ours.html": OURS}, locale="de_AT"
    )

    assert html_of(rendered) == (
        '<html lang="de-AT"><body>\n<p>kim@example.org</p><b>KIM@EXAMPLE.ORG</b></body></html>'
    )


@pytest.mark.parametrize(
    ("layout", "told", "code", "words"),
    [
        (OURS, {"lgo": "x", "zz": "", "yy": ""}, "T112", "did you mean `logo`?"),
        ("<p>", {}, "T113", "write {{ content }} where it belongs"),
        ("{{ content }}{{ content }}", {}, "T113", "write {{ content }} where it belongs"),
        ("<% if x %>", {}, "T111", None),
        ("<< x.__class__.__mro__ >>{{ content }}", {"x": "y"}, "T111", None),
    ],
)
def test_layouts_that_cannot_be_used(make, layout, told, code, words):
    """What is wrong with a layout, or with what it is told, is said before the first row."""
    with pytest.raises(TemplateError) as caught:
        make("body.md", "x", "ours.html", told, files={"ours.html": layout})

    assert [(d.code, d.hint) for d in caught.value.diagnostics] == [(code, words)]


# --- styles -------------------------------------------------------------------------------------------


SHEET = """<html><head><style>
.a { color: red } td { padding: 1px }
@media (max-width: 9px) { .a { color: blue } }
a:hover { color: green }
</style></head>
"""


@pytest.mark.parametrize(
    "body",
    [
        '<TABLE width=3><tr><td CLASS="a" title="x>y">x &nbsp; ü<td>&copy; {{ email }}</table>',
        "<!--[if mso]><td class=a><![endif]--><p class='a' style='margin:0'>{% if email %}<td>{% endif %}<br/>",
        '{% for i in [1, 2] %}<a class="a" href="{{ email }}?a=1&b">{{ i }}</a>{% endfor %}<img class=a />',
    ],
)
def test_styles_are_moved_once_and_nothing_else_changes(make, body):
    """Moved once per template it is what it would be row by row; without ``style`` it is what was written."""
    rendered = make("body.html", SHEET + body, inline_css=True)
    plain = html_of(make("body.html", SHEET + body))

    assert rendered.warnings == ()
    assert re.sub(r"\s", "", html_of(rendered)) == re.sub(r"\s", "", inlined(plain))
    without = re.sub(
        r' style="(?:color|padding)[^"]*"|<style.*?</style>|\s', "", html_of(rendered), flags=re.DOTALL
    )
    assert re.sub(r"style='margin:0'|style=\"[^\"]*margin:\s*0[^\"]*\"", "", without) == re.sub(
        r"<style.*?</style>|style='margin:0'|\s", "", plain, flags=re.DOTALL
    )
    assert "@media (max-width: 9px) { .a { color: blue } }" in html_of(rendered)
    assert "a:hover" in html_of(rendered)
    assert "td { padding" not in html_of(rendered)


@pytest.mark.parametrize(
    ("body", "moved"),
    [
        ('<p class="{{ x }}">x', 'class="a" style="color: red;"'),
        ('<p class="a" style="margin: {{ x }}">x', 'style="color: red'),
        ("<p {{ y }}>x", "<p class=&#34;a&#34;>x"),
        ("{% include 'part.html' %}", '<p class="a" style="color: red;">k'),
        ("{{ z|safe }}", '<p class="a" style="color: red;">z'),
        ("{% macro m() %}<i class='a'>{% endmacro %}{{ m() }}x", "<i class='a' style=\"color: red;\">x"),
    ],
)
def test_styles_that_depend_on_the_row_are_moved_for_each_row(make, body, moved):
    """Where a tag decides which rules count, every row gets its own, and that is said."""
    cells = {"x": "a", "y": 'class="a"', "z": '<p class="a">z'}
    rendered = make(
        "body.html", SHEET + body, inline_css=True, cells=cells, files={"part.html": '<p class="a">k'}
    )

    assert moved in html_of(rendered)
    assert told(rendered.warnings) == {("H240", "body.html", 6)}


# --- MJML ---------------------------------------------------------------------------------------------


MJML = """{% set items = [1, 2] %}{# note #}
<mjml><mj-head><mj-title>{{ x }}</mj-title><mj-preview>{% if x %}P{% endif %}</mj-preview></mj-head>
<mj-body>
{% for i in items %}
<mj-section><mj-column>
<mj-text>Dear <b>{{ x }}</b> {{ i }}</mj-text>
{% if i == 1 %}<mj-button href="https://example.org/{{ x }}">Go</mj-button>{% endif %}
</mj-column></mj-section>
{% endfor %}
</mj-body></mjml>"""


def test_mjml_is_compiled_with_its_tags(make):
    """Sections in a loop, a button under a condition: compiled once, and cells stay data."""
    rendered = make("body.mjml", MJML, cells={"x": '<"*k*'})
    seen = Seen(html_of(rendered))

    assert seen.text.count('<"*k*') == 3
    assert [link["href"] for link in seen.attributes["a"]] == ['https://example.org/<"*k*']
    assert not re.search(
        "mj-|mailmergetag|{%|\U000f5ab3", html_of(rendered).replace("mj-column", "").replace("mj-outlook", "")
    )
    assert text_part(
        rendered
    ) == 'Dear <"*k* 1\n\nGo (https://example.org/<"*k*)\nDear <"*k* 2\n' or text_part(rendered)


@pytest.mark.parametrize(
    ("source", "code", "line"),
    [
        ("<mjml><mj-body>\n<mj-section></mj-body></mjml>", "T114", 1),
        ("<mjml><mj-body>\n{{ email }}\n<mj-section></mj-section></mj-body></mjml>", "T115", 2),
        ('<mjml><mj-body>\n<mj-include path="/etc/hostname" /></mj-body></mjml>', "T114", 2),
    ],
)
def test_mjml_that_cannot_be_compiled(make, source, code, line):
    """What MJML refuses, or would drop without a word, is told with its line; no file is read for it."""
    with pytest.raises(TemplateError) as caught:
        make("body.mjml", source)

    [found] = told(caught.value.diagnostics)
    assert found == (code, "body.mjml", line)


def test_mjml_without_its_package(make, monkeypatch):
    """Where the compiler is not installed that is said before the first row, with the command that installs it."""
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "mjml", raising=False)

    with pytest.raises(CampaignFileError, match="MJML templates need") as caught:
        make("body.mjml", MJML, cells={"x": "x"})

    assert (caught.value.code, caught.value.path) == ("X902", "body.mjml")


# --- text from HTML, preheader --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>a <b>b</b>\n c</p><p>d<br>e</p>", "a b c\n\nd\ne\n"),
        ("<table role=presentation><tr><td>a<td>b<tr><td><p>c</table>", "a\nb\n\nc\n"),
        ("<table><tr><th>a<th>b<tr><td>1<td>2</table>", "a | b\n1 | 2\n"),
        ("<ul><li>a<ol><li>b<li>c</ol><li>d</ul>", "- a\n  1. b\n  2. c\n- d\n"),
        ("<ol start=3><li>a<li>b</ol><ol start=x><li>c</ol>", "3. a\n4. b\n\n1. c\n"),
        ("<a href=https://x.org/>a</a> <a href='https://x.org/'>b</a> <a href=#t>c</a>", "a [1] b [1] c\n\n[1] https://x.org/\n"),
        ("<a href=https://x.org>https://x.org</a> <a href=mailto:a@x.org>a@x.org</a>", "https://x.org a@x.org\n"),
        ("<a href=https://x.org><img src=a alt=Buy></a><img src=b alt=''>", "Buy [1]\n\n[1] https://x.org\n"),
        ("<div style='display:none'>pre</div><style>p{}</style><script>x</script><!--[if mso]>m<![endif]-->a", "a\n"),
        ("a&nbsp;&#847;&zwnj;b&shy;c &lt;3", "a bc <3\n"),
        ("<pre>a\n  b</pre>c", "a\n  b\n\nc\n"),
        ("<h1>a</h1><hr><blockquote>b</blockquote>", "a\n\n-----\n\nb\n"),
        ("<img src=x alt=''>", ""),
        ("<!-- -->", ""),
    ],
)  # fmt: skip
def test_text_of_html(html, text):
    """A reader of the text sees what a reader of the HTML sees, in the same order."""
    assert text_of(html) == text


TEMPLATES = (
    "<p>Dear {{ x }},</p>{% if x %}<p>one</p>{% else %}<p>two</p>{% endif %}<p>end</p>",
    "<table><tr><th>A<th>B</tr>{% for i in [1, 2] %}<tr><td>{{ i }}<td>{{ x }}</tr>{% endfor %}</table>",
    "<ul>{% for i in [1, 2] %}<li>{{ i }} {{ x }}</li>{% endfor %}</ul><p><a href='https://x.org'>y</a></p>",
    "{% set y = x %}<html><head><title>{{ x }}</title></head><body>{{ y }}<div hidden>{{ x }}</div></body>",
)


@pytest.mark.parametrize("source", TEMPLATES)
def test_text_is_made_once_as_it_would_be_for_each_row(make, source):
    """The text made of a template says for a row what the text of that row's HTML says, cells unescaped."""
    rendered = make("body.html", source, cells={"x": "<b> & 'c'"})

    assert text_part(rendered).strip("\n") == text_of(html_of(rendered)).strip("\n")
    assert "<b> & 'c'" in text_part(rendered)


@pytest.mark.parametrize(
    "source",
    [
        "{{ x|safe }}",
        "{% include 'part.html' %}",
        "{{ x|e }} &amp; {{ x }}",
        "{% macro m() %}<p>a{% endmacro %}{{ m() }}",
    ],
)
def test_text_is_made_of_the_row_where_tags_print_elements(make, source):
    """What a tag prints as HTML is not HTML in the text part."""
    rendered = make("body.html", source, cells={"x": "<p>a"}, files={"part.html": "<p>a"})

    assert text_part(rendered) == text_of(html_of(rendered))


def test_html_without_words_has_no_text_part(make):
    """A picture alone gives no text: the check that misses one still does."""
    assert make("body.html", "<img src='https://x.org/{{ email }}' alt=''>").text is None


@pytest.mark.parametrize(
    ("source", "before"), [("<html><BODY class=x>a", "<html><BODY class=x>"), ("<p>a", "")]
)
def test_preheader_comes_first_and_is_padded(make, source, before):
    """What inboxes show is hidden at the very beginning, its cells escaped, and nothing of the letter follows it."""
    html = html_of(make("body.html", source, preheader="Due & {{ x }}", cells={"x": "<1>"}))

    assert html.startswith(f'{before}<div style="display:none;')
    assert "Due &amp; &lt;1&gt;&#847;&zwnj;&nbsp;" in html
    assert "Due" not in text_of(html)


@pytest.mark.parametrize("source", ["{{" + "[" * 3000 + "]" * 3000 + "}}", "{" * 20_000])
@pytest.mark.parametrize("name", ["body.md", "body.html", "body.mjml"])
def test_a_body_that_is_nested_too_deeply_is_told(make, name, source):
    """As a problem of the template, in every kind of body."""
    with pytest.raises(TemplateError) as caught:
        make(name, source)
    assert {found.code for found in caught.value.diagnostics} == {"T107"}


@pytest.mark.parametrize(
    "piece",
    [
        "*Text* {{ email }}.\n\n",
        "{% if email %}\nx\n{% endif %}\n\n",
        "- {{ email }}\n",
        "{# note #}\nText\n\n",
    ],
)
def test_a_longer_body_costs_no_more_for_each_line(make, piece):
    """Twice as many paragraphs are made with about twice as many calls."""

    def calls(count: int) -> int:
        total = 0

        def seen(_frame: object, event: str, _what: object) -> None:
            nonlocal total
            total += event == "call"

        sys.setprofile(seen)
        try:
            make("body.md", piece * count, keep=True)
        finally:
            sys.setprofile(None)
        return total

    calls(1)
    assert calls(200) < 2.2 * calls(100)


MJML_PARTS = (
    '<mj-text>T</mj-text><mj-button href="https://example.org/">B</mj-button><mj-divider/><mj-spacer/>'
    '<mj-image src="https://example.org/a.png" alt="A" width="200px"/><mj-table><tr><td>T</td></tr></mj-table>'
    '<mj-social><mj-social-element name="facebook" href="https://example.org/">F</mj-social-element></mj-social>'
)


def test_what_mjml_makes_by_itself_is_not_told(make):
    """No font is loaded that nobody asked for, and no construct told that nobody could leave out."""
    source = (
        "<mjml><mj-head><mj-preview>P</mj-preview></mj-head>"
        f"<mj-body><mj-wrapper><mj-section><mj-column>{MJML_PARTS}</mj-column></mj-section><mj-section>"
        "<mj-group><mj-column><mj-text>A</mj-text></mj-column><mj-column><mj-text>B</mj-text></mj-column>"
        "</mj-group></mj-section></mj-wrapper></mj-body></mjml>"
    )
    document = HtmlDocument.parse([html_of(make("body.mjml", source))])
    assert document is not None
    assert {use.slug for use in used(document)} == MJML_OWN
    assert list(external_styles(document)) == []


@pytest.mark.parametrize(
    "asked",
    [
        '<mj-head><mj-font name="Inter" href="https://example.org/inter.css"/></mj-head>',
        '<mj-head><mj-attributes><mj-all font-family="Roboto, Arial"/></mj-attributes></mj-head>',
    ],
)
def test_fonts_that_an_author_asks_for_are_loaded(make, asked):
    """By name where MJML knows where they are, or by address."""
    named = "Inter" if "Inter" in asked else "Roboto"
    source = (
        f"<mjml>{asked}<mj-body><mj-section><mj-column>"
        f'<mj-text font-family="{named}">Ubuntu, Lato</mj-text></mj-column></mj-section></mj-body></mjml>'
    )
    html = html_of(make("body.mjml", source))
    assert re.findall(r'href="([^"]*)" rel="stylesheet"', html) == [
        "https://example.org/inter.css"
        if named == "Inter"
        else "https://fonts.googleapis.com/css?family=Roboto:300,400,500,700"
    ]


def test_styles_are_moved_once_where_a_condition_only_decides_about_words(make):
    """The order of elements is the same for all rows then; a condition around an element is pointed at."""
    html = (
        "<style>td:first-child { color: red }</style>\n<table><tr>\n"
        "{% if email %}<td>a</td>{% endif %}\n<td>b</td></tr></table>"
    )
    words = "{% if email %}Hello{% else %}Hi{% endif %}"
    fixed = make("body.html", html.replace("{% if email %}<td>", "<td>").replace("{% endif %}", ""),
                 inline_css=True, preheader=words)  # fmt: skip
    moved = make("body.html", html, inline_css=True, preheader=words)

    assert (told(fixed.warnings), told(moved.warnings)) == (set(), {("H240", "body.html", 3)})
    assert "color: red" in html_of(fixed)


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<table><tr>{% if email %}<td>a</td>{% endif %}<td>b</td></tr></table>", "a | b\n"),
        (
            '<p>Hi</p><a href="https://example.org/x"><img src="https://example.org/a.png" alt=""></a>',
            "Hi\n\nhttps://example.org/x\n",
        ),
        (
            '<p>Hi</p><a href="https://example.org/{{ email }}"><img src="https://example.org/a.png"></a>',
            "Hi\n\nhttps://example.org/kim@example.org\n",
        ),
        ('<p>Hi</p><a href="https://example.org/x"></a><a href="#top"><img src="a.png" alt=""></a>', "Hi\n"),
    ],
)
def test_text_of_cells_under_a_condition_and_of_pictures_that_lead_somewhere(make, html, text):
    """Tags in front of a row's first cell stay; a picture without words says where it leads."""
    assert text_part(make("body.html", html)).rstrip("\n") == text.rstrip("\n")
