"""What the rules find, row by row and once a layout; the words are in ``test_wording``."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from campaigns import write_key
from mailmerge.addresses import mail_domains
from mailmerge.check import rules
from mailmerge.check.clients import DECORATION, WIDELY_USED, client_data, used
from mailmerge.check.html_document import HtmlDocument
from mailmerge.check.lint import MOST_LAYOUTS
from mailmerge.check.message_view import ListTally
from mailmerge.check.rules.accessibility import appearance
from mailmerge.check.rules.deliverability import bulk_rules, longer_than_a_day
from mailmerge.colours import BLACK, UNKNOWN, WHITE, contrast, parse, shown_colour
from mailmerge.model import Rate, Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from campaigns import CampaignFactory
    from mailmerge.campaign.plan import Plan

    Checker = Callable[..., Plan]


@pytest.fixture
def plan(campaign_factory: CampaignFactory) -> Checker:
    """Check a campaign with this HTML in its body."""

    def check(
        html: str,
        *,
        rows: str = "a@x.org,Ann,\nb@x.org,Bo,\n",
        text: str = "Hi, https://x.org/\n",
        message: str = 'from = "me@x.org"',
        **sections: str,
    ) -> Plan:
        page = html if "<html" in html else f'<html lang="en"><body>\n{html}\n</body></html>\n'
        files = {"body.html": page, "body.txt": text, "people.csv": "email,first,link\n" + rows}
        return campaign_factory(files, message=f'subject = "News"\n{message}', **sections).check()

    return check


def codes(found: Plan) -> list[str]:
    """Return the codes in the order in which they are shown."""
    return [group.first.code for group in found.problems]


def page(html: str) -> HtmlDocument:
    """Take HTML apart."""
    parsed = HtmlDocument.parse([html])
    assert parsed is not None
    return parsed


# --- rules --------------------------------------------------------------------------------------------

RULE = """
from mailmerge.check.message_view import Finding
from mailmerge.check.rules import each_message

@each_message
def no_monday(view):
    if "Monday" in view.body:
        yield Finding("M299", "Monday")
"""


def test_a_module_in_the_folder_of_rules_is_all_that_a_rule_needs(
    plan: Checker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function with its decorator is found and run: nothing else names it."""
    rules.load()  # what registers itself later would be forgotten with the patched list
    (tmp_path / "mondays.py").write_text(RULE)
    monkeypatch.setattr(rules, "__path__", [*rules.__path__, str(tmp_path)])
    monkeypatch.setattr(rules, "EACH_MESSAGE", [*rules.EACH_MESSAGE])

    found = plan("<p>See you on Monday</p>", text="On Monday: https://x.org/")

    assert codes(found) == ["M299"]


def test_rules_are_loaded_when_messages_are_linted_and_not_before() -> None:
    """Start-up is free of them."""
    code = "import sys; import mailmerge.cli.check; print('mailmerge.check.rules.links' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


# --- whose fault it is ----------------------------------------------------------------------------------


def test_a_bad_link_in_a_cell_makes_its_row_invalid(plan: Checker) -> None:
    """The other rows can be sent."""
    rows = "a@x.org,Ann,https://x.org/\nb@x.org,Bo,javascript:alert(1)\n"
    found = plan('<a href="{{ link }}">read on</a>', rows=rows)
    assert (codes(found), found.ready, found.statuses[Status.INVALID]) == (["H302"], 1, 1)
    assert [(g.first.row, g.first.place and g.first.place.cell) for g in found.problems] == [
        (3, "column link")
    ]
    assert found.problems.campaign_errors == []


def test_a_bad_link_in_the_template_stops_the_campaign(plan: Checker) -> None:
    """It is in every row, so it is said once, with its line, and nothing is sent."""
    found = plan('<a href="page.html">read on</a>')
    (group,) = found.problems
    assert (group.first.code, group.first.row, group.count) == ("H301", None, 2)
    assert group.first.place is not None
    assert (group.first.place.line, group.first.place.column) == (2, 10)
    assert found.problems.campaign_errors == [group]


def test_the_same_bad_link_twice_in_a_row_counts_once(plan: Checker) -> None:
    """A count of rows is a count of rows."""
    found = plan('<a href="{{ link }}">one</a><a href="{{ link }}">two</a>', rows="a@x.org,A,x y\n")
    assert [group.count for group in found.problems] == [1]


