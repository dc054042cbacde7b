"""The domain model: what the stages pass to each other, as frozen values without I/O or clock.

Its terms are used everywhere: a list row is a `Recipient`, its templates' output is `Rendered`,
the bytes and their envelope are a `Message`, the server's answer is a `Reply`, and what that means
for the row is an `Outcome`.
"""

from __future__ import annotations

import enum
import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from msgspec import Struct, field

from mailmerge.addresses import Address  # noqa: TC001  frozen messages are decoded into it
from mailmerge.values import canonical

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import date, datetime

    from mailmerge.addresses import Mailbox
    from mailmerge.values import Cell

KEY_COLUMN = "mailmerge_key"
"""The column of the file of failed rows that identifies a row, however the list changes meanwhile."""
MARK_COLUMN = "mailmerge_mark"
"""The column that shows whether a row was edited since that file was written, see `MarkedRow`."""
OWN_COLUMNS = (
    "mailmerge_status",
    "mailmerge_code",
    "mailmerge_reply",
    "mailmerge_row",
    KEY_COLUMN,
    MARK_COLUMN,
)
"""What a file of failed rows adds to the columns of a list; ignored where that file is the list."""

QR_CODE = "mailmerge-qr:"
"""The beginning of an address that represents a QR code until its message is made; its text is base64."""

TlsMode = Literal["starttls", "tls", "none"]
"""TLS after STARTTLS, from the first octet, or not at all."""
SignIn = Literal["password", "oauth", "token", "certificate", "none"]
"""How an account signs in: a password, tokens that we fetch, tokens that a program prints, a certificate."""
Grant = Literal["person", "application"]
"""Whose right to send a token grants: a person's, who signs in, or an application's own."""
Mode = Literal["off", "grouped", "overlap", "window"]
"""Messages in flight: one; the next one's envelope while a reply is awaited; several."""
Pipeline = Literal["auto", "off", "overlap", "window"]
"""The mode that is wanted; ``auto``: as fast as the server is known to support."""


# --- diagnostics ---------------------------------------------------------------------------------


class Severity(enum.StrEnum):
    """How much a diagnostic matters."""

    ERROR = "error"
    WARNING = "warning"

    @classmethod
    def of(cls, code: str) -> Severity:
        """Return a code's usual severity: in each area, warnings are numbered from 200."""
        return cls.WARNING if code[1:2] == "2" else cls.ERROR


class Place(Struct, frozen=True):
    """Where a problem is: a file with line and column (from 1), or a cell of the list."""

    path: str | None = None
    line: int | None = None
    column: int | None = None
    width: int = 1
    """How many characters the caret underlines."""
    source: str | None = None
    """The source line itself, without its line end."""
    cell: str | None = None
    """A cell in the user's terms: ``sheet People, cell A31`` or ``column email``."""


class Diagnostic(Struct, frozen=True):
    """One problem: stable code, what is wrong, where, and what to do next."""

    code: str
    message: str
    hint: str | None = None
    severity: Severity = Severity.ERROR
    place: Place | None = None
    row: int | None = None
    """The row it was found in, as the spreadsheet numbers rows; None: the campaign as a whole."""
    address: str | None = None


# --- list rows and what templates make of them -----------------------------------------------------


class Columns(Struct, frozen=True):
    """The columns of a list: headings as written, names as templates can write them."""

    headings: tuple[str, ...]
    names: tuple[str, ...]


