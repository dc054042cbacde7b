"""Folders of awdeorio's mailmerge: run as they are, and converted, they give the same readable messages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from mailmerge import Campaign
from mailmerge.campaign.conversion import convert_template, dotenv
from mailmerge.campaign.elsewhere import foreign_template
from mailmerge.cli.elsewhere import translated
from mailmerge.config.account_secrets import find_secret
from mailmerge.config.environment import Environment
from mailmerge.convert.awdeorio import read_server, renamed, take_over
from mailmerge.convert.header_block import read_header_block
from mailmerge.errors import AuthError, CampaignFileError, MailmergeError, TemplateError
from servers.mail import Received

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mailmerge.model import Message

PEOPLE = "email,name,number\nana@example.com,Ana,17\nbo@example.net,Bo,42\n"
TOP = "TO: {{email}}\nSUBJECT: For {{name}}\nFROM: Me <me@example.org>\n"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000002000001"
    "e221bc330000000049454e44ae426082"
)


def _folder(path: Path, template: str, files: Mapping[str, str | bytes] | None = None) -> Path:
    path.mkdir(exist_ok=True)
    contents: dict[str, str | bytes] = {
        "mailmerge_template.txt": template,
        "mailmerge_database.csv": PEOPLE,
        **(files or {}),
    }
    for name, content in contents.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _messages(folder: Path, home: Path) -> list[Message]:
    names = ("MAILMERGE_STATE_DIR", "MAILMERGE_CACHE_DIR", "MAILMERGE_CONFIG")
    return list(Campaign.load(folder, environ={name: str(home / name) for name in names}).messages())


def _read(message: Message) -> dict[str, Any]:
    parsed = Received("", (), b"".join(message.segments)).parse()
    found: dict[str, Any] = {
        name: str(parsed[name])
        for name in parsed
        if name.lower() not in {"date", "message-id", "x-mailmerge-id", "content-type"}
    }
    found["rcpt"] = [str(address) for address in message.envelope.rcpt_to]
    for part in parsed.walk():
        if part.is_multipart():
            continue
        name = part.get_filename() or part.get_content_type()
        text = part.get_content().replace("\r\n", "\n") if part.get_content_maintype() == "text" else "..."
        found[name] = re.sub(r"cid:\w+", "cid:", text)  # a new one for each version of a campaign
    return found


MESSAGES: dict[str, tuple[str, dict[str, str | bytes], dict[str, Any]]] = {
    "simple": (
        f"{TOP}\nHi, {{{{name}}}},\n\nYour number is {{{{number}}}}.\n",
        {},
        {
            "To": "ana@example.com",
            "Subject": "For Ana",
            "From": "Me <me@example.org>",
            "rcpt": ["ana@example.com"],
            "text/plain": "Hi, Ana,\n\nYour number is 17.\n",
        },
    ),
    "nothing merged": (
        "TO: a@example.com\nSUBJECT: All\nFROM: me@example.org\n\nHello all\n",
        {},
        {"To": "a@example.com", "Subject": "All", "text/plain": "Hello all\n"},
    ),
    "copies": (
        f"{TOP}CC: A Friend <friend@example.org>, {{{{ email }}}}\nBCC: S <s@example.org>\n\nHi\n",
        {},
        {
            "Cc": "A Friend <friend@example.org>, ana@example.com",
            "rcpt": ["ana@example.com", "friend@example.org", "s@example.org"],
        },
    ),
    "a comma": (
        'TO: "{{number}}, {{name}}" <{{email}}>\nSUBJECT: A\nFROM: me@example.org\n\nHi\n',
        {},
        {"To": '"17, Ana" <ana@example.com>', "rcpt": ["ana@example.com"]},
    ),
    "HTML": (
        f"{TOP}Content-Type: text/html\n\n<html><body><p>{{{{name}}}}</p></body></html>\n",
        {},
        {"text/html": "<html><body><p>Ana</p></body></html>\n", "text/plain": "Ana\n"},
    ),
    "both parts by hand": (
        (
            f'{TOP}MIME-Version: 1.0\nContent-Type: multipart/alternative; boundary="cut"\n\nOld\n\n--cut'
            "\nContent-Type: text/plain; charset=us-ascii\n\nWords for {{name}}\n\n--cut\n"
            "Content-Type: text/html\n\n<p>Page for {{name}}</p>\n--cut--\n"
        ),
        {},
        {"text/plain": "Words for Ana\n", "text/html": "<p>Page for Ana</p>\n"},
    ),
    "an encoded body": (
        (
            f"{TOP}Content-Type: multipart/alternative; boundary=cut\n\n--cut\n"
            "Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: Quoted-Printable\n\n"
            "Caf=E9 for {{name}}{% if name == 'Ana' %}=\n!{% endif %}\n--cut\n"
            "Content-Type: text/html\nContent-Transfer-Encoding: base64\n\n"
            "PHA+Q2Fm\nw6k8L3A+\n--cut--\n"
        ),
        {},
        {"text/plain": "Café for Ana!\n", "text/html": "<p>Café</p>\n"},
    ),
    "attachments": (
        (
            f"{TOP}ATTACHMENT: terms.txt\n"
            f"ATTACHMENT: ../far/list[1].txt\nattachment: n/{{{{number}}}}.txt\n\nHi\n"
        ),
        {"terms.txt": "T\n", "../far/list[1].txt": "F\n", "n/17.txt": "17\n", "n/42.txt": "42\n"},
        {"terms.txt": "T\n", "list[1].txt": "F\n", "17.txt": "17\n"},
    ),
    "an attachment for some": (
        f"{TOP}{{% if number == '17' %}}ATTACHMENT: one.txt{{% endif -%}}\n\nHi\n",
        {"one.txt": "1\n"},
        {"one.txt": "1\n", "text/plain": "Hi\n"},
    ),
    "a picture in HTML": (
        f'{TOP}Content-Type: text/html\nATTACHMENT: p/dot.png\n\n<p><img alt="dot" src="p/dot.png"></p>\n',
        {"p/dot.png": PNG},
        {"dot.png": "..."},
    ),
    "a picture in Markdown": (
        f"{TOP}ATTACHMENT: dot.png\nCONTENT-TYPE: text/markdown\n\n![dot](dot.png)\n",
        {"dot.png": PNG},
        {"dot.png": "..."},
    ),
    "other headers": (
        f"{TOP}REPLY-TO: O <o@example.org>\nX-Number: {{{{number}}}}\nDate: x\n\nHi\n",
        {},
        {"Reply-To": "O <o@example.org>", "X-Number": "17"},
    ),
    "a folded header": (
        "TO: {{email}}\nSUBJECT: One\n two\nFROM: me@example.org\n\nHi\n",
        {},
        {"Subject": "One two"},
    ),
    "not ASCII": (
        (
            "TO: Laȝamon <{{email}}>\nFROM: Jürgen <me@example.org>\nSUBJECT: 😀 {{name}}\n"
            'Content-Type: text/plain; charset="us-ascii"\n\nLaȝamon 😀 klâwen\n'
        ),
        {},
        {
            "To": "Laȝamon <ana@example.com>",
            "From": "Jürgen <me@example.org>",
            "Subject": "😀 Ana",
            "text/plain": "Laȝamon 😀 klâwen\n",
        },
    ),
    "a header for some": (
        f"{TOP}{{% if number == '17' %}}CC: c@example.org{{% endif %}}\n\nHi\n",
        {},
        {"Cc": "c@example.org"},
    ),
    "a header for others": (
        f"{TOP}{{% if number == '42' -%}}\nCC: x@example.org\n{{% endif -%}}\n\nHi\n",
        {},
        {"rcpt": ["ana@example.com"]},
    ),
    "copies for some": (
        (
            "TO: {{email}}{% if number == '17' %}, \"D, C\" <c@example.org>{% else %}, x@example.org"
            "{% endif %}\n"
            "CC: {% if name %}{{name}} <d@example.org>, e@example.org{% endif %}\n"
            "BCC: {% if name %}Dr {% endif %}F <f@example.org>\nSUBJECT: A\nFROM: me@example.org\n\nHi\n"
        ),
        {},
        {
            "To": 'ana@example.com, "D, C" <c@example.org>',
            "Cc": "Ana <d@example.org>, e@example.org",
            "rcpt": [f"{name}@example.{'com' if name == 'ana' else 'org'}" for name in ("ana", *"cdef")],
        },
    ),
    "tags that remove the line end before them": (
        f"{TOP}REPLY-TO: r@example.org\n{{%- if name %}}\nX-Who: {{{{name}}}}\n{{%- endif %}}\n\nHi\n",
        {},
        {"X-Who": "Ana", "text/plain": "Hi\n"},
    ),
    "encoded words": (
        (
            "TO: {{email}}\nSUBJECT: =?utf-8?q?Gr=C3=BC?= =?utf-8?q?=C3=9Fe?= {{name}} =?x?q?a?=\n"
            "FROM: =?iso-8859-1?Q?J=FCrgen?= <me@example.org>\n\nHi\n"
        ),
        {},
        {"Subject": "Grüße Ana =?x?q?a?=", "From": "Jürgen <me@example.org>"},
    ),
    "one of two subjects": (
        (
            "{% if number == '17' -%}\nSUBJECT: A\n{%- else -%}\nSUBJECT: B\n{%- endif -%}\n"
            "TO: {{email}}\nFROM: me@example.org\n\nHi\n"
        ),
        {},
        {"Subject": "A"},
    ),
    "a definition": (
        f"{{% set who = name ~ '!' -%}}\n{TOP}X-Who: {{{{who}}}}\n\nHi {{{{who}}}}\n",
        {},
        {"X-Who": "Ana!", "text/plain": "Hi Ana!\n"},
    ),
    "an include": (
        f"{TOP}\nHi\n{{% include 'foot.txt' %}}\n",
        {"foot.txt": "{{name}}'s foot"},
        {"text/plain": "Hi\nAna's foot\n"},
    ),
    "a condition in the body": (
        f'{TOP}\nA\n{{% if number in ["17", "18"] -%}}\nB\n{{% elif number -%}}\nC\n{{% endif -%}}\n',
        {},
        {"text/plain": "A\nB\n"},
    ),
    "a database of Excel": (
        f"{TOP}\nHi {{{{name}}}}\n",
        {"mailmerge_database.csv": '\ufeffemail;name\r\nana@example.com;"Ana; said ""hi"""\r\n'},
        {"text/plain": 'Hi Ana; said "hi"\n'},
    ),
    "columns in capitals": (
        (
            "TO: {{Email}}\nSUBJECT: {{FirstName}}\nFROM: m@example.org\n\n{{ FirstName|upper }} {{ Straße }}"
            "{% set Grade = 'x' %}{{ Grade }}{% include 'f.txt' %}\n"
        ),
        {
            "f.txt": " {{FirstName}}!",
            "mailmerge_database.csv": "Email,FirstName,Straße,Grade\nana@example.com,Ana,S 1,B\n",
        },
        {"Subject": "Ana", "text/plain": "ANA S 1x Ana!\n"},
    ),
    "Windows line ends": (f"{TOP}\nHi {{{{name}}}}\n".replace("\n", "\r\n"), {}, {"text/plain": "Hi Ana\n"}),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_folder_gives_its_message(tmp_path: Path, name: str) -> None:
    """What a template says is what the first row gets; the folder that is made of it gives the same."""
    template, files, wanted = MESSAGES[name]
    folder = _folder(tmp_path / "old", template, files)
    first = _read(_messages(folder, tmp_path)[0])
    assert {key: first.get(key) for key in wanted} == wanted

    for out in (tmp_path / "new", folder):
        made = convert_template(folder / "mailmerge_template.txt", out)
        assert made.files[0] == "campaign.toml"
        assert _read(_messages(out, tmp_path)[0]) == first
        (out / "campaign.toml").unlink()
        for file in made.files[1:]:
            (out / file).unlink()