def test_the_author_can_overrule_what_was_found(plan: Checker) -> None:
    """``[check] ignore`` silences a finding of the rules, and the row stays valid."""
    found = plan('<a href="page.html">read on</a>', rest='\n[check]\nignore = ["H301"]\n')
    assert (codes(found), found.ready) == ([], 2)


def test_what_the_templates_cause_is_said_once_however_many_rows(plan: Checker) -> None:
    """A structure is taken apart once; a branch that only some rows take is another structure."""
    rows = "".join(f"u{n}@x.org,{'Ann' if n % 2 else ''},\n" for n in range(40))
    picture = '<img src="https://x.org/a.png" alt="">'
    html = f"{{% if first %}}{picture}{{% endif %}}<p>text that fills the page: forty letters or more</p>"
    found = plan(html, rows=rows)
    assert [(g.first.code, g.count) for g in found.problems] == [("H205", 1)]


def test_no_more_than_a_few_structures_are_taken_apart(plan: Checker) -> None:
    """Rows with ever new structures cost no more than the first of them."""
    rows = "".join(f"u{n}@x.org,{n},\n" for n in range(MOST_LAYOUTS + 6))
    html = "{% for n in range(first|int) %}<table><tr><td>x</td></tr></table>{% endfor %}<p>x</p>"
    found = plan(html, rows=rows)
    assert sum(group.count for group in found.problems) < MOST_LAYOUTS


# --- links ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "code"),
    [
        ("https://x.org/a?b=c&amp;d=%20e#f", None),
        ("mailto:a@x.org", None),
        ("tel:+491234", None),
        ("#part", None),
        ("HTTPS://X.ORG/", None),
        ("https://x.org/ä", None),
        ("", "H301"),
        ("//x.org/a", "H301"),
        ("https:///a", "H301"),
        ("page.html", "H301"),
        ("JavaScript:alert(1)", "H302"),
        ("java\tscript:alert(1)", "H301"),
        ("data:text/html,x", "H302"),
        ("file:///etc/passwd", "H302"),
        ("http://127.0.0.1/", "H303"),
        ("https://[::1]/", "H303"),
        ("https://printer.local/", "H303"),
        ("http://2130706433/", "H303"),
        ("http://2130706433:8080/x", "H303"),
        ("http://me@0x7f000001/", "H303"),
        ("https://0X7F.1/", "H303"),
        ("https://0177.0.0.01/", "H303"),
        ("https://017700000001/", "H303"),
        ("https://127.1/", "H303"),
        ("https://10.66051/", "H303"),
        ("https://192.168.257/", "H303"),
        ("https://0/", "H303"),
        ("https://0x/", "H303"),
        ("https://127.0.0.1./", "H303"),
        ("https://%31%32%37.0.0.1/", "H303"),
        ("https://\uff11\uff12\uff17.0.0.1/", "H303"),
        ("https://127\u30020\u30020\u30021/", "H303"),
        ("https://[::ffff:127.0.0.1]/", "H303"),
        ("https://[::ffff:7f00:1]/", "H303"),
        ("https://[0:0:0:0:0:0:0:1]/", "H303"),
        ("https://[64:ff9b::10.0.0.1]/", "H303"),
        ("https://[2002:c0a8:1::]/", "H303"),
        ("https://[fd00::1]/", "H303"),
        ("https://router.lan/", "H303"),
        ("https://box.home.arpa/", "H303"),
        ("https://x.org/a b", "H304"),
        ("https://x.org/{{ '{{ x }}' }}", "H304"),
        ("http://x.org/", "H211"),
        ("https://bit.ly/abc", "H209"),
        ("https://93.184.215.14/", "H210"),
        ("https://1572395790/", "H210"),
        ("https://0x5db8d70e/", "H210"),
        ("https://[::ffff:93.184.215.14]/", "H210"),
        ("https://[2606:2800:21f::1]/", "H210"),
        ("https://2130706433.org/", None),
        ("https://127.0.0.1.example.org/", None),
        ("https://0x7f.example/", None),
        ("https://1.2.3.com/", None),
        ("https://cafe.babe/", None),
    ],
)
def test_links_are_judged_by_their_address(plan: Checker, link: str, code: str | None) -> None:
    """What cannot work is an error, what is unwise a warning."""
    assert codes(plan(f'<a href="{link}">read on</a>')) == ([code] if code else [])


