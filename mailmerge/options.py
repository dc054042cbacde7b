"""The one table of options: each setting once, wherever it can be set.

From it come the schema of campaign.toml and of the accounts in config.toml, the values that the program
works with, the flags of the commands, ``--set``, the environment variables, the JSON Schema, and
docs/options.md. The fields of a `Section` are the values; `Option` documents what a declaration has.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, get_args

from mailmerge.model import Grant, Missing, Pipeline, SignIn, TlsMode
from mailmerge.option_types import (
    ADDRESS,
    ALIAS,
    CALENDAR,
    CODES,
    COMMAND,
    COPY_TO,
    DKIM,
    DOCUMENT,
    ENCODING,
    HEADERS,
    HELO,
    HOST,
    LAYOUT,
    MAILBOX,
    NAMED_VALUES,
    PAIRS,
    TEMPLATE,
    UNSUBSCRIBE,
    USER,
    DkimKey,
    Option,
    Section,
    option,
)
from mailmerge.validation import (
    FILE,
    FILLED_TEXT,
    FLAG,
    GROUP_BY,
    HOURS,
    INTEGER,
    LABEL,
    MOMENT,
    NUMBER,
    PATH,
    PAUSES,
    RATE,
    SHARE,
    SIZE,
    TEXT,
    TIME_ZONE,
    ValueType,
    one_of,
    one_or_more,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mailmerge.addresses import Address, Mailbox
    from mailmerge.model import Rate
    from mailmerge.schedule import Hours
    from mailmerge.values import Plain

CAMPAIGN_FILE: Final = "campaign.toml"
MESSAGE_COMMANDS: Final = ("check", "preview", "rehearse", "test", "send", "drafts")
"""Commands that make messages."""
LEDGER_COMMANDS: Final = (
    *("status", "report", "bounces", "resolve", "requeue", "purge", "ledger move", "ledger forget"),
    *("fleet", "pause", "resume", "cancel"),
)
"""Commands that only read or change what has happened."""
_SUPPRESS: Final = ("suppress add", "suppress remove", "suppress import", "suppress list")
_CAMPAIGN: Final = MESSAGE_COMMANDS + LEDGER_COMMANDS
_MAKE: Final = (*MESSAGE_COMMANDS, "init", "convert")
EVERY_COMMAND: Final = (
    *_MAKE,
    *LEDGER_COMMANDS,
    *_SUPPRESS,
    *("providers", "login", "logout", "worker", "sandbox", "explain", "schema", "completion"),
)
_RUN: Final = ("rehearse", "send")
_FAULTY: Final = ("rehearse", "sandbox")

Duplicates = Literal["first", "last", "error", "allow"]
"""Rows that repeat an address: only the first is sent, none of the campaign is, or each one."""
Hidden = Literal["refuse", "skip", "send"]
"""Rows that a workbook hides: an error, left out, or sent like others."""
Jobs = int | Literal["auto"]
"""Processes that plan a long list; ``auto``: one for each processor that we may use, at most 8."""
OutputFormat = Literal["full", "concise", "json", "github", "sarif"]
SchemaName = Literal["campaign", "accounts"]
StockTemplate = Literal["letter", "newsletter", "announcement", "event", "invoice", "plain"]
"""What ``init`` can start from: the folders of templates/."""
Color = Literal["auto", "always", "never"]
"""When words have colours: as the terminal and ``NO_COLOR`` or ``FORCE_COLOR`` say, always, or never."""
LIST: Final = "list"
"""In place of a stock template: list them."""

_DUPLICATES: ValueType[Duplicates] = one_of(*get_args(Duplicates))
_HIDDEN: ValueType[Hidden] = one_of(*get_args(Hidden))
_MISSING: ValueType[Missing] = one_of(*get_args(Missing))
_PIPELINE: ValueType[Pipeline] = one_of(*get_args(Pipeline))
_TLS: ValueType[TlsMode] = one_of(*get_args(TlsMode))
_GRANT: ValueType[Grant] = one_of(*get_args(Grant))
_SIGN_IN: ValueType[SignIn] = one_of(*get_args(SignIn))
_TEXTS = one_or_more(FILLED_TEXT)


def _read_jobs(value: object) -> Jobs:
    return value if value == "auto" else _COUNT.read(value)


_COUNT = whole(1, 64)
_JOBS: ValueType[Jobs] = ValueType(
    "a number of processes, or auto", _read_jobs, {"anyOf": [dict(_COUNT.schema), {"enum": ["auto"]}]}
)

# An option takes two or three lines of these tables.
# fmt: off

# --- campaign.toml ----------------------------------------------------------------------------------------


class TopOptions(Section):
    """At the top: which campaign it is, and who sends."""

    toml_section: ClassVar[str] = ""

    name: str = option(LABEL, "The campaign's name: its identity in the ledger", default="",
        default_help="the folder's name, or the list's", flag="--name NAME", commands=_CAMPAIGN, fact=True,
        identifies=True)
    account: str | None = option(LABEL, "An account of your config.toml, or a preset such as gmail",
        default=None, default_help="the server that SMTP_SERVER names", flag="--account NAME",
        commands=(*_MAKE, "bounces"),
        identifies=True)
    ledger: str | None = option(LABEL, "The ledger: a name in your config.toml, or a PostgreSQL address",
        default=None, default_help="a file in the campaign's folder", flag="--ledger NAME|URL",
        commands=(*_CAMPAIGN, "worker", *_SUPPRESS), identifies=True)
    vars: Mapping[str, Plain] = option(NAMED_VALUES, "Values for all templates", default={}, fact=True)


class DataOptions(Section):
    """``[data]``: which list, and how its rows are read."""

    toml_section: ClassVar[str] = "data"

    source: Path = option(PATH, "The list: text, workbook, JSON, or - (standard input)", default=Path(),
        flag="--list FILE", commands=(*_CAMPAIGN, "init", "convert"), fact=True, identifies=True)
    original: Path | None = option(PATH, "What the list was copied from: you are warned when that is newer",
        default=None, default_help="it is not a copy")
    sheet: str | None = option(LABEL, "The sheet of a workbook", default=None,
        default_help="the only one with addresses",
        flag="--sheet NAME", commands=_MAKE, fact=True, identifies=True)
    range: str | None = option(LABEL,
        "The part of a workbook that is the list: a table, a named range, or B3:F40", default=None,
        default_help="the table that is detected", flag="--range CELLS", commands=_MAKE, fact=True,
        identifies=True)
    header: int | None = option(whole(1), "The row with the headings, numbered as in the spreadsheet",
        default=None, default_help="the row that is detected", flag="--header N", commands=_MAKE, fact=True,
        identifies=True)
    key: str | None = option(LABEL, "The column that identifies a row", default=None,
        default_help="the address", flag="--key COLUMN", commands=_MAKE, fact=True,
        identifies=True)
    where: str | None = option(FILLED_TEXT, "Only rows for which this Jinja expression is true", default=None,
        flag="--where EXPR", commands=MESSAGE_COMMANDS, fact=True, identifies=True)
    group_by: str | None = option(GROUP_BY,
        "One message for all rows with the same value of this Jinja expression, such as a column",
        default=None, default_help="one message per row", flag="--group-by EXPR", commands=MESSAGE_COMMANDS,
        fact=True, identifies=True)
    duplicates: Duplicates = option(_DUPLICATES, "Rows that repeat an address (allow needs a key)",
        default="first", default_help="only the first is sent; with group_by: allow", flag="--duplicates",
        commands=MESSAGE_COMMANDS, fact=True, identifies=True)
    hidden: Hidden = option(_HIDDEN, "What to do with hidden rows of a workbook", default="refuse",
        flag="--hidden", commands=_MAKE, fact=True, identifies=True)
    encoding: str | None = option(ENCODING, "The encoding of a text list", default=None,
        default_help="detected; where only you can tell, you are asked", flag="--encoding NAME",
        commands=(*_MAKE, "report"), fact=True, identifies=True)
    delimiter: str | None = option(LABEL,
        "What separates the cells of a text list: a character, or comma, semicolon, tab, pipe", default=None,
        default_help="detected", flag="--delimiter CHAR", commands=_MAKE, fact=True, identifies=True)
    types: Mapping[str, str] = option(PAIRS,
        "Types of columns: text, integer, decimal, decimal:de, boolean, date, date:%d/%m/%Y", default={},
        fact=True)
    defaults: Mapping[str, str] = option(PAIRS, "What replaces a column's empty cells", default={},
        fact=True)
    suppress: tuple[Path, ...] = option(one_or_more(PATH), "Never write to the addresses in this file",
        default=(), flag="--suppress FILE", commands=MESSAGE_COMMANDS, identifies=True)


class MessageOptions(Section):
    """``[message]``: templates of headers, text and HTML."""

    toml_section: ClassVar[str] = "message"

    from_: str | None = option(FILLED_TEXT, "The sender: 'Name <address>'", default=None,
        default_help="the account's own", flag="--from MAILBOX", commands=MESSAGE_COMMANDS, fact=True,
        identifies=True)
    # Not for test, where --to is whom the test is for.
    to: tuple[str, ...] = option(_TEXTS, "The recipient", default=("{{ email }}",), flag="--to TEMPLATE",
        commands=("check", "preview", "rehearse", "send", "drafts"), fact=True, identifies=True)
    cc: tuple[str, ...] = option(_TEXTS, "Copies", default=(), flag="--cc TEMPLATE",
        commands=MESSAGE_COMMANDS, fact=True, identifies=True)
    bcc: tuple[str, ...] = option(_TEXTS, "Blind copies: in the envelope only", default=(),
        flag="--bcc TEMPLATE", commands=MESSAGE_COMMANDS, fact=True, identifies=True)
    reply_to: tuple[str, ...] = option(_TEXTS, "Where replies go", default=(), flag="--reply-to TEMPLATE",
        commands=MESSAGE_COMMANDS, fact=True, identifies=True)
    sender: str | None = option(FILLED_TEXT, "Who really sends, where it is not From", default=None,
        fact=True)
    subject: str = option(TEXT, "The subject line", default="", flag="--subject TEMPLATE", commands=_MAKE,
        fact=True, identifies=True)
    text: Path | str | None = option(TEMPLATE,
        "Template of the text part (body.{{ lang }}.md: chosen by row), or auto",
        default=None, default_help="made from the HTML", flag="--text FILE", commands=MESSAGE_COMMANDS,
        fact=True, identifies=True)
    """A path names the template's file; a `str` (it had a line break) is the template itself."""
    html: Path | str | None = option(TEMPLATE,
        "Template of the HTML part, in HTML, Markdown or MJML (body.{{ lang }}.html: chosen by row)",
        default=None, default_help="made from a text part that is Markdown", flag="--html FILE",
        commands=MESSAGE_COMMANDS, fact=True, identifies=True)
    layout: Path | str | None = option(LAYOUT,
        "What surrounds the HTML: letter, newsletter, or your own file", default=None,
        default_help="letter for Markdown, none for HTML", flag="--layout NAME",
        commands=MESSAGE_COMMANDS, fact=True, identifies=True)
    """A `str` names a stock layout."""
    layout_vars: Mapping[str, str] = option(PAIRS,
        "Values for the layout, such as colour, logo, button, button_url, footer", default={}, fact=True)
    preheader: str | None = option(FILLED_TEXT, "What inboxes show next to the subject", default=None,
        fact=True)
    inline_css: bool | None = option(FLAG, "Move the rules of <style> into style attributes; @media is kept",
        default=None, default_help="only with a layout", fact=True)
    headers: Mapping[str, str] = option(HEADERS, "More headers", default={}, fact=True)
    calendar: Mapping[str, str] = option(CALENDAR,
        "An invitation: summary, start, minutes or end, timezone, location, description, url, reminder, uid",
        default={}, fact=True)
    unsubscribe: tuple[str, ...] = option(one_or_more(UNSUBSCRIBE),
        "Where people unsubscribe: https://example.org/u/{{ token }}, mailto:..., or both", default=(),
        fact=True)
    series: str | None = option(LABEL, "What they unsubscribe from; campaigns of one series share the key",
        default=None, default_help="the campaign's name", fact=True)
    locale: str = option(FILLED_TEXT,
        "The locale of dates, money and numbers: de, or by row: {{ lang or 'en' }}", default="en", fact=True)


