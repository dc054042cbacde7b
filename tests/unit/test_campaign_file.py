"""The campaign file: what it may say, what overrides it, and how each mistake is told."""

import string
import tomllib
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mailmerge.config.campaign_file import Overrides, from_options, load
from mailmerge.config.toml_document import find_places, hide_secrets
from mailmerge.errors import CampaignFileError
from mailmerge.model import Diagnostic, Rate
from mailmerge.options import (
    CAMPAIGN,
    PLANNED,
    AttachOptions,
    CheckOptions,
    DataOptions,
    MessageOptions,
    SendOptions,
)

MINIMAL = """\
[data]
source = "people.csv"
[message]
subject = "Hi {{ name }}"
text = "body.txt"
"""

FULL = """\
name = "spring-invoices"
account = "work"
vars = { company = "Example Ltd", year = 2026, due = 2026-12-01, price = 12.10 }
[data]
source = "contacts.xlsx"
sheet = "People"
key = "customer_id"
where = "plan == 'gold'"
duplicates = "error"
defaults = { first = "there" }
hidden = "skip"
types = { amount = "decimal", password = "text" }
encoding = "gb18030"
suppress = ["unsubscribed.txt", "bounced.csv"]
[message]
from = "Accounts <me@example.org>"
to = "{{ first }} <{{ email }}>"
cc = ["{{ boss }}", "b@example.org"]
bcc = "archive@example.org"
reply_to = "help@example.org"
sender = "robot@example.org"
subject = "Invoice {{ number }}"
text = "body.txt"
html = "html/body.html"
headers = { "X-Campaign" = "spring" }
locale = "{{ lang or 'en_GB' }}"
[[attach]]
path = "{{ number }}.pdf"
name = "invoice.pdf"
missing = "skip"
base = "invoices"
[[attach]]
path = "terms.pdf"
[send]
rate = ["60/m", "2000/d"]
retry = "1m, 5m, 1h"
max_rejected = "2.5%"
sessions = 2
pipeline = "overlap"
[check]
ignore = ["D204"]
"""


Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write campaign.toml into an empty folder and give the folder."""

    def write_file(text: str) -> Path:
        (tmp_path / "campaign.toml").write_text(text, encoding="utf-8")
        return tmp_path

    return write_file


def problems_of(call: Callable[..., object], *args: object) -> tuple[Diagnostic, ...]:
    """Return the diagnostics of the error that the call must raise."""
    with pytest.raises(CampaignFileError) as caught:
        call(*args)
    return caught.value.diagnostics


def told(problem: Diagnostic) -> str:
    """Return a diagnostic as one line: code, line, column, message, hint."""
    at = f"{problem.place.line}:{problem.place.column}" if problem.place and problem.place.line else "-"
    return f"{problem.code} {at} {problem.message} = {problem.hint or '-'}"


def line_of(problem: Diagnostic) -> int | None:
    """Return the line a diagnostic points at."""
    return problem.place.line if problem.place else None


def test_reads_every_key(write: Write) -> None:
    """A file that says everything comes out as typed values with paths inside the folder."""
    folder = write(FULL)
    file = load(folder)
    assert (file.path, file.folder) == (folder / "campaign.toml", folder)
    assert (file.name, file.account) == ("spring-invoices", "work")
    assert file.vars == {
        "company": "Example Ltd",
        "year": 2026,
        "due": date(2026, 12, 1),
        "price": Decimal("12.10"),
    }
    assert file.data == DataOptions(
        source=folder / "contacts.xlsx",
        sheet="People",
        key="customer_id",
        where="plan == 'gold'",
        duplicates="error",
        defaults={"first": "there"},
        hidden="skip",
        types={"amount": "decimal", "password": "text"},
        encoding="gb18030",
        suppress=(folder / "unsubscribed.txt", folder / "bounced.csv"),
    )
    assert file.message == MessageOptions(
        from_="Accounts <me@example.org>",
        to=("{{ first }} <{{ email }}>",),
        cc=("{{ boss }}", "b@example.org"),
        bcc=("archive@example.org",),
        reply_to=("help@example.org",),
        sender="robot@example.org",
        subject="Invoice {{ number }}",
        text=folder / "body.txt",
        html=folder / "html/body.html",
        headers={"X-Campaign": "spring"},
        locale="{{ lang or 'en_GB' }}",
    )
    assert file.attach == (
        AttachOptions(path="{{ number }}.pdf", base=folder / "invoices", name="invoice.pdf", missing="skip"),
        AttachOptions(path="terms.pdf", base=folder),
    )
    assert file.send == SendOptions(
        rate=(Rate(60, 60), Rate(2000, 86400)),
        retry=(60, 300, 3600),
        max_rejected=0.025,
        sessions=2,
        pipeline="overlap",
    )
    assert file.check == CheckOptions(ignore=frozenset({"D204"}))


def test_defaults(write: Write) -> None:
    """Three keys make a campaign; everything else has its default."""
    folder = write(MINIMAL)
    file = load(folder / "campaign.toml")
    assert file.name == folder.name
    assert file.message.to == ("{{ email }}",)
    assert file.send == SendOptions()
    assert list(file.send.retry) == [60, 300, 900, 3600, 10800, 21600, 43200]
    assert (file.account, dict(file.vars), file.attach) == (None, {}, ())


def test_template_with_a_line_break_is_the_template_itself(write: Write) -> None:
    """A string of several lines is not a file name."""
    folder = write(MINIMAL.replace('"body.txt"', '"""Hi,\nbye"""'))
    assert load(folder).message.text == "Hi,\nbye"


def test_places_lead_to_the_values(write: Write) -> None:
    """Renderers can point at the line and column of each template."""
    folder = write(FULL)
    places = load(folder).places
    subject = places["message.subject"]
    assert (subject.line, subject.column, subject.width) == (22, 11, 22)
    assert subject.source == 'subject = "Invoice {{ number }}"'
    assert subject.path == str(folder / "campaign.toml")
    assert places["message.cc[1]"].column == 21
    assert places["attach[1].path"].line == 33
    assert places["message.headers.X-Campaign"].column == 28


GOLDEN = {
    'nmae = "x"': "C401 1:1 unknown key `nmae` = did you mean `name`?",
    "sned.rate = '60/m'": "C401 1:1 unknown key `sned.rate` = did you mean `send.rate`?",
    "[sned]\nrate = '60/m'": "C401 1:1 unknown section `[sned]` = did you mean `[send]`?",
    "[mesage]": "C401 1:1 unknown section `[mesage]` = did you mean `[message]`?",
    'body = "body.md"': "C401 1:1 unknown key `body` = did you mean `message.text`?",
    '[message]\nbody = "a.HTML"': "C401 2:1 unknown key `message.body` = did you mean `message.html`?",
    "[zzz]": "C401 1:1 unknown section `[zzz]` = the sections are [data] [message] [[attach]] [send] [check]",
    "[send]\nname = 'x'": (
        "C401 2:1 unknown key `send.name` = `name` belongs at the top of the file or in [[attach]]"
    ),
    "[data]\ndata.key = 'id'": (
        "C401 2:1 unknown key `data.data` = in [data] the keys are written without `data.`"
    ),
    "data = 5": "C404 1:1 `data` must be a section, not the number 5 = write [data]",
    "check = []": "C404 1:1 `check` must be a section, not an array = write [check]",
    "[check]\nrate = '60/m'": "C401 2:1 unknown key `check.rate` = `rate` belongs in [send]",
    "[send]\nsessions = '2'": 'C404 2:12 `send.sessions` must be a whole number, not the string "2" = -',
    "[send]\nsessions = 0": "C405 2:12 `send.sessions` must be from 1 to 50, not 0 = -",
    "[send]\nsessions = true": "C404 2:12 `send.sessions` must be a whole number, not true = -",
    "[data]\nkey = 7": 'C404 2:7 `data.key` must be a string, not the number 7 = write "7"',
    "[data]\nkey = ' '": "C405 2:7 `data.key` is empty = -",
    "[data]\nhidden = 'skp'": (
        'C405 2:10 `data.hidden` must be one of "refuse", "skip", "send", not "skp" = did you mean `skip`?'
    ),
    "[data]\nencoding = 'utf8000'": 'C405 2:12 `data.encoding` is not a known encoding: "utf8000" = -',
    "[data]\ndefaults = 'x'": (
        'C404 2:12 `data.defaults` must be a table, not the string "x" = write { name = "value" }'
    ),
    "[data]\nsuppress = []": "C405 2:12 `data.suppress` must not be an empty array = -",
    "[message]\nto = ['a', 5]": 'C404 2:12 `message.to[1]` must be a string, not the number 5 = write "5"',
    "[message]\nlayout = 'leter'": (
        'C405 2:10 `message.layout` is not a known layout: "leter" = did you mean `letter`?'
    ),
    "[message]\nlayout = 'ours'": (
        'C405 2:10 `message.layout` is not a known layout: "ours"'
        " = layouts: letter, newsletter, or a file such as ours.html"
    ),
    "[message]\nheaders.Subject = 'x'": (
        "C440 2:19 `message.headers.Subject` cannot be set here: it has its own key = "
        "write `message.subject` instead"
    ),
    "[message]\nheaders.x-mailmerge-id = 'x'": (
        "C440 2:26 `message.headers.x-mailmerge-id` is made for each message and cannot be set = -"
    ),
    "[message]\nheaders.Message-ID = 'x'": (
        "C440 2:22 `message.headers.Message-ID` is made for each message and cannot be set = -"
    ),
    '[message]\nheaders.X-A = "a\\nb"': (
        "C405 2:15 `message.headers.X-A` contains a line break or another control character = -"
    ),
    "[send]\nrate = ['60/m', 'fast']": (
        'C405 2:17 `send.rate[1]` is not a valid rate: "fast" = write a number, a slash and a unit,'
        ' such as "60/m", "2000/d" or "5000/180s" (s, m, h, d)'
    ),
    "[send]\nrate = '0/m'": (
        'C405 2:8 `send.rate` must allow at least one message, not "0/m" = the slowest is "1/d"'
    ),
    "[send]\nretry = '1m, soon'": (
        'C405 2:9 `send.retry` contains an invalid pause: "soon" = write the pauses before each new try,'
        ' such as "1m, 5m, 1h" (s, m, h, d), or "never"'
    ),
    "[send]\nmax_rejected = 5": (
        "C405 2:16 `send.max_rejected` must be a percentage above 0%, not the number 5"
        ' = write it with its sign, such as "5%"'
    ),
    "[check]\nignore = ['d204']": (
        'C405 2:11 `check.ignore[0]` is not the code of a problem: "d204" = codes look like "D204"'
    ),
    "[attach]\npath = 'x'": (
        "C404 1:1 `attach` must be written as [[attach]] with a `path` or `template` in it = -"
    ),
    "[[attach]]\nname = 'x'": "C406 1:1 `path` or `template` is missing in [[attach]] = -",
    '"a\\u001b[31mb" = 1': "C401 1:1 unknown key `a\\x1b[31mb` = -",
    "vars.a-b = 1": (
        "C405 1:12 `vars.a-b` is not a valid name for a variable in templates"
        " = use letters, digits and _, such as `year_2`"
    ),
    "vars.a = [1]": ("C404 1:10 `vars.a` must be a string, a number, a date or true/false, not an array = -"),
    "[message]\npassword = 'CANARY'": (
        "C409 2:1 `message.password`: a secret does not belong in this file = put it into SMTP_AUTH"
        " (environment or .env), or name a password_command in the account"
    ),
    "name = x": 'C403 1:8 not valid TOML: invalid value = strings are written in quotes: name = "value"',
    "[data]\ntypes = { größe = 'text' }": (
        "C403 2:13 not valid TOML: expected '=' after a key in a key/value pair"
        ' = names of other letters than a-z are written in quotes: "größe" = "text"'
    ),
    "[data": "C403 1:6 not valid TOML: expected ']' at the end of a table declaration = -",
    "subject": (
        "C403 1:8 not valid TOML: expected '=' after a key in a key/value pair"
        ' = write name = "value", or put a section into brackets: [message]'
    ),
}


@pytest.mark.parametrize("text", GOLDEN, ids=range(len(GOLDEN)))
def test_wording(write: Write, text: str) -> None:
    """Each mistake is reported with its place, the name of the key, and what to do."""
    problems = [told(problem) for problem in problems_of(load, write(text))]
    assert GOLDEN[text] in problems
    assert "CANARY" not in repr(problems)


def test_missing_parts_are_told_together(write: Write) -> None:
    """A file without list, subject and body has three problems, which are reported together."""
    problems = problems_of(load, write("name = 'x'"))
    assert [told(problem) for problem in problems] == [
        (
            "C406 - no list: `data.source` is missing"
            ' = write source = "people.csv" under [data], or give --list people.csv'
        ),
        (
            "C406 - no subject: `message.subject` is missing"
            ' = write subject = "..." under [message], or give --subject "..."'
        ),
        (
            "C406 - no body: `message.text` and `message.html` are missing"
            ' = write text = "body.txt" or html = "body.html" under [message], or give --text or --html'
        ),
    ]


def test_all_problems_at_once_in_the_order_of_the_file(write: Write) -> None:
    """One run of the tool shows everything that is wrong, from top to bottom."""
    text = MINIMAL + "cc = 5\n[send]\nrate = 1\nretyr = '1m'\nsessions = 99\n"
    with pytest.raises(CampaignFileError, match=r"`message.cc` must be a string.* \(and 3 more\)") as caught:
        load(write(text))
    assert [line_of(problem) for problem in caught.value.diagnostics] == [6, 8, 9, 10]
    assert (caught.value.line, caught.value.code, caught.value.exit_code) == (6, "C404", 2)


@pytest.mark.parametrize(
    ("columns", "hint"),
    [
        (["household"], 'write "household"'),
        (["household", "town"], "for several columns write household ~ ' ' ~ town"),
        (["家庭", "town"], "for several columns write 家庭 ~ ' ' ~ town"),
        (["post code", "town"], "write one Jinja expression, such as the name of a column"),
        ([1, "town"], "write one Jinja expression, such as the name of a column"),
        ([], "write one Jinja expression, such as the name of a column"),
    ],
)
def test_columns_to_group_by_are_one_expression(write: Write, columns: list[str], hint: str) -> None:
    """An array of columns is refused with the expression that means them."""
    (problem,) = problems_of(load, write(MINIMAL.replace("[data]", f"[data]\ngroup_by = {columns}")))
    assert problem.hint == hint


EVERY_FEATURE = """\
name = "spring-invoices"
account = "work"
vars = { company = "Example Ltd", year = 2026 }
[data]
source = "contacts.xlsx"
sheet = "People"
key = "customer_id"
where = "plan == 'gold' and opted_out != 'yes'"
group_by = "email"
duplicates = "first"
suppress = ["unsubscribed.txt", "bounced.csv"]
types = { amount = "decimal", due = "date:%d/%m/%Y" }
defaults = { first = "there" }
[message]
from = "Accounts <me@example.org>"
to = "{{ first }} {{ last }} <{{ email }}>"
subject = "Invoice {{ number }} for {{ company }}"
preheader = "Due {{ due|date('long') }}"
html = "body.html"
text = "body.txt"
locale = "{{ lang or 'en_GB' }}"
headers = { "X-Campaign" = "spring" }
inline_css = true
calendar = { summary = "Review with {{ first }}", start = "{{ slot }}", minutes = 30 }
unsubscribe = "https://example.org/u/{{ token }}"
[[attach]]
path = "invoices/{{ number }}.pdf"
[[attach]]
template = "receipt.html"
password = "{{ birthday }}"
[send]
rate = ["60/m", "2000/d"]
sessions = 1
at = 2026-12-01T09:00:00+01:00
max_rejected = "5%"
retry = "1m, 5m, 15m, 1h, 3h, 6h, 12h"
copy_to = "imap:Sent"
"""


def test_a_file_with_every_feature_is_read(write: Write) -> None:
    """Documents, invitations, groups, unsubscribing, times and copies can be said in one file."""
    file = load(write(EVERY_FEATURE))
    assert (file.data.group_by, file.send.at) == ("email", "2026-12-01T09:00:00+01:00")
    assert [str(rule.template or rule.path) for rule in file.attach][-1].endswith("receipt.html")
    assert set(PLANNED) == {"data.cells"}


@pytest.mark.parametrize("name", [name for name in PLANNED if not name.startswith("accounts.")])
def test_planned_keys_have_their_own_answer(write: Write, name: str) -> None:
    """A key of a later version is not called a misspelling."""
    section, key = name.split(".")
    header = f"[[{section}]]\npath = 'x'" if section == "attach" else f"[{section}]"
    first = problems_of(load, write(f"{header}\n{key} = 'x'\n"))
    assert f"C402 `{name}` ({PLANNED[name]}) is not supported yet" in [
        f"{problem.code} {problem.message}" for problem in first
    ]


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ("password = 'CANARY'", "password"),
        ("vars = { Password = 'CANARY' }", "vars.Password"),
        ("[send.smtp]\npasswd = 'CANARY'", "send.smtp.passwd"),
        ("[[attach]]\npath = 'x'\nsmtp_password = 'CANARY'", "attach[0].smtp_password"),
        ("[data.defaults]\npassword = 'CANARY'", "data.defaults.password"),
    ],
)
def test_password_is_refused_anywhere(write: Write, table: str, named: str) -> None:
    """A secret in a campaign file is an error wherever it is, and is not repeated."""
    problems = problems_of(load, write(table))
    assert [p.message for p in problems if p.code == "C409"] == [
        f"`{named}`: a secret does not belong in this file"
    ]
    assert "CANARY" not in repr(problems)


def test_secret_on_a_broken_line_is_not_shown(write: Write) -> None:
    """The source line of a syntax error hides what follows a password key."""
    problems = problems_of(load, write('password = "CANARY\n'))
    assert problems[0].place
    assert problems[0].place.source == "password = ****"
    assert hide_secrets('password_command = ["pass"]') == 'password_command = ["pass"]'


# --- files that are not there or not text ---------------------------------------------------------------


def test_missing_folder_and_file(tmp_path: Path) -> None:
    """What is missing is named, with the file that may have been meant."""
    assert told(problems_of(load, tmp_path / "spirng")[0]) == (
        f"C407 - no campaign folder {tmp_path / 'spirng'} = start one: mailmerge init {tmp_path / 'spirng'}"
    )
    (tmp_path / "spring.toml").write_text(MINIMAL)
    assert told(problems_of(load, tmp_path)[0]) == (
        f"C407 - no campaign.toml in {tmp_path} = did you mean {tmp_path / 'spring.toml'}?"
    )
    assert load(tmp_path / "spring.toml").name == "spring"
    assert told(problems_of(load, tmp_path / "x.toml")[0]) == f"C407 - no file {tmp_path / 'x.toml'} = -"


def test_encoding_of_the_file(write: Write, tmp_path: Path) -> None:
    """A byte order mark is fine, anything but UTF-8 is told with its line."""
    (tmp_path / "campaign.toml").write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load(tmp_path).message.subject == "Hi {{ name }}"
    (tmp_path / "campaign.toml").write_bytes("a = 1\nname = 'Müller'".encode("latin-1"))
    (problem,) = problems_of(load, tmp_path)
    assert (problem.code, line_of(problem)) == ("C403", 2)


# --- overrides ---------------------------------------------------------------------------------------------


def test_order_of_overrides(write: Write) -> None:
    """Option beats --set beats environment beats file."""
    folder = write(MINIMAL + "[send]\nrate = '1/m'\nsessions = 1\npipeline = 'off'\n")
    environ = {
        "MAILMERGE_SEND_RATE": "2/m",
        "MAILMERGE_SEND_SESSIONS": "2",
        "MAILMERGE_SEND_PIPELINE": "auto",
    }
    file = load(folder, Overrides({"send.rate": "4/m"}, ["send.rate=3/m", "send.sessions=3"], environ))
    assert (file.send.rate, file.send.sessions, file.send.pipeline) == ((Rate(4, 60),), 3, "auto")
    again = load(folder, Overrides(settings=["send.pipeline=window"]))
    assert (again.send.rate, again.send.pipeline) == ((Rate(1, 60),), "window")


def test_set_reads_toml_or_text(write: Write) -> None:
    """--set takes TOML where it fits the key, else the bare text; tables are set entry by entry."""
    texts = [
        "message.subject=2026",
        'message.to=["a@x.org", "b@x.org"]',
        "vars.year=2027",
        "vars.note=it's = fine",
        "message.headers.X-Run=7 b",
        "data.defaults.first=you",
        "send.rate=5/s",
        "message.text=other.txt",
    ]
    folder = write(MINIMAL + "[vars]\ncompany = 'E'\n")
    file = load(folder, Overrides(settings=texts))
    assert file.message.subject == "2026"
    assert file.message.to == ("a@x.org", "b@x.org")
    assert file.vars == {"company": "E", "year": 2027, "note": "it's = fine"}
    assert file.message.headers == {"X-Run": "7 b"}
    assert file.data.defaults == {"first": "you"}
    assert file.message.text == folder / "other.txt"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("Bcc", "C440"),
        ("Reply-To", "C440"),
        ("content-type", "C440"),
        ("Delivered-To", "C440"),
        ("Resent-To", "C440"),
        ("DKIM-Signature", "C440"),
        ("X:Y", "C441"),
        ("X Y", "C441"),
        ("X-" + "a" * 69, "C441"),
        ("X-" + "a" * 68, None),
    ],
)
def test_headers_that_cannot_be_set(write: Write, name: str, code: str | None) -> None:
    """A header that is made from the message, or whose name is not one, is refused wherever it is said."""
    in_file = write(f"{MINIMAL}headers = {{ {name!r} = 'x' }}\n")
    found = {problem.code for problem in problems_of(load, in_file)} if code else set()
    assert found == ({code} if code else set())
    if code is None:
        assert load(in_file).message.headers == {name: "x"}
    elif ":" not in name:
        folder = write(MINIMAL)
        (problem,) = problems_of(load, folder, Overrides(settings=[f"message.headers.{name}=x"]))
        assert problem.code == code


def test_a_header_cannot_be_set_twice(write: Write) -> None:
    """Two spellings of a header's name are the same header, wherever they come from."""
    folder = write(MINIMAL + "headers = { X-A = '1', x-a = '2' }\n")
    assert [told(problem) for problem in problems_of(load, folder)] == [
        "C441 6:30 `message.headers.x-a` is the same header as X-A = -"
    ]
    folder = write(MINIMAL + "headers = { X-A = '1' }\n")
    overrides = Overrides(settings=["message.headers.x-a=2"])
    assert [told(problem) for problem in problems_of(load, folder, overrides)] == [
        "C441 - `--set message.headers.x-a` is the same header as X-A = -"
    ]
    assert load(folder, Overrides(settings=["message.headers.X-A=2"])).message.headers == {"X-A": "2"}