def test_a_shown_domain_may_be_the_links_own_or_a_parent_of_it(plan: Checker) -> None:
    """Only another domain is a disguise."""
    good = '<a href="https://www.x.org/a">x.org</a> <a href="https://shop.x.org/">www.x.org</a>'
    assert codes(plan(good)) == []
    assert codes(plan('<a href="https://x.org.evil.example/">x.org</a>')) == ["H208"]


def test_more_links_than_any_letter_needs(plan: Checker) -> None:
    """Sixty are fine, one more is too many."""
    link, text = '<a href="https://x.org/">one</a>', "https://x.org/ " * 20
    assert codes(plan(link * 60, text=text)) == []
    assert codes(plan(link * 61, text=text)) == ["H207"]


# --- structure and accessibility --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ("<table role='none'><tr><td>x</td></tr></table>", []),
        ("<table><tr><th scope='row'>x</th><td>y</td></tr></table>", []),
        ("<table><tr><td><table><tr><th>x</th></tr></table></td></tr></table>", ["H232"]),
        ("<h1>a</h1><h2>b</h2><h3>c</h3><h2>d</h2>", []),
        ("<h2>a</h2><h4>b</h4>", ["H235"]),
        (
            '<img src="https://x.org/a.png" width="9" alt=""><p>words enough beside the picture, as here</p>',
            [],
        ),
        (
            '<img src="https://x.org/a" style="width:9px" alt="">' + "word " * 20,
            [],
        ),
        ('<img src="https://x.org/a.png" width="1" style="display:none"><p>x</p>', []),
        (
            '<a href="https://x.org/"><img src="https://x.org/a.png" width="9" alt=""></a>' + "word " * 20,
            ["H234"],
        ),
        ('<a href="https://x.org/">点击这里</a>', ["H234"]),
        ('<a href="https://x.org/">the report</a>', []),
        ("<script>x</script><p>a</p>", ["H201"]),
        ('<html><body lang="de">x</body></html>', []),
        ("<html><body>x</body></html>", ["H230"]),
        ('<html lang="en"><meta charset="UTF-8"><body>x</body></html>', []),
        ("<!-- nothing -->", []),
    ],
)
def test_structure_and_accessibility(plan: Checker, html: str, found: list[str]) -> None:
    """Each finding, and what only looks like one."""
    assert codes(plan(html)) == found


@pytest.mark.parametrize(
    ("html", "ratio"),
    [
        ('<p style="color:#777777">x</p>', 4.48),
        ('<p style="color:rgb(0,0,0);background:#fff">x</p>', 21.0),
        ('<p style="color:#0a0a0a;background:#fff">x</p>', 19.8),
        ('<table bgcolor="#000000"><tr><td><font color="#333333">x</font></td></tr></table>', 1.66),
        ('<div style="background:#fff"><p style="background:transparent;color:#767676">x</p></div>', 4.54),
    ],
)
def test_contrast_is_worked_out_through_what_an_element_stands_in(html: str, ratio: float) -> None:
    """Colours come from the nearest element that sets them; ratios are WCAG's."""
    parsed = page(html)
    element = next(element for element, _ in parsed.visible)
    looks = appearance(parsed, element)
    assert looks is not None
    assert contrast(looks.foreground, looks.background) == pytest.approx(ratio, abs=0.01)


@pytest.mark.parametrize(
    "html",
    [
        "<p>x</p>",
        '<p style="color:inherit">x</p>',
        '<p style="color:rgba(0,0,0,.3)">x</p>',
        '<p style="color:#ccc;background:url(a.png)">x</p>',
        '<td background="a.png"><p style="color:#ccc">x</p></td>',
        '<style>.a{background:#000}</style><p class="a" style="color:#ccc">x</p>',
        '<p style="color:nonsense">x</p>',
        '<p style="color:#ccc"><a href="x">x</a></p>',
    ],
)
def test_nothing_is_claimed_where_colours_cannot_be_known(html: str) -> None:
    """Style sheets, pictures, transparency and the program's own link colour have their say elsewhere."""
    parsed = page(html)
    shown = [element for element, _ in parsed.visible]
    assert appearance(parsed, shown[-1]) is None