class AttachOptions(Section):
    """``[[attach]]``: a file for each row, found or made; may be repeated."""

    toml_section: ClassVar[str] = "attach"

    path: str = option(FILLED_TEXT, "Template of a path or glob inside `base`", default="",
        default_help="the file is made from `template`", fact=True)
    template: Path | None = option(DOCUMENT,
        "A template that makes a file for each row: .html or .typ (PDF), .txt or .csv", default=None,
        default_help="a file of `path` is attached", fact=True)
    password: str | None = option(FILLED_TEXT, "Template of the password that opens the PDF", default=None,
        default_help="none", fact=True)
    name: str | None = option(FILLED_TEXT, "Template of the name that the recipient sees", default=None,
        default_help="the file's own", fact=True)
    base: Path = option(PATH, "The folder that attachments may not leave", default=Path(),
        default_help="the campaign's folder", fact=True)
    missing: Missing = option(_MISSING, "What to do where the file is missing", default="error", fact=True)
    shared: bool = option(FLAG, "Rows may get the same file although the path depends on the row",
        default=False, fact=True)
    guard: bool = option(FLAG, "Files of single rows are read, and one that names another row is not sent",
        default=True, default_help="yes", fact=True)


class SendOptions(Section):
    """``[send]``: pace and retries."""

    toml_section: ClassVar[str] = "send"

    rate: tuple[Rate, ...] = option(one_or_more(RATE), "The rate; several apply together, in every window",
        default=(), default_help="the account's", flag="--rate 60/m", commands=_RUN)
    per_domain: tuple[Rate, ...] = option(one_or_more(RATE), "Pace for each recipient domain by itself",
        default=())
    jitter: float = option(SHARE, "How much longer a pause may be than the even pace, never shorter",
        default=0.0, default_help="0%")
    retry: tuple[float, ...] = option(PAUSES,
        "Pauses before each new try of a row that the server asked to try later",
        default=(60.0, 300.0, 900.0, 3600.0, 10800.0, 21600.0, 43200.0))
    """In seconds."""
    max_rejected: float = option(SHARE, "Stop when more than this share of the last 200 rows is refused",
        default=0.05, flag="--max-rejected 5%", commands=("send",))
    sessions: int | None = option(whole(1, 50),
        "Connections at the same time: more than 1 only where the provider allows it", default=None,
        default_help="the account's")
    pipeline: Pipeline | None = option(_PIPELINE,
        "How messages may follow each other (auto: as the pace needs and the server supports)", default=None,
        default_help="the account's", flag="--pipeline", commands=_RUN)
    copy_to: str | None = option(COPY_TO,
        "Where a copy of each accepted message is put: imap:Sent, maildir:DIR or mbox:FILE", default=None,
        default_help="the account's")
    at: str | None = option(MOMENT, "Not before this time: 2026-12-01 09:00, or 09:00 for the next one",
        default=None, default_help="immediately", flag="--at TIME", commands=("send",))
    window: tuple[Hours, ...] = option(one_or_more(HOURS),
        "Only within these hours: 08:00-18:00, or Mon-Fri 08:00-18:00", default=(),
        default_help="at any hour", flag="--window HOURS", commands=("send",))
    quiet_hours: tuple[Hours, ...] = option(one_or_more(HOURS), "Never within these hours: 22:00-07:00",
        default=())
    timezone: str | None = option(TIME_ZONE, "The time zone of these hours, such as Europe/Berlin",
        default=None, default_help="the account's, or this machine's")