class Recipient(Struct, frozen=True, gc=False):
    """One row of the list."""

    row: int
    """The row number as the spreadsheet shows it: the header is 1."""
    columns: Columns
    values: tuple[Cell, ...]
    key: str | None = None
    """Canonical text of the key column; None without one (then the address is the identity)."""
    problems: tuple[Diagnostic, ...] = ()
    """Cells that cannot be used (wrong type, ``#N/A``, no key): the row is ``invalid``, its text is kept."""
    supersedes: str = ""
    """The key of the refused row that this one corrects, where it was edited in a file of failed rows."""
    others: tuple[tuple[int, Recipient], ...] = ()
    """The further rows of its message (``data.group_by``), each with its place in the list from 0."""

    @property
    def fields(self) -> dict[str, Cell]:
        """Headings as written, with their values."""
        return dict(zip(self.columns.headings, self.values))  # noqa: B905  as wide as each other, and it costs

    def digest(self) -> str:
        """Hash of the row's cells: shows whether the row was edited between two runs.

        It is made from canonical texts: formatting a column differently does not count as an edit, nor does
        sorting a message's rows.
        """
        text = "\x1f".join([cell if cell.__class__ is str else canonical(cell) for cell in self.values])
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        if not self.others:
            return digest
        every = "\n".join(sorted([digest, *(other.digest() for _, other in self.others)]))
        return hashlib.sha256(every.encode("ascii")).hexdigest()[:16]

    @property
    def rows(self) -> tuple[int, ...]:
        """The numbers of all rows of its message."""
        return (self.row, *(other.row for _, other in self.others))


Missing = Literal["error", "skip"]
"""What a row is whose attachment does not exist: invalid, or a message without it."""


class AttachmentRule(Struct, frozen=True):
    """One ``[[attach]]`` table: which files each message gets."""

    path: str
    """Template of a path or glob, relative to *base*; empty: the file is made from *template*."""
    name: str | None = None
    """Template of the file name to show instead of the path's own."""
    base: Path = Path()
    """The folder that every attachment of this rule must be in."""
    missing: Missing = "error"
    """What a row without such a file is: invalid, or a message without it."""
    shared: bool = False
    """Whether rows may get the same file although the path depends on the row."""
    guard: bool = True
    """Whether files that only one row gets are read for the row that they name."""
    place: Place | None = None
    """Where the rule is set, for messages."""
    template: Path | None = None
    """What a file is made from for each row."""
    password: str | None = None


class RenderedDocument(Struct, frozen=True):
    """What a file is to be made from: everything that it depends on in the row."""

    kind: Literal["html", "typst", "text"]
    content: str
    """The page, the row as a JSON object for Typst, or the content of the file."""
    password: str | None = None


class RenderedAttachment(Struct, frozen=True):
    """One `AttachmentRule` rendered for a row: still text, not yet a file."""

    rule: int
    """Index of the rule in the campaign file."""
    path: str
    """Path or glob, relative to the rule's base folder."""
    name: str | None = None
    """File name to show instead of the path's own."""
    empty: str | None = None
    """The value of the path that is empty, as messages name it; None: there is none."""
    fixed: bool = False
    """Whether the path is the same for every row."""
    row: int | None = None
    """The row that it was rendered for, which need not be the first of its message."""
    document: RenderedDocument | None = None
    """What it is made from; *path* is its name then."""


class RenderedEvent(Struct, frozen=True):
    """The event that a row is invited to."""

    summary: str
    start: date
    """A day, or a ``datetime`` without offset, in *timezone*."""
    end: date
    timezone: str
    """Of the time zone database; empty: UTC, or whole days."""
    kind: str
    """What distinguishes this campaign's event of a row from another campaign's."""
    location: str = ""
    description: str = ""
    url: str = ""
    uid: str = ""
    """Its identifier in calendars; empty: made from the row's key."""
    reminder: int | None = None
    """Minutes before it begins."""


class Rendered(Struct, frozen=True):
    """What the templates made from one row; texts stay in the chunks that Jinja2 yields."""

    recipient: Recipient
    from_: Mailbox
    to: tuple[Mailbox, ...]
    subject: str
    cc: tuple[Mailbox, ...] = ()
    bcc: tuple[Mailbox, ...] = ()
    reply_to: tuple[Mailbox, ...] = ()
    sender: Mailbox | None = None
    text: tuple[str, ...] | None = None
    html: tuple[str, ...] | None = None
    html_before: tuple[str, ...] | None = None
    """The HTML before its styles were moved into the elements of this row; None: they were not."""
    headers: tuple[tuple[str, str], ...] = ()
    attachments: tuple[RenderedAttachment, ...] = ()
    event: RenderedEvent | None = None
    warnings: tuple[Diagnostic, ...] = ()
    """What had to be changed so that it could be a header."""