@pytest.mark.parametrize(
    ("html", "large"),
    [
        ('<p style="color:#888;font-size:24px">x</p>', True),
        ('<p style="color:#888;font-size:23.9px">x</p>', False),
        ('<p style="color:#888;font-size:18pt">x</p>', True),
        ('<p style="color:#888;font-size:150%">x</p>', True),
        ('<p style="color:#888;font-size:1.4em">x</p>', False),
        ('<p style="color:#888;font-size:1.5rem">x</p>', True),
        ('<p style="color:#888;font-size:24">x</p>', True),
        ('<b style="color:#888;font-size:14pt">x</b>', True),
        ('<b style="color:#888;font-size:13.9pt">x</b>', False),
        ('<p style="color:#888;font-weight:700;font-size:19px">x</p>', True),
        ('<p style="color:#888;font-weight:600;font-size:19px">x</p>', False),
        ('<p style="color:#888;font:bold 19px serif">x</p>', True),
        ('<strong><p style="color:#888;font-size:19px">x</p></strong>', True),
        ('<h3 style="color:#888">x</h3>', True),
        ('<h3><span style="color:#888;font-size:18px">x</span></h3>', False),
        ('<h4 style="color:#888">x</h4>', False),
        ('<b style="color:#888">x</b>', False),
    ],
)
def test_text_is_large_from_18_points_or_14_in_bold(html: str, large: bool) -> None:
    """WCAG's two limits apply in every unit; the nearest size counts, and bold from any element around."""
    parsed = page(html)
    shown = [element for element, _ in parsed.visible]

    looks = appearance(parsed, shown[-1])

    assert looks is not None
    assert looks.is_large is large


def test_large_text_may_have_less_contrast(plan: Checker) -> None:
    """3 to 1 is enough for a headline, 4.5 to 1 for the rest."""
    assert codes(plan('<h1 style="color:#888888">Large enough</h1>')) == []
    assert codes(plan('<p style="color:#888888">Not large</p>')) == ["H233"]


@pytest.mark.parametrize("colour", ["#000000", "#0a7fff", "#ffffff"])
def test_a_colour_is_shown_as_css_writes_it(colour: str) -> None:
    """What is read comes back."""
    assert shown_colour(parse(colour)) == colour


def test_colours_are_read_as_css_writes_them() -> None:
    """Names, short and long forms; what is not a colour is unknown."""
    assert (parse("white"), parse("#000"), parse("rgb(255,255,255)")) == (WHITE, BLACK, WHITE)
    assert parse("currentcolor") == UNKNOWN
    assert parse("") == UNKNOWN


@pytest.mark.parametrize(
    "html", ["<p", "<<<>>>", "<a href='", "\0<p>x", "<p>" * 500, '<a "' * 3000, "&#xD800;"]
)
def test_broken_html_is_taken_apart_all_the_same(html: str) -> None:
    """Nothing that a template can print makes the check fail or hang."""
    parsed = HtmlDocument.parse([html])
    if parsed is not None:
        assert list(parsed.visible) is not None
        assert [parsed.spot(element) for element in parsed.elements]
        assert list(used(parsed)) is not None


# --- mail programs ----------------------------------------------------------------------------------------


def test_the_snapshot_is_what_the_matcher_expects() -> None:
    """Names of programs and of decoration exist in the data, so that a refresh that renames them is seen."""
    data = client_data()
    assert data.clients.keys() >= WIDELY_USED
    assert data.clients.keys() >= {known.mail_program for known in mail_domains().values()} - {None}
    assert {f"css-{name}" for name in DECORATION} - data.features.keys() == set()
    assert data.date >= "2026-05-13"


@pytest.mark.parametrize(
    ("html", "slugs"),
    [
        ('<div style="display: flex">x</div>', {"css-display-flex"}),
        ('<div style="DISPLAY:inline-grid">x</div>', {"css-display-grid"}),
        (
            '<p style="margin:0; padding:4px; color:#000; border-radius:9px; width:calc(1px + 2px)">x</p>',
            {"css-unit-calc"},
        ),
        ('<p style="--x:1; color:var(--x)">x</p>', {"css-variables"}),
        (
            "<style>@media (prefers-color-scheme:dark){p{display:grid}} a:hover{color:red}</style><p>x</p>",
            set(),
        ),
        ("<style>p{position:absolute}</style><p>x</p>", {"css-position"}),
        ('<img src="data:image/png;base64,AA" alt="">', {"image-base64"}),
        ('<img src="https://x.org/a.svg?v=1" alt="">', {"image-svg"}),
        ("<svg></svg>", {"html-svg"}),
        ("<p>x</p><ul><li>y</li></ul><h1>z</h1><b>w</b>", set()),
    ],
)
def test_constructs_are_recognised_by_what_they_are(html: str, slugs: set[str]) -> None:
    """Not by how they are written; what only decorates is not mentioned."""
    assert slugs == {use.slug for use in used(page(html))}