class CheckOptions(Section):
    """``[check]``: what is not reported."""

    toml_section: ClassVar[str] = "check"

    ignore: frozenset[str] = option(CODES, "Codes of findings to ignore, see docs/checks.md",
        default=frozenset(), fact=True)


# --- config.toml --------------------------------------------------------------------------------------


def _smtp(part: str) -> tuple[str, ...]:
    """Return the variables for a part of an account: ours, then the one known from tutorials."""
    return f"MAILMERGE_SMTP_{part}", f"SMTP_{part}"


class AccountOptions(Section):
    """``[accounts.NAME]``: a submission service with its sign-in, its addresses and its limits."""

    toml_section: ClassVar[str] = "accounts"

    provider: str | None = option(LABEL, "The preset that it builds on, see `mailmerge providers`",
        default=None)
    host: str = option(HOST, "The server for outgoing mail", default_help="the provider's",
        environment=_smtp("SERVER"))
    port: int = option(whole(1, 65535), "587 is for STARTTLS, 465 for implicit TLS", default=587,
        environment=_smtp("PORT"))
    tls: TlsMode = option(_TLS, "starttls is never skipped; tls is implicit; none is for trusted networks",
        default="starttls", default_help="as usual for the port", environment=_smtp("TLS"))
    user: str | None = option(USER, "The user who signs in", default=None,
        default_help="the sender's address", environment=_smtp("USER"))
    auth: SignIn = option(_SIGN_IN, "How it signs in; none is for relays that trust this machine",
        default="password")
    from_: Mailbox | None = option(MAILBOX, "The sender of campaigns that do not name one", default=None,
        environment=_smtp("FROM"), fact=True)
    aliases: tuple[str, ...] = option(one_or_more(ALIAS),
        "Other addresses that it may send as; @example.org is every address there", default=())
    any_from: bool = option(FLAG, "It may send as any address", default=False)
    return_path: Address | None = option(ADDRESS, "The sender in the envelope: where bounces go",
        default=None, default_help="the address in From")
    bounces: str | None = option(LABEL,
        "Where bounces arrive: imaps://imap.example.org/INBOX, maildir:PATH or mbox:PATH", default=None)
    imap: str | None = option(LABEL, "The server of its mailbox: imap.example.org or imaps://user@host",
        default=None, default_help="that of `bounces`, or the provider's")
    copy_to: str | None = option(COPY_TO,
        "Where a copy of each accepted message is put: imap:Sent, maildir:DIR or mbox:FILE", default=None)
    timezone: str | None = option(TIME_ZONE, "The time zone of the hours in which campaigns are sent",
        default=None, default_help="this machine's")
    rate: tuple[Rate, ...] = option(one_or_more(RATE), "Messages per time; several apply together",
        default=(), default_help="the provider's")
    quota: Rate | None = option(RATE, "Recipients per time", default=None, default_help="the provider's")
    max_size: int | None = option(SIZE, "The largest message, encoded", default=None,
        default_help="the provider's")
    """In octets."""
    max_recipients: int | None = option(whole(1, 100_000), "Recipients per message", default=None,
        default_help="the provider's")
    per_connection: int | None = option(whole(1, 1_000_000), "Messages after which a new connection is made",
        default=None, default_help="the provider's")
    pipeline: Pipeline = option(_PIPELINE,
        "How messages may follow each other (auto: as the pace needs and the server supports)",
        default="auto")
    sessions: int = option(whole(1, 50), "Connections at the same time", default=1)
    helo: str = option(HELO, "Our name in EHLO", default="[127.0.0.1]")
    """The default reveals nothing about this machine."""
    ca_file: Path | None = option(PATH, "Trust this certificate authority for the server", default=None,
        flag="--ca-file FILE", commands=("check", "test", "send", "drafts", "login"), identifies=True)
    insecure: bool = option(FLAG, "Accept any certificate: for servers on this machine only", default=False)
    cert_file: Path | None = option(PATH,
        'The certificate that signs in, in PEM format (auth = "certificate")', default=None)
    key_file: Path | None = option(PATH, "Its private key, in PEM format", default=None,
        default_help="in cert_file")
    client_id: str | None = option(LABEL, 'The application that you registered (auth = "oauth")',
        default=None, flag="--client-id ID", commands=("login",))
    tenant: str = option(LABEL, "The organisation's tenant at Microsoft: its domain or id",
        default="common", flag="--tenant NAME", commands=("login",))
    issuer: str | None = option(LABEL, "The OpenID issuer of the tokens, as an https address",
        default=None, default_help="the provider's", flag="--issuer URL", commands=("login",))
    scopes: tuple[str, ...] = option(one_or_more(LABEL), "What a token must allow", default=(),
        default_help="what the provider requires for sending")
    grant: Grant = option(_GRANT, "Whose right a token grants: that of a person, or the application's own",
        default="person")
    service_account: Path | None = option(PATH, "The JSON key of a service account that acts for the user",
        default=None)
    password_command: tuple[str, ...] = option(COMMAND,
        'The program, with its arguments, that prints the password (the application\'s, with auth = "oauth")',
        default=())
    token_command: tuple[str, ...] = option(COMMAND,
        "The program, with its arguments, that prints an OAuth access token", default=())
    dkim: tuple[DkimKey, ...] = option(DKIM,
        "Sign messages: {selector, key_file, domain, algorithm}, or an array of two, see docs/dkim.md",
        default=())


