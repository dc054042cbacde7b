"""Placeholders of other programs: which are found, and what ordinary prose may say."""

from __future__ import annotations

import pytest

from mailmerge.check.lint import Lint
from mailmerge.check.message_view import ListTally, SourceLocator
from mailmerge.check.rules import unmerged
from mailmerge.designs.editors import broken_tags, damage, mend
from mailmerge.designs.names import ListColumns
from mailmerge.designs.placeholders import find_placeholders, prose
from mailmerge.model import Columns

COLUMNS = Columns(
    ("Email", "First Name", "Amount", "Company", "note", "code"),
    ("email", "first_name", "amount", "company", "note", "code"),
)
FOUND = {
    "Dear *|FNAME|*,": "first_name",
    "Hi %%First Name%%": "first_name",
    "Hi %recipient.first_name%": "first_name",
    "Hi {first name}": "first_name",
    "Dear [First Name],": "first_name",
    "Dear «First_Name»": "first_name",
    "${first_name}": "first_name",
    "<<Amount>>": "amount",
    "<p><<Amount>></p>": "amount",
    "Dear #AMOUNT#": "amount",
    "##AMOUNT##": "amount",
    "<p>Dear &lt;&lt;First Name&gt;&gt;</p>": "first_name",
    "<p>&laquo;Amount&raquo;</p>": "amount",
    "<p>«<span class=SpellE>First_Name</span>»</p>": "first_name",
    "<p>*|<b>FNAME</b>|*</p>": "first_name",
    '<a href="https://x.org/?e={email}">x</a>': "email",
    '<a href="https://x.org/?e=%%email%%">x</a>': "email",
    "<a href='https://x.org/?e=[email]&a=1'>x</a>": "email",
    '<p><img alt="[Company]" src="x"></p>': "company",
    "%FIRSTNAME%": "first_name",
    "[firstname,fallback=there]": "first_name",
    "[[firstname]]": "first_name",
    "{!Contact.FirstName}": "first_name",
    "{contactfield=firstname|x}": "first_name",
    "[Vorname]": "first_name",
    '[[data:firstname:"x"]]': "first_name",
    "~Contact.FirstName~": "first_name",
    "#{first_name}": "first_name",
    "[First&nbsp;Name]<br>": "first_name",
    "{$name}": None,
    "[% name %]": None,
    "Sehr geehrter Herr {Nachname}": None,
    "Dear [Your Name]": None,
    '<a href="*|UNSUB|*">x</a>': None,
    '<a href="{unsubscribe}">x</a>': None,
    '<a href="[unsubscribe]">x</a>': None,
    "<a href='<%asm_group_unsubscribe_url%>'>x</a>": None,
    "https://x.org/u/*|UNSUB|*": None,
}
PROSE = (
    "100%% sure and 50%% not",
    "[sic] [1] [note] [x] [draft] [amount due] [company-wide]",
    "see [email](mailto:x@y.z), [a link][email]\n\n[email]: https://x.org",
    "«Bonjour» et «amount due», «слово», «Название», «Vorher»",
    "C# and F# and #hashtag #amount, #1 code #2",
    "10% company 20%, at 5%amount%",
    "{ color: red } {1,2} I <3 {you}",
    "<style>.a{email}</style><p>x</p>",
    "<p><code>{email}</code> <pre>[First Name] *|FNAME|*</pre></p>",
    "`{email}`\n```\n{email}\n```\n",
    "<p>Markdown</p>\n\nwith `{email}` and ``[First Name]``\n",
    "https://x.org/a%20email%20b?fields[email]=1&%C3%A9",
    "<a href='https://x.org/#email#'>x</a><p>[email protected]</p>",
    "{{ email }} {% if email %}[{{ amount }}]{% endif %} {# {email} #}",
    "<!--[if mso]>{email}<![endif]--><p class='[email]'>x</p>",
    "x[amount] array{email} ${HOME} << bonjour >>",
)