def test_the_share_of_the_list_counts_the_programs_of_its_own_domains(plan: Checker) -> None:
    """gmx.de's own program has no flexbox, Gmail's has."""
    rows = "a@gmx.de,A,\nb@gmail.com,B,\nc@own.example,C,\n"
    found = plan('<div style="display:flex">x</div>', rows=rows)
    (group,) = found.problems
    assert group.first.code == "H214"
    assert "; 1 of 3 addresses use them" in group.first.message
    assert client_data().date in str(group.first.hint)


# --- the campaign as a whole ------------------------------------------------------------------------------


def test_bulk_rules_begin_at_five_thousand_for_one_provider() -> None:
    """Each receiver's own rules are told, its domains together; others do not count at all."""
    tally = ListTally()
    tally.programs["gmail.desktop-webmail"] = 4999
    tally.programs["outlook.outlook-com"] = 5000
    tally.programs["gmx.desktop-webmail"] = 45000
    tally.programs["yahoo.desktop-webmail"] = 3000
    tally.programs["aol.desktop-webmail"] = 2000
    yahoo, outlook = bulk_rules(tally)
    assert yahoo.message.startswith("5,000 messages go to Yahoo")
    assert "take one click" in str(yahoo.hint)
    assert outlook.message.startswith("5,000 messages go to Outlook.com")
    assert "SPF and DKIM must both pass" in str(outlook.hint)
    assert "one-click unsubscribing is not required" in str(outlook.hint)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("Example Club, 12 Mill Lane, Springfield, IL 62701", False),
        ("Verein e. V., Musterstraße 5", False),
        ("Bahnhofplatz 1, 8001 Zürich", False),
        ("2000 Neuchâtel", False),
        ("10 Downing St, London SW1A 2AA", False),
        ("24 Sussex Drive, Ottawa ON K1M 1M4", False),
        ("10, rue de la Paix, Paris", False),
        ("ul. Marszałkowska 1, Warszawa", False),
        ("00-950 Warszawa", False),
        ("Vodičkova 30, 110 00 Praha", False),
        ("P.O. Box 7, Nairobi", False),
        ("Postfach 12, Wien", False),
        ("〒100-0001 東京都", False),
        ("北京市长安街1号", False),
        ("", True),
        ("Spring 2026, on 5 May at 20:30", True),
        ("Yours, since 1999", True),
        ("https://x.org/12345/a me12345@x.org", True),
    ],
)
def test_mail_to_subscribers_shows_a_postal_address(plan: Checker, address: str, told: bool) -> None:
    """What looks like one in any of many countries is enough; a year, a time or a link is not one."""
    headers = 'headers = { List-Unsubscribe = "<mailto:leave@x.org>" }\n'
    body = "Unsubscribe: leave@x.org\n"
    found = codes(plan(f"<p>{body}{address}</p>", text=f"{body}{address}\n", message=headers))
    assert ("M224" in found) is told
    assert "M224" not in codes(plan(f"<p>{address}</p>", text=f"{address}\n"))


@pytest.mark.parametrize(
    ("account", "message", "told"),
    [
        ('provider = "microsoft365"', 'unsubscribe = "https://x.org/u/{{ token }}"', True),
        ('provider = "microsoft365"', 'unsubscribe = "mailto:leave@x.org"', False),
        ('provider = "microsoft365"', "", False),
        ('provider = "mailjet"', 'unsubscribe = "https://x.org/u/{{ token }}"', False),
        ('provider = "gandi"', 'unsubscribe = "https://x.org/u/{{ token }}"', False),
        (
            'provider = "microsoft365"\ndkim = { selector = "s", key_file = "dkim.pem" }',
            'unsubscribe = "https://x.org/u/{{ token }}"',
            False,
        ),
    ],
)
def test_a_provider_that_does_not_sign_one_click_is_told(
    campaign_factory: CampaignFactory, account: str, message: str, told: bool
) -> None:
    """Only where it is known, where the messages have the headers, and where we do not sign ourselves."""
    write_key(campaign_factory.config.with_name("dkim.pem"))
    campaign_factory.config.write_text(f'[accounts.office]\n{account}\nuser = "me"\nfrom = "me@x.org"\n')
    message = f'from = "me@x.org"\n{message}\n'
    found = codes(campaign_factory(top='account = "office"', message=message).check())
    assert ("M223" in found) is told