# --- on the command line or in the environment only -------------------------------------------------------


def _only(key: str, kind: ValueType[Any], flag: str | None, text: str, *commands: str, **more: Any) -> Option:
    """Declare an option without a key in a file; *key* is the parameter of the *commands* that have it."""
    declared = {"default": False if kind is FLAG else None, **more}
    return Option(key=key, section=None, type=kind, help=text, flag=flag, commands=commands, **declared)


COMMAND_LINE: Final = (
    _only("attach", _TEXTS, "--attach PATH", "Attach this file; the path may be a template",
        *MESSAGE_COMMANDS, identifies=True),
    _only("settings", _TEXTS, "--set KEY=VALUE", "Override a key of campaign.toml", *_CAMPAIGN,
        identifies=True),
    _only("out", PATH, "--out DIR", "Where reports are written", *_CAMPAIGN,
        default_help="out/ in the campaign's folder", identifies=True),
    _only("jobs", _JOBS, "--jobs N|auto",
        "Plan a long list with N processes (auto: one per processor, at most 8)", "check", "preview",
        "rehearse", "send", "drafts", default="auto"),
    # init
    _only("kind", one_of(*get_args(StockTemplate), LIST), "--template [NAME]",
        "Which stock template to start from; without a name: list them", "init"),
    _only("origins", _TEXTS, "--from FILE|MAILBOX",
        "A design (.html ...), letter (.docx) or draft (.eml) to start from, or the sender; or one of each",
        "init", "convert"),
    _only("types", _TEXTS, "--type COLUMN=TYPE", "The type of a column, as in data.types", "init",
        "convert"),
    _only("copy_list", FLAG, "--copy", "Copy the list into the folder instead of naming its path",
        "init"),
    # campaigns of other programs
    _only("server_conf", FILE, "--server-conf FILE",
        "The server configuration of a template for awdeorio's mailmerge", *MESSAGE_COMMANDS,
        "convert", default_help="mailmerge_server.conf next to the template", identifies=True),
    _only("into", PATH, "--out DIR", "The folder that is made", "convert",
        default_help="next to what is converted"),
    # which rows
    _only("rows", LABEL, "--rows 2-50,77",
        "Only these rows, numbered as the spreadsheet shows them (header = 1)", "preview", "rehearse", "test",
        "send", "drafts", "resolve", "requeue"),
    _only("limit", whole(1), "--limit N", "At most N messages", "preview", "rehearse", "send",
        "drafts"),
    _only("sample", whole(1), "--sample N", "Show N rows spread over the list, and every row with a problem",
        "preview"),
    _only("failed", PATH, "--from FILE", "Only the people in this failed.csv or failed.xlsx", "requeue"),
    _only("accepted", FLAG, "--accepted", "Requeue accepted rows instead: they will get the message twice",
        "requeue"),
    # check
    _only("output_format", one_of(*get_args(OutputFormat)), "--output-format",
        "full, concise (a line per problem), json, github (annotations) or sarif", "check", default="full"),
    _only("ask_dns", FLAG, "--dns", "Look up SPF, DMARC and MX of sender and recipients", "check"),
    _only("try_links", FLAG, "--links", "Request every link, slowly on purpose", "check"),
    _only("try_smtp", FLAG, "--smtp",
        "Connect, sign in and ask whether the sender may send; nothing is sent", "check"),
    # preview
    _only("no_open", FLAG, "--no-open", "Do not open the page in a browser", "preview"),
    _only("watch", FLAG, "--watch", "Serve the page to this machine and reload it after every change",
        "preview"),
    _only("port", whole(0, 65535), "--port N", "With --watch: the port", "preview", default=0,
        default_help="any free one"),
    _only("terminal", FLAG, "--terminal", "Show messages here instead: one, or as many as --limit",
        "preview"),
    _only("eml", PATH, "--eml DIR", "Write one .eml file per message to DIR", "preview"),
    _only("mbox", PATH, "--mbox FILE", "Write all messages to one mbox file", "preview"),
    _only("unsent", FLAG, "--unsent",
        "With --eml: mark the messages as not sent, so that Outlook opens them for sending", "preview"),
    # rehearse, sandbox
    _only("refusals", _TEXTS, "--fail 450:2%", "Refuse this share of the recipients with this reply",
        *_FAULTY),
    _only("drop_after_data", LABEL, "--drop-after-data 0.5%",
        "Lose the final reply to this share of the messages", *_FAULTY, default="0%"),
    _only("drop", LABEL, "--drop 0.5%",
        "Cut the connection for this share of the messages: before, during or after them", *_FAULTY,
        default="0%"),
    _only("per_connection", whole(1), "--per-connection N", "Accept N messages per connection", *_FAULTY),
    _only("per_minute", whole(1), "--per-minute N", "Accept N messages per minute", *_FAULTY),
    _only("greylist", LABEL, "--greylist 5m", "Greylist each new recipient for this long", *_FAULTY,
        default="0s"),
    _only("refuse_sign_in", LABEL, "--refuse-sign-in gmail", "Refuse the sign-in with this provider's reply",
        *_FAULTY),
    _only("no_pipelining", one_of("503", "500", "554", "421", "crash", "silent"), "--no-pipelining 503",
        "Refuse with this reply what arrives before the previous message is answered", *_FAULTY),
    _only("delay", NUMBER, "--delay SECONDS", "Delay each final reply of the server", *_FAULTY, default=0),
    _only("seed", INTEGER, "--seed N", "Seed of the faults, to repeat them", *_FAULTY),
    _only("refused", _TEXTS, "--refuse ADDRESS", "Refuse this recipient: 550 5.1.1 No such user here",
        *_FAULTY),
    _only("sandbox_port", whole(0, 65535), "--port N", "The port to listen on; 0: any free one", "sandbox",
        default=2525),
    _only("keep", PATH, "--keep DIR", "Write each message that it accepts to DIR, as .eml", "sandbox"),
    _only("real_time", FLAG, "--real-time", "Wait in real time", "rehearse",
        default_help="waits are skipped"),
    # test
    _only("me", LABEL, "--to ME", "Your own address", "test", default_help="SMTP_TO",
        environment=("SMTP_TO",)),
    # send
    _only("dry_run", FLAG, "--dry-run", "Show what would be sent; nothing is sent or recorded", "send",
        "drafts"),
    _only("first", whole(1), "--first N", "Send N, show the results, and ask before the others",
        "send"),
    _only("wait", FLAG, "--wait", "Wait for deferred rows and send them, too", "rehearse", "send"),
    _only("notify", FLAG, "--notify", "Show a desktop notification when the run has ended",
        "rehearse", "send", "drafts"),
    _only("open_report", FLAG, "--open", "Open the report page in a browser when the run has ended",
        "rehearse", "send", "drafts"),
    _only("wait_lock", NUMBER, "--wait-lock SECONDS", "Wait up to SECONDS for another run to finish", "send",
        "test", "drafts", default=0),
    _only("accept_changes", FLAG, "--accept-changes",
        "Continue although the message has changed since some rows were accepted", "send", "drafts"),
    _only("keep_plan", FLAG, "--keep-plan",
        "Keep the finished messages in the cache folder when nothing is left to send", "send"),
    _only("accept_repeats", FLAG, "--accept-repeats",
        "Also send to rows that already got this very message", "send", "drafts"),
    # a fleet
    _only("fleet", FLAG, "--fleet", "Let the workers of the ledger send it, and show their progress", "send"),
    _only("detach", FLAG, "--detach", "With --fleet: exit as soon as the workers can begin", "send"),
    _only("accounts", LABEL, "--accounts NAME,...",
        "The accounts that may send, as the workers' config.toml names them", "send", "worker"),
    _only("until_done", FLAG, "--until-done", "Exit when no campaign has anything left to send", "worker"),
    _only("ready", FLAG, "--check", "Only check that it would work: database, accounts, secrets", "worker"),
    _only("again", FLAG, "--watch", "Show it again every two seconds, until Ctrl-C", "fleet"),
    # login
    _only("oauth", FLAG, "--oauth", "Sign in with tokens, even where a password would do", "login"),
    _only("device", FLAG, "--device", "Show a code to enter on another device", "login"),
    _only("no_browser", FLAG, "--no-browser",
        "Open the address on another machine, and paste the one it ends at", "login"),
    _only("in_file", FLAG, "--in-file", "Store the secret in a private file, not in the keyring", "login"),
    # report, resolve
    _only("page", FLAG, "--html/--no-html", "Write report.html", "report", default=True, default_help="yes"),
    _only("workbook", FLAG, "--xlsx", "Also write results.xlsx, with text cells only", "report"),
    _only("copy", FILE, "--copy FILE",
        "Write a copy of your list with three more columns: status, code and reply of each row", "report"),
    _only("redact", FLAG, "--redact",
        "For sharing: hash addresses (not their domains) and keys; written to out/redacted", "report"),
    _only("as_accepted", FLAG, "--as-accepted", "Record them as accepted: they are in the Sent folder",
        "resolve"),
    _only("resend", FLAG, "--resend", "Send them again in the next run; some may arrive twice", "resolve"),
    # bounces
    _only("imap", LABEL, "--imap HOST|URL", "Read this IMAP mailbox: imaps://user@imap.example.org/INBOX",
        "bounces", default_help="the account's `bounces`"),
    _only("maildir", PATH, "--maildir DIR", "Read this maildir", "bounces"),
    _only("mbox_file", PATH, "--mbox FILE", "Read this mbox", "bounces"),
    _only("eml_files", PATH, "--eml FILE|DIR", "Read this message, or every file in this folder",
        "bounces"),
    _only("every", LABEL, "--watch 10m", "Read again and again, with this pause in between", "bounces"),
    # what is asked and printed
    _only("transcript", PATH, "--transcript FILE", "Write the SMTP dialogue there, secrets masked", "test",
        "send"),
    _only("skip_invalid", FLAG, "--skip-invalid", "With --yes: continue although some rows are invalid",
        "send", "drafts"),
    _only("yes", FLAG, "--yes", "Skip the confirmation prompt", "send", "drafts", "requeue", "purge",
        "ledger forget"),
    _only("as_json", FLAG, "--json", "Print one JSON object per line", "check", "rehearse", "test", "send",
        "drafts", "status", "report", "bounces", "providers", "suppress list", "worker", "fleet"),
    _only("quiet", FLAG, "-q/--quiet", "Only results and problems", "check", "rehearse", "send",
        "drafts", "status", "bounces"),
    _only("verbose", FLAG, "-v/--verbose", "Show more: what the plan was made from; the traceback of a bug",
        "check", "rehearse", "send", "drafts", "report", "bounces", "worker"),
    _only("color", one_of(*get_args(Color)), "--color auto|always|never",
        "When states and problems have colours (auto: in a terminal that supports them)", *EVERY_COMMAND,
        default="auto", environment=("NO_COLOR", "FORCE_COLOR")),
)