def test_paths_of_options_belong_to_the_working_directory(write: Write) -> None:
    """What the shell completed is not looked up in the campaign's folder."""
    file = load(write(MINIMAL), Overrides({"data.source": "lists/new.csv", "message.html": "x.html"}))
    assert (file.data.source, file.message.html) == (Path("lists/new.csv"), Path("x.html"))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            Overrides({"send.rate": "fast"}),
            (
                'C405 - `--rate` is not a valid rate: "fast" = write a number, a slash and a unit,'
                ' such as "60/m", "2000/d" or "5000/180s" (s, m, h, d)'
            ),
        ),
        (
            Overrides(settings=["send.sessions=two"]),
            'C404 - `--set send.sessions` must be a whole number, not the string "two" = -',
        ),
        (
            Overrides(settings=["send.sesions=2"]),
            "C401 - unknown key `send.sesions` in --set = did you mean `send.sessions`?",
        ),
        (
            Overrides({"attach": ["a.pdf", 5]}),
            'C404 - `--attach[1]` must be a string, not the number 5 = write "5"',
        ),
        (
            Overrides(settings=["vars.a-b=1"]),
            (
                "C405 - `--set vars.a-b` is not a valid name for a variable in templates"
                " = use letters, digits and _, such as `year_2`"
            ),
        ),
        (
            Overrides(settings=["attach.path=x"]),
            (
                "C408 - `--set attach.path` cannot be set from outside"
                " = change [[attach]] in the file, or give --attach FILE"
            ),
        ),
        (
            Overrides(settings=["send.rate"]),
            "C408 - --set send.rate has no value = write --set section.key=value",
        ),
        (
            Overrides(settings=["message.password=CANARY"]),
            (
                "C409 - `--set message.password`: a secret cannot be given like this = put it into SMTP_AUTH"
                " (environment or .env), or name a password_command in the account"
            ),
        ),
        (
            Overrides(environ={"MAILMERGE_SEND_SESSIONS": "0"}),
            "C405 - `MAILMERGE_SEND_SESSIONS` must be from 1 to 50, not 0 = -",
        ),
        (
            Overrides(environ={"MAILMERGE_SEND_RAET": "1/m"}),
            "C401 - unknown environment variable MAILMERGE_SEND_RAET = did you mean `MAILMERGE_SEND_RATE`?",
        ),
    ],
)
def test_wording_of_overrides(write: Write, overrides: Overrides, expected: str) -> None:
    """A problem of an override names the option or variable that it came from."""
    problems = [told(problem) for problem in problems_of(load, write(MINIMAL), overrides)]
    assert problems == [expected]
    assert "CANARY" not in repr(problems)