@pytest.mark.parametrize(
    ("to_send", "quota", "said"),
    [
        (500, Rate(500, 86400), None),
        (501, Rate(500, 86400), "the run takes 2 days"),
        (1501, Rate(500, 86400), "the run takes 4 days"),
        (30, Rate(10, 3600), "the run takes 3 windows of 1 h"),
        (30, None, None),
    ],
)
def test_a_run_over_the_quota_says_how_many_days_it_takes(
    to_send: int, quota: Rate | None, said: str | None
) -> None:
    """Each window takes what the quota allows."""
    found = [finding.message for finding in longer_than_a_day(to_send, quota)]
    assert [message.rpartition(": ")[2] for message in found] == ([said] if said else [])


def test_the_accounts_limits_count_where_this_machine_knows_it(
    plan: Checker, campaign_factory: CampaignFactory
) -> None:
    """Quota, size and sender are those of the account; one that is not known is only a warning."""
    assert codes(plan("<p>x</p>", top='account = "work"\n')) == ["C220"]
    campaign_factory.config.write_text(
        '[accounts.work]\nhost = "smtp.example.org"\nuser = "me@x.org"\nfrom = "me@x.org"\nquota = "1/d"\n'
    )
    assert codes(plan("<p>x</p>", top='account = "work"\n')) == ["M221"]
    other = plan("<p>x</p>", top='account = "work"\n', message='from = "you@x.org"\n')
    assert codes(other) == ["C461", "M221"]
    assert other.problems.campaign_errors


def test_the_size_of_the_html_is_that_of_the_html_alone(plan: Checker) -> None:
    """Gmail cuts at 102 KB of HTML; text and attachments do not count."""
    words = "<p>" + "word " * 20 + "</p>\n"
    assert codes(plan(words * 900, text="https://x.org/ " + "word " * 19000)) == []
    assert codes(plan(words * 1100, text="https://x.org/ " + "word " * 21000)) == ["M211"]


# --- what does not arrive as it was written -------------------------------------------------------------

CSS = "<style>@media print {#main { color: red } }</style>\n<p>Dear {{ first }}</p>\n{# a remark #}"


@pytest.mark.parametrize(
    ("html", "line"),
    [
        (CSS, 2),
        (CSS.replace("\n", ""), 2),
        ("<p>a</p>\n{# <p>Dear {{ first }}</p> #}", 3),
        ("<p>a</p>\n{# Dear Ann,\n\nwe thank you.\n#}", 3),
        ("<p>a</p>{#- one {# two #}", 2),
        ("{# a remark #}<p>{# {% if x %} #}</p>", None),
        ("{% raw %}{#main { x }#}{% endraw %}{{ '{# <p> #}' }}", None),
        ("<style>@media print { #main { color: red } }</style>", None),
    ],
)
def test_d45_a_comment_that_leaves_out_text_is_told(plan: Checker, html: str, line: int | None) -> None:
    """A remark is a remark; where braces, tags or lines are left out, the place says so."""
    found = [group.first for group in plan(html).problems if group.first.code == "T203"]

    assert [problem.place and problem.place.line for problem in found] == ([line] if line else [])


def test_d45_a_long_remark_at_the_beginning_is_no_mistake(plan: Checker) -> None:
    """Authors explain their templates there."""
    assert "T203" not in codes(plan("{# This is\nour newsletter.\n#}\n<html lang='en'><p>Hi</p></html>"))


def test_d45_text_outside_of_blocks_is_told(campaign_factory: CampaignFactory) -> None:
    """What the extended template has no block for is not sent."""
    files = {
        "base.html": "<html lang='en'><body>{% block main %}{% endblock %}</body></html>",
        "body.html": "{% extends 'base.html' %}\n<p>lost</p>{% block main %}<p>Hello</p>{% endblock %}"
        "{% block end %}<p>Bye</p>{% endblock %}",
    }
    found = [group.first for group in campaign_factory(files).check().problems if group.first.code == "T204"]

    assert [problem.message for problem in found] == [
        'text outside of the blocks, "<p>lost</p>", is not sent',
        "block `end` is not sent",
    ]