SECRET: Final = _only("secret", TEXT, None, "The account's password, authorization code or token",
    environment=("MAILMERGE_SMTP_PASSWORD", "SMTP_AUTH"))
CONFIG_FILE: Final = _only("config", PATH, None, "Your config.toml",
    default_help="in your configuration folder", environment=("MAILMERGE_CONFIG",))
STATE_FOLDER: Final = _only("state", PATH, None, "Where account usage and the registry of campaigns are kept",
    default_help="your state folder", environment=("MAILMERGE_STATE_DIR",))
CACHE_FOLDER: Final = _only("cache", PATH, None, "Where plans are kept; it may be deleted at any time",
    default_help="your cache folder", environment=("MAILMERGE_CACHE_DIR",))
ENVIRONMENT_ONLY: Final = (SECRET, CONFIG_FILE, STATE_FOLDER, CACHE_FOLDER)
# fmt: on


# --- all of them ------------------------------------------------------------------------------------------

CAMPAIGN: Final[Mapping[str, Mapping[str, Option]]] = {
    section.toml_section: section.options
    for section in (TopOptions, DataOptions, MessageOptions, AttachOptions, SendOptions, CheckOptions)
}
"""Section and key of campaign.toml. ``attach`` is repeated (``[[attach]]``), ``""`` is the top."""

ACCOUNT: Final[Mapping[str, Option]] = AccountOptions.options
"""The keys of an account; also the names by which options override one."""

PLANNED: Final[Mapping[str, str]] = {
    "data.cells": "raw cell values",
}
"""Keys of later versions: they get their own message instead of a guess at a misspelling."""


def every_option() -> Iterator[Option]:
    """Yield all options, in the order in which the help of a command shows them."""
    for section in ("data", "message", "", "send", "check", "attach"):
        yield from CAMPAIGN[section].values()
    yield from ACCOUNT.values()
    yield from COMMAND_LINE
    yield from ENVIRONMENT_ONLY