@pytest.mark.parametrize(("text", "column"), FOUND.items())
def test_a_placeholder_is_found_with_its_column(text: str, column: str | None) -> None:
    """Each of these is one placeholder, and leads to the column that it means."""
    columns = ListColumns(COLUMNS)
    (found,) = find_placeholders(text, columns)
    assert columns.written(found.field) == column


@pytest.mark.parametrize("text", PROSE)
def test_prose_has_no_placeholder(text: str) -> None:
    """Brackets, braces, signs and quotation marks of ordinary text, code and addresses are none."""
    assert find_placeholders(text, ListColumns(COLUMNS)) == []


def _tally(text: str) -> ListTally:
    return ListTally(SourceLocator({"body.html": text}, columns=COLUMNS))


def test_the_hint_is_the_jinja_form() -> None:
    """The column is named as a template reads it, a fallback and unsubscribing, too."""
    tally = _tally("Hi [firstname,fallback=there] {$city}, *|UNSUB|* and *|UNSUB|*")
    found = list(unmerged.of_other_programs(tally))
    assert [finding.hint for finding in found] == [
        'write {{ first_name or "there" }}',
        "write {{ column }}, with a column of the list: Email, First Name, Amount, Company, note, code",
        "write {{ unsubscribe_url }}",
    ]
    assert found[2].message.endswith("(2 times)")
    assert found[1].place is not None


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("*|MC_PREVIEW_TEXT|*", "set `preheader`"),
        ("*|IF:FNAME|*", "{% if column %}"),
        ("*|END:IF|*", "{% endif %}"),
        ("*|ARCHIVE|*", "remove it"),
        ("*|MC:SUBJECT|*", "remove it"),
    ],
)
def test_an_instruction_is_not_called_a_column(written: str, words: str) -> None:
    """What a design tells the other program has no column: the hint says what to do instead."""
    (finding,) = unmerged.of_other_programs(_tally(f"<p>Dear reader, {written}</p>"))
    assert words in (finding.hint or "")


@pytest.mark.parametrize(
    "text",
    [
        "<p>Lorem ipsum dolor</p>",
        "<td>© 2026 Your Organisation<br>",
        "<p>Your company, Main Street 1</p>",
        "Write your message here. Thanks",
        "Hello,\n\nFIRST STORY\nTwo sentences",
        "<h1>Headline here</h1>",
        "TODO: the news",
        "[insert date]",
    ],
)
def test_filler_is_found(text: str) -> None:
    """Filler text in a template is reported."""
    assert [finding.code for finding in unmerged.filler(_tally(text))] == ["M210"]


@pytest.mark.parametrize(
    "text",
    [
        "We help your organisation grow. Your company is growing.",
        "Your organisation has been chosen.",
        "<p>In our first story we tell how</p>",
        "<pre>lorem ipsum</pre><p>x</p>",
        "{# TODO: ask Ana #} Hello",
        "<!-- TODO --><p>Hello</p>",
        "Share your story here: https://example.org",
        "What happens first is that we meet.",
        "Give a reason that is honest.",
        "One sentence says what ten could not.",
        "Here is the headline of this month: it rains.",
    ],
)
def test_prose_is_no_filler(text: str) -> None:
    """The same words inside of sentences, and remarks that nobody gets, are not."""
    assert list(unmerged.filler(_tally(text))) == []


MENDED = {
    "<p>{<span>{ name }</span>}</p>": "<p>{{ name }}</p>",
    "{<span lang=DE>{ name</span> }<o:p></o:p>}": "{{ name }}",
    "{{ name|default(“there”) }}": '{{ name|default("there") }}',
    "{{ name|default(‘there’) }}": "{{ name|default('there') }}",
    "{{&nbsp;name&nbsp;}}": "{{ name }}",
    "{% if amount &gt; 5 %}x{% endif %}": "{% if amount > 5 %}x{% endif %}",
    "{{ first<span class=SpellE>_name</span> }}": "{{ first_name }}",
    '<a href="http://%7B%7B%20url%20%7D%7D">': '<a href="{{ url }}">',
    '<a href="https://x/?e=%7B%7Bemail%7D%7D">': '<a href="https://x/?e={{email}}">',
    "{{ name or\n “dear friend” }}": '{{ name or "dear friend" }}',
    "｛｛ name ｝｝": "{{ name }}",
    "{{ name }<b>}</b>": "{{ name }}<b></b>",
    '{{<a href="http://row.name">row.name</a>}}': "{{row.name}}",
    "{{ x|default(&quot;it’s&quot;) }}": '{{ x|default("it’s") }}',
    "&#123;&#123; name &#125;&#125;": "{{ name }}",
}