@pytest.mark.parametrize(
    ("html", "code", "line"),
    [
        ("<p>a</p>\n<!-- news\n<p>lost</p>", "H215", 3),
        ("<p>a</p>\n<!-- one -- >\n<p>lost</p><!-- two -->", "H215", 3),
        ("<p>a</p>\n<style>p {color: red}\n<p>lost</p>", "H215", 3),
        ("<style>p {color: red}\n<p>lost</p><style>b {color: red}</style>", "H215", 2),
        ("<html lang='en'><head><title>News</head><body>\n<p>lost</p>", "H215", 1),
        ("<html lang='en'><head><title>News</head><body>\n<p>lost</p><svg><title>x</title></svg>", "H215", 1),
        ("<p>a</p><textarea>\n<p>lost</p>", "H215", 2),
        ('<p>a</p>\n<a href="https://x.org>lost</a>', "H215", 3),
        ('<p>a</p>\n<a href="https://x.org>lost</a><p class="x">b</p>', "H216", 3),
        ("<p>a</p><!-- a remark --><!----><!--[if mso]><p>b</p><![endif]-->", None, 0),
        ("<!--[if !mso]><!--><p>b</p><!--<![endif]--><style>a > b {color: red}</style>", None, 0),
        ("<p title='a > b' class=x>it's</p><script>if (a) '<p>'</script>", None, 0),
        ("<p>a &lt;!-- b</p>", None, 0),
    ],
)
def test_d45_what_hides_the_rest_is_told(plan: Checker, html: str, code: str | None, line: int) -> None:
    """Comments, elements and quotes that do not end where they should, with the place where they begin."""
    found = [group.first for group in plan(html).problems if group.first.code in {"H215", "H216"}]

    assert [problem.code for problem in found] == ([code] if code else [])
    assert [problem.place and problem.place.line for problem in found] == ([line] if code else [])


ADDRESS = 'a@x.org,"1 Mill Lane\nLeeds <&>",\nb@x.org,Bo,\n'


@pytest.mark.parametrize(
    ("html", "told"),
    [
        ("<p>{{ first }}</p>", True),
        ("<p>\n{{ row['first'] }} and <b>{{ first|lower }}</b></p>", True),
        ("<p title='{{ first }}'>a</p>", False),
        ("<pre>{{ first }}</pre>", False),
        ("<div style='white-space: pre-line'><p>{{ first }}</p></div>", False),
        ("<style>.lines {white-space:pre-wrap}</style><p class='lines x'>{{ first }}</p>", False),
        ("<style>.lines {white-space:pre-wrap}</style><p>{{ first }}</p>", True),
        ("<style>@media screen {p {white-space: pre-line}}</style><p>{{ first }}</p>", False),
        ("<p>{{ first|lines }}</p>", False),
        ("<p>{{ first|nl2br }}</p>", False),
        ("<p>{{ first|e|replace('\n', '<br>'|safe) }}</p>", False),
        ("<p>{% for line in first.splitlines() %}{{ line }}<br>{% endfor %}</p>", False),
        ("<p style='display:none'>{{ first }}</p>", False),
    ],
)
def test_d46_lines_of_a_cell_that_run_together_are_told(plan: Checker, html: str, told: bool) -> None:
    """Where nothing keeps the lines of a cell apart, the expression is named."""
    found = [group.first for group in plan(html, rows=ADDRESS).problems if group.first.code == "H217"]

    assert [str(problem.place and problem.place.path).endswith("/body.html") for problem in found] == (
        [True] if told else []
    )


@pytest.mark.parametrize(
    ("html", "what"),
    [
        ("<img srcset='file:///C:/Users/Ana/logo.png 2x' alt='a' width='9'>", "srcset"),
        ("<td background='file:///tmp/x.png'>a</td>", "background"),
        ("<style>@font-face { font-family: x; src: url(x.woff2) }</style><p>a</p>", "url()"),
        ("<div style='background: url(file:///tmp/x.png)'>a</div>", "url()"),
        ('<div style=\'background: image-set("x.png" 1x, "https://x.org/a.png" 2x)\'>a</div>', "url()"),
        ("<style>p { background: -webkit-image-set('x.png' 1x) }</style><p>a</p>", "url()"),
        ("<video src='film.mp4'></video>", "src"),
        ("<object data='x.png'></object>", "data"),
        ("<div style='background: url(https://x.org/a.png)'>a</div>", None),
        ("<div style='background: url(data:image/png;base64,AAAA)'>a</div>", None),
        (
            "<style>a { fill: url(#x) }</style><img srcset='https://x.org/a.png?a,b 1x' alt='a' width='9'>",
            None,
        ),
    ],
)
def test_d46_files_that_stay_behind_are_told(plan: Checker, html: str, what: str | None) -> None:
    """A last look at the finished HTML finds what cannot be sent along."""
    found = [group.first.message for group in plan(html).problems if group.first.code == "H218"]

    assert [message.split(" is not sent with the message")[0] for message in found] == (
        [f"a local file in {what}"] if what else []
    )