def test_line_ends_of_markdown_are_kept(tmp_path: Path) -> None:
    """A line end within a paragraph is one in the HTML; lists, headings and code are what they were."""
    body = "Hi **{{name}}**,\nsecond line\n\n- one\n- two\n\n# Head\n\n```\na\nb\n```\n"
    folder = _folder(tmp_path / "old", f"{TOP}CONTENT-TYPE: text/markdown\n\n{body}")
    first = _read(_messages(folder, tmp_path)[0])
    page = first["text/html"]
    assert "Hi <strong>Ana</strong>,<br>\nsecond line" in page.replace("<br />", "<br>")
    assert page.count("<li") == 2
    assert "Head</h1>" in page
    assert "a\nb\n" in page
    assert first["text/plain"].replace("  \n", "\n") == body.replace("{{name}}", "Ana")


ERRORS: dict[str, tuple[str, dict[str, str | bytes], str]] = {
    "unknown name": ("TO: {{nobody}}\nFROM: me@example.org\n\nHi\n", {}, "T102"),
    "empty ATTACHMENT": (f"{TOP}ATTACHMENT:\n\nHi\n", {}, "C541"),
    "loop": (f"{TOP}{{% for f in [1] -%}}\nX-A: b\n{{% endfor -%}}\n\nHi\n", {}, "C541"),
    "addresses in a loop": (
        f"{TOP}CC: {{% for one in number.split(';') %}}{{{{one}}}},{{% endfor %}}\n\nHi\n",
        {},
        "C541",
    ),
    "no base64": (f"{TOP}Content-Transfer-Encoding: base64\n\nHi, {{{{name}}}}\n", {}, "C541"),
    "an open if": (f"{TOP}{{% if name -%}}\nX-A: b\n\nHi\n{{% endif %}}\n", {}, "C541"),
    "a type by row": (f"{TOP}Content-Type: {{{{name}}}}\n\nHi\n", {}, "C541"),
    "a picture as body": (f"{TOP}Content-Type: image/png\n\nHi\n", {}, "C541"),
    "no text in it": (
        f"{TOP}Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: a/b\n\nHi\n--x--\n",
        {},
        "C541",
    ),
    "no part in it": (f"{TOP}Content-Type: multipart/mixed; boundary=x\n\nHi\n", {}, "C541"),
    "parts in parts": (
        TOP
        + "".join(f"Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n" for n in range(30))
        + "\nHi\n",
        {},
        "C541",
    ),
    "a long header": (f"TO: a@example.com\n{' b' * 9}\n" + " c\n" * 20_000 + "\nHi\n", {}, "C541"),
    "conditions in conditions": ("{% if a -%}" * 40 + "\nTO: a@example.com\n\nHi\n", {}, "C541"),
    "unclosed quote": (f"{TOP}\nHi\n", {"mailmerge_database.csv": 'email,name\n"ana@example.com,Ana\n'}, "D"),
    "not UTF-8": (f"{TOP}\nHi\n", {"mailmerge_template.txt": b"TO: a@example.com\n\n\xe9"}, "C403"),
    "no host": (f"{TOP}\nHi\n", {"mailmerge_server.conf": "[smtp_server]\nport = 25\n"}, "C540"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_cannot_be_run_is_told(tmp_path: Path, name: str) -> None:
    """It is an error with a code, also where a row would be the first to meet it."""
    template, files, code = ERRORS[name]
    folder = _folder(tmp_path / "old", template, files)
    with pytest.raises(MailmergeError) as told:
        _messages(folder, tmp_path)
    assert told.value.diagnostics[0].code.startswith(code)


def test_an_error_says_the_line_of_the_template(tmp_path: Path) -> None:
    """A name that is not known in the body is told with its own line and the words there."""
    folder = _folder(tmp_path / "old", f"{TOP}\nHi,\n\nyour {{{{nmber}}}}\n")
    with pytest.raises(TemplateError) as told:
        _messages(folder, tmp_path)
    place = told.value.diagnostics[0].place
    assert place is not None
    assert (place.line, place.column, place.source) == (7, 8, "your {{nmber}}")


def test_a_cell_adds_neither_header_nor_recipient(tmp_path: Path) -> None:
    """A line break and a comma in cells are data: no Bcc, no second address (both were sent before)."""
    people = 'email,name\nana@example.com,"Eve\nBcc: v@example.org"\nbo@example.com,"Müller, Jörg"\n'
    template = "TO: {{name}} <{{email}}>\nSUBJECT: {{name}}\nFROM: me@example.org\n\nHi\n"
    folder = _folder(tmp_path / "old", template, {"mailmerge_database.csv": people})
    first, second = (_read(message) for message in _messages(folder, tmp_path))
    assert "Bcc" not in first
    assert first["rcpt"] == ["ana@example.com"]
    assert first["Subject"] == "Eve Bcc: v@example.org"
    assert second["To"] == '"Müller, Jörg" <bo@example.com>'


@pytest.mark.parametrize(
    ("written", "made"),
    [
        ("{{Name}} Name", "{{name}} Name"),
        ("{{ x.Name }} {{ x|Name }} {{ x | Name }}", "{{ x.Name }} {{ x|Name }} {{ x | Name }}"),
        ("{% if Name == 'Name' %}", "{% if name == 'Name' %}"),
        ("{# Name #}{% raw %}{{ Name }}{% endraw %}", "{# Name #}{% raw %}{{ Name }}{% endraw %}"),
        ("{{ f(Name=Name) }}", "{{ f(Name=name) }}"),
        ("{% for Name in a %}{{ Name }}{% endfor %}", "{% for Name in a %}{{ Name }}{% endfor %}"),
        ("{{ Names }} {{ aName }}", "{{ Names }} {{ aName }}"),
    ],
)
def test_columns_are_called_as_they_are_here(written: str, made: str) -> None:
    """Only what is looked up as a column is renamed."""
    assert renamed(written, {"Name": "name"}) == made


@pytest.mark.parametrize("text", ["{{", "{%", "{#", '{{"', "![[", "<img ", "```\n", "a,"])
def test_what_does_not_end_takes_no_time(text: str) -> None:
    """A template of nothing but beginnings is read in the time that it takes to look at it once."""
    block = read_header_block(f"TO: {text * 50_000}\n\nHi\n{text * 50_000}", "t") if len(text) < 3 else None
    assert block is None or block.every("to")
    assert renamed(text * 50_000, {"A": "a"}) == text * 50_000


def test_a_tag_that_leaves_an_empty_line_ends_the_headers() -> None:
    """As it did: a statement alone in its line is an empty line, unless it removes its line end."""
    block = read_header_block("TO: a@example.com\n{% if x %}\nCC: b@example.com\n{% endif %}\n", "t")
    assert [header.name for header in block.headers] == ["to"]
    assert block.body.startswith("{% if x %}\nCC: b")


# --- the server --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "values"),
    [
        ("security = SSL/TLS\nusername = me", {"tls": "tls", "auth": "password", "user": "me"}),
        ("security = STARTTLS\nusername = me", {"tls": "starttls", "auth": "password", "user": "me"}),
        ("security = PLAIN\nusername = me", {"tls": "none", "auth": "password", "user": "me"}),
        ("security = XOAUTH\nusername = me", {"tls": "starttls", "auth": "token", "user": "me"}),
        ("security = Never", {"tls": "none", "auth": "none"}),
        ("username = ignored", {"tls": "none", "auth": "none"}),
    ],
)
def test_security_of_a_server(tmp_path: Path, lines: str, values: dict[str, str]) -> None:
    """Each kind of security is a way of TLS and a way to sign in; without any, nobody signs in."""
    path = tmp_path / "server.conf"
    path.write_text(
        f"# comment\n[smtp_server]\nhost = mail.example.org\nport = 2525\nratelimit = 30\n{lines}\n"
    )
    server, rate = read_server(path)
    assert server.values == {"host": "mail.example.org", "port": 2525, **values}
    assert rate == 30


@pytest.mark.parametrize(
    "text",
    [
        "host = x\n",
        "[other]\nhost = x\n",
        "[smtp_server]\nhost = x\n",
        "[smtp_server]\nhost = x\nport = many\n",
        "[smtp_server]\nhost = x\nport = 25\nsecurity = odd\n",
        "[smtp_server]\nhost = x\nport = 25\nsecurity = STARTTLS\n",
        "[smtp_server]\nhost = x\nhost = y\nport = 25\n",
        "[smtp_server]\nhost = x\nport = 25\nratelimit = -1\n",
    ],
)
def test_a_server_that_cannot_be_understood(tmp_path: Path, text: str) -> None:
    """It is an error that names the file, never a guess."""
    path = tmp_path / "server.conf"
    path.write_text(text)
    with pytest.raises(CampaignFileError) as told:
        read_server(path)
    assert told.value.code == "C540"


SIGNED = (
    "[smtp_server]\nhost = mail.evil.example\nport = 587\nsecurity = STARTTLS\nusername = me@example.org\n"
)


@pytest.mark.parametrize("auth", ["STARTTLS", "XOAUTH"])
def test_a_secret_of_another_source_is_not_sent_to_the_folders_host(tmp_path: Path, auth: str) -> None:
    """SMTP_AUTH of the environment is for the user's own accounts, not for whatever host a folder names."""
    conf = SIGNED.replace("= STARTTLS", f"= {auth}")
    folder = _folder(tmp_path / "old", f"{TOP}\nHi\n", {"mailmerge_server.conf": conf})
    environ = {"SMTP_AUTH": "mine", "MAILMERGE_CONFIG": str(tmp_path / "config.toml")}
    campaign = Campaign.load(folder, environ=environ)
    account = campaign.definition.given_account
    assert account is not None
    assert account.host == "mail.evil.example"
    with pytest.raises(AuthError) as told:
        find_secret(account, campaign.environment)
    assert "SMTP_AUTH in the environment is not used" in str(told.value.hint)


def test_the_accounts_own_secret_is_used(tmp_path: Path) -> None:
    """A secret whose source names this very server is sent to it."""
    folder = _folder(tmp_path / "old", f"{TOP}\nHi\n", {"mailmerge_server.conf": SIGNED})
    environ = {
        "SMTP_SERVER": "mail.evil.example",
        "SMTP_AUTH": "its",
        "MAILMERGE_CONFIG": str(tmp_path / "c"),
    }
    campaign = Campaign.load(folder, environ=environ)
    assert campaign.definition.given_account is not None
    assert find_secret(campaign.definition.given_account, campaign.environment).reveal() == "its"


def test_an_account_that_is_named_counts_before_the_folders_server(tmp_path: Path) -> None:
    """With --account the server configuration is not looked at."""
    folder = _folder(tmp_path / "old", f"{TOP}\nHi\n", {"mailmerge_server.conf": SIGNED})
    campaign = Campaign.load(folder, {"account": "gmail"})
    assert campaign.definition.given_account is None


def test_a_password_crosses_no_network_in_clear(tmp_path: Path) -> None:
    """PLAIN without TLS is for this machine only (C415)."""
    conf = SIGNED.replace("STARTTLS", "PLAIN")
    folder = _folder(tmp_path / "old", f"{TOP}\nHi\n", {"mailmerge_server.conf": conf})
    with pytest.raises(CampaignFileError) as told:
        Campaign.load(folder)
    assert told.value.code == "C415"
    (folder / "mailmerge_server.conf").write_text(conf.replace("mail.evil.example", "localhost"))
    assert Campaign.load(folder).definition.given_account is not None


def test_a_server_as_variables(tmp_path: Path) -> None:
    """What .env specifies is read back as it was meant, and without a secret."""
    path = tmp_path / "mailmerge_server.conf"
    path.write_text(SIGNED)
    (tmp_path / ".env").write_text(dotenv(read_server(path)[0], 'Me "X" <me@example.org>'))
    environment = Environment.read(tmp_path, {})
    assert dict(environment) == {
        "SMTP_SERVER": "mail.evil.example",
        "SMTP_PORT": "587",
        "SMTP_TLS": "starttls",
        "SMTP_USER": "me@example.org",
        "SMTP_FROM": 'Me "X" <me@example.org>',
    }


# --- converting --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", ["campaign.toml", "body.txt"])
def test_nothing_is_overwritten(tmp_path: Path, there: str) -> None:
    """A file of that name stops the conversion before anything is written, also where it is a link."""
    folder = _folder(tmp_path / "old", f"{TOP}\nHi\n")
    out = tmp_path / "new"
    out.mkdir()
    (out / there).symlink_to(tmp_path / "nowhere")
    with pytest.raises(CampaignFileError) as told:
        convert_template(folder / "mailmerge_template.txt", out)
    assert told.value.code == "C450"
    assert [path.name for path in out.iterdir()] == [there]
    assert not (tmp_path / "nowhere").exists()


def test_what_is_not_taken_over_has_a_reason(tmp_path: Path) -> None:
    """Headers that are made, parts that are neither text nor HTML, and sign-in by XOAUTH are told."""
    parts = "--x\n\nwords\n--x\nContent-Type: image/png\n\nzz\n--x--\n"
    template = f"{TOP}Date: today\nContent-Type: multipart/mixed; boundary=x\n\n{parts}"
    conf = SIGNED.replace("STARTTLS", "XOAUTH")
    folder = _folder(tmp_path / "old", template, {"mailmerge_server.conf": conf})
    made = convert_template(folder / "mailmerge_template.txt", None)
    told = "\n".join(made.left)
    assert len(made.left) == 3
    assert "Date: the date is the time of sending" in told
    assert "image/png (line 11)" in told
    assert "mailmerge login" in told


def test_what_was_sent_is_not_known_elsewhere(tmp_path: Path) -> None:
    """A new folder starts with the whole list, and that is said where something was sent from the old one."""
    folder = _folder(tmp_path / "old", f"{TOP}\nHi\n")
    (folder / ".mailmerge").mkdir()
    left = convert_template(folder / "mailmerge_template.txt", tmp_path / "new").left
    assert [told for told in left if "starts with the whole list" in told]


def test_files_outside_of_the_folder_are_not_copied(tmp_path: Path) -> None:
    """An include that leads out of the template's folder is left, and told."""
    (tmp_path / "secret.txt").write_text("secret")
    folder = _folder(tmp_path / "old", f"{TOP}\n{{% include '../secret.txt' %}}\n")
    made = convert_template(folder / "mailmerge_template.txt", tmp_path / "new")
    assert made.left == ("../secret.txt: it is not in the template's folder",)
    assert not list((tmp_path / "new").glob("*secret*"))


def test_a_template_of_another_name_is_a_campaign_of_its_own(tmp_path: Path) -> None:
    """Two templates in one folder are two campaigns, each called after its file."""
    folder = _folder(tmp_path / "old", f"{TOP}\nHi\n", {"progress.txt": f"{TOP}\nProgress\n"})
    assert foreign_template(folder / "progress.txt") == folder / "progress.txt"
    assert take_over(folder / "progress.txt").tables["name"] == "progress"
    assert take_over(folder / "mailmerge_template.txt").tables["name"] == "old"


@pytest.mark.parametrize("name", ["people.csv", "notes.txt", "campaign.toml", "nothing"])
def test_other_files_are_not_taken_for_templates(tmp_path: Path, name: str) -> None:
    """Only text that begins with headers of a message is one."""
    if name != "nothing":
        (tmp_path / name).write_text("Remember: milk\nTO: x\n")
    assert foreign_template(tmp_path / name) is None


# --- command lines -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("old", "preview old --terminal"),
        ("old --no-limit", "preview old --terminal --rows 2-"),
        ("old --limit 5", "preview old --terminal --limit 5"),
        ("old --resume 3 --limit 2", "preview old --terminal --rows 4- --limit 2"),
        ("old --resume 3", "preview old --terminal --rows 4- --limit 1"),
        ("old --limit 0", "check old"),
        ("old --no-dry-run", "send old --limit 1"),
        ("old --no-dry-run --no-limit", "send old"),
        ("old --no-dry-run --limit 0 --yes", "check old"),
        ("old --no-dry-run --no-limit --yes", "send old --yes"),
        ("old --no-dry-run --limit=3 --resume=2", "send old --rows 3- --limit 3"),
        ("--dry-run", "preview . --terminal"),
        ("--sample", "init"),
        ("--template old/mailmerge_template.txt", "preview old --terminal"),
        (
            "--template t/a.txt --database d.csv --config c.conf --no-dry-run",
            "send t/a.txt --list d.csv --server-conf c.conf --limit 1",
        ),
        ("old --output-format text --no-color", "preview old --terminal --color never"),
        ("old --account gmail --no-dry-run", "send old --limit 1 --account gmail"),
    ],
)
def test_old_command_lines(given: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is a command of ours, which is said."""
    assert translated(given.split()) == meant.split()
    told = capsys.readouterr().err
    assert f"This is now: mailmerge {meant.replace(' .', '')}" in told
    assert ("add --yes" in told) == (meant.startswith("send") and "--yes" not in given)


def test_a_template_is_a_campaign_on_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Named without a command it is shown, and is not taken for a list."""
    from mailmerge.cli import run

    template = _folder(tmp_path, f"{TOP}\nHi\n") / "letter.txt"
    (tmp_path / "mailmerge_template.txt").rename(template)
    assert run([str(template)]) == 0
    assert "To: ana@example.com" in capsys.readouterr().out


def test_values_of_old_options_are_checked() -> None:
    """A limit below 0 is an error of usage, as it was."""
    from mailmerge.cli import run

    assert run(["--limit", "-1"]) == 2