def test_other_variables_are_left_alone(write: Write) -> None:
    """Variables of ours that are not a section's key, and empty ones, mean nothing here."""
    environ = {"MAILMERGE_SMTP_USER": "me", "MAILMERGE_CONFIG": "x", "MAILMERGE_SEND_RATE": "", "PATH": "/"}
    assert load(write(MINIMAL), Overrides(environ=environ)).send.rate == ()


def test_a_merge_without_a_file(tmp_path: Path) -> None:
    """Options alone make a campaign that is named after its list."""
    options = {
        "data.source": "lists/people.csv",
        "message.subject": "Hi {{ name }}",
        "message.text": "body.txt",
        "message.from": "me@example.org",
        "account": "gmail",
        "data.sheet": None,
        "attach": ["a.pdf", "docs/b.pdf", "x/{{ id }}/c.pdf"],
    }
    file = from_options(tmp_path, options)
    assert (file.path, file.folder, file.name, file.account) == (None, tmp_path, "people", "gmail")
    assert file.message.to == ("{{ email }}",)
    assert file.attach == (
        AttachOptions(path="a.pdf", base=Path()),
        AttachOptions(path="b.pdf", base=Path("docs")),
        AttachOptions(path="x/{{ id }}/c.pdf", base=Path()),
    )
    assert from_options(tmp_path, {**options, "name": "june"}).name == "june"