# --- messages ----------------------------------------------------------------------------------------


class Envelope(Struct, frozen=True):
    """Sender and recipients for the server: RFC 5321's reverse-path and forward-paths, not the headers."""

    mail_from: Address
    rcpt_to: tuple[Address, ...]

    def __post_init__(self) -> None:
        if not self.rcpt_to:
            raise RuntimeError("an envelope needs at least one recipient")


class FrozenFile(Struct, frozen=True):
    """A file of a message: its name there, and its state when the message was frozen."""

    path: bytes
    """Absolute, its links resolved, as the system has it: it need not be UTF-8."""
    name: str
    """As the message shows it."""
    sha256: str
    """Of the file itself, hexadecimal."""
    size: int
    """Octets of the file itself."""
    content_id: str = ""
    """Its Content-ID in the HTML, without brackets; only an inline image has one."""
    media_type: str = "application/octet-stream"
    """With the charset of text."""
    own: bool = False
    """Whether no other row may get it: its rule names another file for each row, and is not shared."""
    guarded: bool = False
    """Whether it is read for the row that it names."""
    wanted: str = ""
    """Its intended name, where characters had to be left out of the name."""


UNSUBSCRIBE_URL: Final = "unsubscribe_url"
"""The variable of templates that is the recipient's own unsubscribe link."""
OWN_HEADER: Final = "X-Mailmerge-ID"
"""Repeats the part of the Message-ID before the @: reports show it, too, where a server replaced that."""


class FrozenMessage(Struct, frozen=True):
    """A message but for its Date, its Message-ID, `OWN_HEADER` and the bytes of its files.

    Frozen, it can be kept (msgspec encodes and decodes it) and examined; thawed, it is a `Message`.
    """

    row: int
    key: str
    envelope: Envelope
    """Its reverse-path is the From address; an account's own one is put in when the message is thawed."""
    sender: str
    """The address of From."""
    head: bytes
    """The header fields as they are sent, up to MIME-Version; no Date, Message-ID or `OWN_HEADER`."""
    body: tuple[bytes | int, ...]
    """The MIME header of the root, and the content in pieces; a number is the index of one of `files`."""
    files: tuple[FrozenFile, ...]
    size: int
    """Octets of the whole message, with all that is added when it goes out, but signatures."""
    digest: str
    """SHA-256, hexadecimal, of recipients, header fields and content; a file counts by name and SHA-256."""


class Message(Struct, frozen=True, dict=True):
    """One finished message: the same bytes in preview and on the wire for the same Date.

    The bytes need no dot-stuffing (no line begins with a dot), use CRLF only, contain no byte over 127
    and end with CRLF.
    """

    message_id: str
    """The Message-ID with its angle brackets."""
    key: str
    row: int
    envelope: Envelope
    segments: tuple[bytes, ...]
    """The content in pieces: shared ones (attachments) are the same object in every message."""
    frozen: str = ""
    """Digest of the `FrozenMessage` that it was made from."""

    @cached_property
    def size(self) -> int:
        """Length of the content in octets, as SMTP's SIZE counts it (RFC 1870)."""
        return sum(map(len, self.segments))

    @property
    def content(self) -> bytes:
        """The segments joined: for ``.eml`` files and tests, never for the wire."""
        return b"".join(self.segments)


# --- replies and outcomes --------------------------------------------------------------------------


class Phase(enum.StrEnum):
    """How far a session or transaction had got when something happened."""

    GREETING = "greeting"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    CONTENT = "content"
    """The content was written whole: only the reply to it is missing or known."""
    RSET = "rset"
    QUIT = "quit"