@pytest.mark.parametrize(("written", "meant"), MENDED.items())
def test_a_tag_is_whole_again(written: str, meant: str) -> None:
    """What editors do to a tag is undone, and every other character stays."""
    assert mend(written).text == meant


@pytest.mark.parametrize(
    "text",
    [
        '{{ "<b>x</b>"|safe }} {{ "it’s" }} {{ "&copy;" }}',
        "{% if a < b and c > d %}x{% endif %}",
        "<style>a{b{c:d}}.x{{y}}</style>",
        "{# “quotes” #} “quotes” a {b} {c}",
        "{% raw %}{{ “x” }}{% endraw %}",
    ],
)
def test_a_sound_tag_stays(text: str) -> None:
    """Nothing is done to tags that are as their author wrote them."""
    assert mend(text).text == text


def test_a_parted_tag_is_told_with_its_meaning() -> None:
    """The tag that readers would see as braces is named as it was meant."""
    assert [meant for _, _, meant in broken_tags("<p>{<span>{ name }</span>} {{ x }}</p>")] == ["{{ name }}"]


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("Hi {{ name|default(“x”) }}", 'an editor has curled the quotes: write {{ name|default("x") }}'),
        ("<a href={{{unsubscribe}}}>", "{{{ }}} is the syntax of another program: write {{ unsubscribe }}"),
        ("Hi {{ name }}", None),
    ],
)
def test_a_tag_that_cannot_be_read_is_explained(line: str, hint: str | None) -> None:
    """The hint of a syntax error names what an editor or another program made of the tag."""
    assert damage(line) == hint


def test_every_lint_knows_the_columns() -> None:
    """The rules are among those that a lint asks after the last row."""
    sources = SourceLocator({"body.txt": "Hi %%AMOUNT%%"}, columns=COLUMNS)
    assert [finding.code for finding in Lint(sources).finish()] == ["H250"]


def test_many_tags_in_a_row_are_looked_through() -> None:
    """How a run of tags may be divided is not tried out: that would take longer than anybody waits."""
    text = "<p>[Name" + "<b></b>" * 3000 + "x" * 60 + "</p>" + "<i>{na</i>" * 2000
    assert find_placeholders(text, ListColumns(COLUMNS)) == []


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a{{ x }}b{% if y %}c{# [Name] #}d", "abcd"),
        ("{{ '}}' ~ x }}z", "z"),
        ('{{ "\\"}}" }}}z', "z"),
        ("{{ {'a': 1}['a'] }}z", "z"),
        ("{{ x z", "{{ x z"),
        ("{# x z", "{# x z"),
        ("{#}z", "{#}z"),
        ("{% x z", "{% x z"),
        ("{{{ x }}z", "z"),
        ("`code` ``a`b`` c", "  c"),
    ],
)
def test_own_tags_and_code_are_no_prose(text: str, left: str) -> None:
    """A tag ends where its strings are over; what does not end is not a tag."""
    assert prose(text).replace("\0", "") == left


def test_text_that_only_begins_something_takes_no_longer() -> None:
    """Sixty thousand braces or backticks: none is looked through again and again."""
    for piece in ("{", "{{", "{%", "{#", "{{'", '{{"a', "`", "```", "`a "):
        assert len(prose(piece * (60_000 // len(piece)))) >= 59_990