def test_a_merge_without_a_file_tells_what_is_missing(tmp_path: Path) -> None:
    """The hints name the options."""
    problems = problems_of(from_options, tmp_path, {"message.text": "b.txt"})
    assert [problem.hint for problem in problems] == [
        'write source = "people.csv" under [data], or give --list people.csv',
        'write subject = "..." under [message], or give --subject "..."',
    ]


# --- properties --------------------------------------------------------------------------------------------

ALL_KEYS = [(section, key) for section, keys in CAMPAIGN.items() for key in keys]


@st.composite
def one_slip(draw: st.DrawFn) -> tuple[str, str, str]:
    """Draw a key of the schema and the same key with one letter left out, added or changed."""
    section, key = draw(st.sampled_from(ALL_KEYS))
    at = draw(st.integers(0, len(key) - 1))
    letter = draw(st.sampled_from(string.ascii_lowercase))
    before, after = key[:at], key[at + 1 :]
    wrong = draw(st.sampled_from([before + after, before + letter + key[at:], before + letter + after]))
    assume(wrong)
    full = f"{section}.{wrong}" if section else wrong
    assume(wrong not in CAMPAIGN[section] and full not in PLANNED and (section or wrong not in CAMPAIGN))
    return section, key, wrong


@settings(max_examples=100, deadline=None)
@given(slip=one_slip(), blank=st.integers(0, 5))
def test_misspelt_key_is_guessed(
    tmp_path_factory: pytest.TempPathFactory, slip: tuple[str, str, str], blank: int
) -> None:
    """Any key with one wrong letter is reported in its line, and the right key is in the hint."""
    section, key, wrong = slip
    header = {"": "#", "attach": "[[attach]]\npath = 'x'"}.get(section, f"[{section}]")
    text = f"{header}\n{'# note' * blank}\n{wrong} = 'x'\n"
    path = tmp_path_factory.mktemp("slip") / "campaign.toml"
    path.write_text(text)
    line = text.count("\n", 0, text.index(f"\n{wrong} =")) + 2
    found = [problem for problem in problems_of(load, path) if problem.code == "C401"]
    assert [line_of(problem) for problem in found] == [line]
    right = f"`{section}.{key}`" if section else f"`{key}`"
    assert right in (found[0].hint or "")


_texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
_scalars = st.one_of(
    st.integers(0, 99).map(str),
    st.booleans().map(lambda flag: str(flag).lower()),
    st.just("1979-05-27 07:32:00"),
    _texts.map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'),
    st.sampled_from(["'# no comment'", '"""a\n"b" ]"""', "'''x'y'''", '"""q"""""', '"\\"]"']),
)
_names = st.sampled_from(["a", "b-c", '"d e"', "'f.g'", "1x"])
_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[\n # ]\n" + ",\n".join(items) + "]")
        | st.dictionaries(_names, inner, max_size=3).map(
            lambda table: "{ " + ", ".join(f"{key} = {value}" for key, value in table.items()) + " }"
        )
    ),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(
    pairs=st.dictionaries(_names, _values, max_size=4),
    header=st.sampled_from(["", "[t]\n", "[[t]]\n[[t]]\n"]),
)
def test_places_agree_with_tomllib(pairs: dict[str, str], header: str) -> None:
    """Read again, each place of a value contains exactly that value; no value lacks a place."""
    text = header + "".join(f"{key} = {value} # end\n" for key, value in pairs.items())
    places = find_places(text, "x.toml")
    lines = text.split("\n")
    table = {"": "", "[t]\n": "t.", "[[t]]\n[[t]]\n": "t[1]."}[header]
    for key, value in pairs.items():
        plain = next(iter(tomllib.loads(f"{key} = 1")))
        place = places.values[f"{table}{plain}"]
        first = value.partition("\n")[0]
        assert place.line
        assert place.column
        assert lines[place.line - 1][place.column - 1 :].startswith(first)
        assert place.width == max(1, len(first))