REPLY_LIMIT = 2000
"""Characters of a reply that are shown and kept: servers may send 64 KB."""


class Reply(Struct, frozen=True):
    """One SMTP reply (RFC 5321 section 4.2), its text decoded for display only."""

    code: int
    lines: tuple[str, ...] = ()
    """Printable: control, bidi and other invisible characters are escapes, see `mailmerge.text.printable`."""
    enhanced: tuple[int, int, int] | None = None
    """Enhanced status code (RFC 3463), if the text starts with one that fits the reply code."""
    raw: bytes = b""

    @property
    def severity(self) -> int:
        """The first digit: 2 done, 3 continue, 4 not now, 5 no."""
        return self.code // 100

    @property
    def text(self) -> str:
        """All lines as one, without the enhanced code."""
        return " ".join(self.lines)

    def __str__(self) -> str:
        status = "{}.{}.{}".format(*self.enhanced) if self.enhanced else ""
        text = self.text if len(self.text) <= REPLY_LIMIT else self.text[:REPLY_LIMIT] + "…"
        return " ".join(part for part in (str(self.code), status, text) if part)


class Status(enum.StrEnum):
    """The state of a row. The first four are decided again in each run; such rows are never contacted."""

    INVALID = "invalid"
    DUPLICATE = "duplicate"
    SUPPRESSED = "suppressed"
    SKIPPED = "skipped"
    PENDING = "pending"
    HANDING_OVER = "handing_over"
    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    REJECTED = "rejected"
    EXPIRED = "expired"
    BOUNCED = "bounced"
    """Accepted, and returned later, according to a report in the sender's mailbox."""
    IN_DOUBT = "in_doubt"
    DRAFTED = "drafted"
    """In the Drafts folder of the sender's mailbox: whether a person has sent it is not known."""

    @property
    def words(self) -> str:
        """Its name wherever people read it: ``in doubt``."""
        return self.value.replace("_", " ")


TO_BE_SENT: Final = frozenset({Status.PENDING, Status.DEFERRED})
"""The states of rows that remain to be sent: what is intended, where all others are what has happened."""


class Scope(enum.StrEnum):
    """What a refusal is about, hence what it affects."""

    ROW = "row"
    CONNECTION = "connection"
    """This connection only: reconnect, the row stays pending."""
    ACCOUNT = "account"
    """The account for now (rate, quota, block): pause or stop."""
    CONFIG = "config"
    """Our own set-up (sender, TLS, sign-in): stop at the first one, a person must act."""


class Outcome(Struct, frozen=True):
    """What happened to one message in one attempt.

    *status* is ``accepted``, ``drafted``, ``rejected``, ``deferred``, ``in_doubt`` or ``pending`` (the
    attempt never counted: nothing of the message was accepted, try again).
    """

    status: Status
    scope: Scope
    phase: Phase
    reply: Reply | None = None
    reason: str = ""
    """A short word for the report: ``recipient``, ``content``, ``size``, ``quota``, ``rate`` ..."""
    retry_after: float | None = None
    """Seconds that the server, or our table of its replies, asks us to wait; None: the usual backoff."""
    slower: bool = False
    """The server reports that we are too fast: halve the rate."""
    hint: str | None = None
    refused: tuple[tuple[Address, Reply], ...] = ()
    """Recipients of the row that were refused, with the reply to each RCPT."""


# --- plan, ledger and report ---------------------------------------------------------------------------


UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""The units of time in a campaign's options, in seconds."""
SLOWEST: Final = 64.0
"""How many times slower than requested (or than one message a second) complaints of a server can make us."""
STEP_UP_EVERY: Final = 50
"""After so many accepted messages the rate rises again ..."""
STEP_UP: Final = 1.1
"""... by this factor."""
SHORTEST_INTERVAL: Final = 0.001
"""Seconds between two messages below which a rate that has risen again does not slow us down."""
SHORTEST_DELAY: Final = 1e-6
"""A shorter wait, in seconds, might not move a clock of today's magnitude: a waiting loop might not end."""