def test_filler_in_a_variable_is_told_where_it_is_set(plan: Checker) -> None:
    """What the templates take from campaign.toml is looked at there."""
    found = plan("<p>By {{ our_name }}</p>", top='vars = { our_name = "Your organisation" }').problems
    (told,) = [group.first for group in found if group.first.code == "M210"]

    assert told.place is not None
    assert str(told.place.path).endswith("campaign.toml")


@pytest.mark.parametrize("source", ["file:///C:/Users/Ana/logo.png", "C:\\Users\\logo.png", "{{ link }}"])
def test_d46_a_picture_on_a_disk_is_told_once(plan: Checker, source: str) -> None:
    """Nobody has it: the row is not sent, whoever named the picture."""
    page = f"<p>Some words to be read beside it.</p><img src='{source}' alt='a' width='9'>"
    found = plan(page, rows="a@x.org,Ann,C:/logo.png\n")

    assert [code for code in codes(found) if code in {"H302", "H218"}] == ["H302"]


@pytest.mark.parametrize(
    ("text", "link", "told"),
    [
        ("See https://x.org/{{ link }} now", "my file.pdf", True),
        ("See https://x.org/?q={{ link }}\n", "a b", True),
        ("{{ link }}", "https://x.org/my file.pdf", True),
        ("See https://x.org/{{ link|urlencode }}", "my file.pdf", False),
        ("See <https://x.org/{{ link }}> and <{{ link }}>", "my file.pdf", False),
        ("https://x.org/ {{ link }}", "my file.pdf", False),
        ("{{ link }}", "https://x.org is our site", False),
        ("See https://x.org/{{ first }}/{{ link }}", "my file.pdf", True),
        ("See https://x.org/{{ first }}{{ link }}", "my file.pdf", True),
        ("See https://x.org/{{ first }}, {{ link }}", "my file.pdf", False),
        ("See https://x.org/{{ first }}\n{{ link }}", "my file.pdf", False),
        ("See www.x.org/{{ link }}", "my file.pdf", True),
        ("(https://x.org/{{ link }})", "my file.pdf", True),
        ("[here](https://x.org/{{ link }})", "my file.pdf", True),
        ("'https://x.org/{{ link }}'", "my file.pdf", True),
        ("Write to mailto:me@x.org?subject={{ link }}", "my file", True),
        ("HTTPS://X.ORG/{{ link }}", "my\u00a0file.pdf", True),
        ("https://x.org/{{ link }}", "my\u3000file.pdf", True),
        ("https://x.org/{{ link }}", "file.pdf", False),
        ("{{ link }}", "www.x.org/my file.pdf", True),
        ("{{ link }}", "www is the web", False),
        ("me@www.x.org {{ link }}", "a b", False),
        ("<https://x.org/{{ first }}/{{ link }}>", "my file.pdf", False),
    ],
)
def test_d46_links_in_the_text_part_that_break_are_told(
    plan: Checker, text: str, link: str, told: bool
) -> None:
    """Mail programs end a link at the first blank."""
    found = codes(plan("<p>Hello {{ first }}</p>", text=text + "\n", rows=f"a@x.org,Ann,{link}\n"))

    assert found.count("H219") == told


@pytest.mark.parametrize(
    ("html", "told"),
    [
        ("<p style='color: {{ \"red\" }}'>{{ first }}</p>", True),
        ("<p style='color: {{ \"red\" }}; white-space: pre-line'>{{ first }}</p>", False),
    ],
)
def test_lines_that_run_together_are_told_where_styles_are_moved_for_each_row(
    plan: Checker, html: str, told: bool
) -> None:
    """The values are known there, too, though the HTML of a row is one piece in the end."""
    sheet, wanted = "<style>p { margin: 0 }</style>", 'from = "me@x.org"\ninline_css = true'
    found = [group.first.code for group in plan(sheet + html, rows=ADDRESS, message=wanted).problems]

    assert [code for code in found if code in {"H217", "H240"}] == ["H217", "H240"][not told :]