class Rate(Struct, frozen=True):
    """At most *count* messages in any half-open window of *seconds*: ``60/m`` is ``Rate(60, 60)``."""

    count: int
    seconds: float

    def __str__(self) -> str:
        unit = next((unit for unit, seconds in UNITS.items() if seconds == self.seconds), None)
        return f"{self.count}/{unit or self._length()}"

    def _length(self) -> str:
        """Return the window with at most six digits, as campaign files have it."""
        fitting = (
            f"{self.seconds / size:g}{unit}" for unit, size in UNITS.items() if self.seconds < size * 1e6
        )
        return next(fitting, f"{self.seconds:.0f}s")


class Attempt(Struct, frozen=True):
    """The promise to hand one message over: written durably before its last bytes leave."""

    key: str
    row: int
    address: str
    number: int
    """1 for the first attempt that uses up a try, see the retry rules."""
    message_id: str
    date: datetime
    recipients: int
    size: int
    digest: str
    """SHA-256, hexadecimal, of all that decides its bytes: frozen digest, Date and Message-ID."""
    frozen: str
    """Digest of the `FrozenMessage`: the same for each attempt to send the same message."""
    row_digest: str
    version: str
    """Digest of the campaign version (templates, headers, attachments) the message was made with."""
    connection: str
    rows: str = ""
    """The rows of a message for several, see `mailmerge.plan.groups.signature`; empty: it is for one."""


class Delivery(Struct, frozen=True):
    """The ledger's entry for one row that was, or is to be, contacted."""

    key: str
    row: int
    address: str
    status: Status
    attempts: int = 0
    message_id: str = ""
    date: datetime | None = None
    """The Date of the latest attempt."""
    first_attempt: datetime | None = None
    updated: datetime | None = None
    next_at: datetime | None = None
    phase: str = ""
    reason: str = ""
    code: int | None = None
    enhanced: str = ""
    reply: str = ""
    version: str = ""
    row_digest: str = ""
    generation: int = 0
    """How often the row was requeued: the message of each generation has its own Message-ID."""
    bounce: str = ""
    """What a report in the mailbox contained: ``hard: recipient``, ``soft: full``, ``delayed: ...``."""
    rows: str = ""
    """The rows of a message for several, as `Attempt` has them."""


class Result(Struct, frozen=True):
    """One line of the report: a row of the list, or a row that was removed from it."""

    row: int | None
    """None: the row was removed from the list."""
    key: str
    address: str
    status: Status
    detail: str = ""
    delivery: Delivery | None = None
    rows: tuple[int, ...] = ()
    """All rows of a message for several, in the first of them; empty: it is for one."""
    first: int | None = None
    """The first row of its message, where that is another one."""


class Counts(Struct, frozen=True):
    """How many rows are in each state; the numbers add up to the list, rows with one message counted once."""

    by_status: Mapping[Status, int] = field(default_factory=dict)

    def __getitem__(self, status: Status) -> int:
        return self.by_status.get(status, 0)

    def __iter__(self) -> Iterator[Status]:
        return (status for status in Status if self[status])

    @property
    def total(self) -> int:
        """All rows."""
        return sum(self.by_status.values())


class Version(Struct, frozen=True):
    """One version of the campaign: a digest over all of it, and one over each part to show what changed."""

    digest: str
    parts: Mapping[str, str]
    noted: datetime
    accepted: int = 0
    """How many rows were accepted with it."""

    def changed(self, parts: Mapping[str, str]) -> tuple[str, ...]:
        """Return the names of the parts that differ between this version and *parts*."""
        names = [*self.parts, *(name for name in parts if name not in self.parts)]
        return tuple(name for name in names if self.parts.get(name) != parts.get(name))
