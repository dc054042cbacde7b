"""What an option is, and the types of values that only some options have.

An `Option` is declared as a field of a `Section`, where type checkers check its reader, its default and
the field's type against each other::

    class DataOptions(Section):
        toml_section: ClassVar[str] = "data"
        sheet: str | None = option(LABEL, "The sheet of a workbook", default=None, flag="--sheet NAME")
"""

from __future__ import annotations

import codecs
import re
from datetime import date
from functools import lru_cache
from keyword import iskeyword
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Literal,
    TypeVar,
    dataclass_transform,
    get_args,
    overload,
)

from msgspec import Struct, StructMeta
from msgspec.structs import replace

from mailmerge.addresses import (
    DOMAIN_LABEL,
    Address,
    AddressError,
    Mailbox,
    is_address_literal,
    is_host,
    is_host_name,
    parse_address_list,
)
from mailmerge.lazy_re import lazy_re
from mailmerge.text import did_you_mean, quoted
from mailmerge.validation import (
    FILE,
    FILLED_TEXT,
    LABEL,
    PLAIN,
    TEXT,
    ValidationError,
    ValidationIssue,
    ValueType,
    array_of,
    checked,
    table_of,
    wrong_type,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailmerge.values import Plain

T = TypeVar("T")
D = TypeVar("D")

REQUIRED: Final = "(required)"
"""The default of an option that has none."""


class Option(Struct, frozen=True, kw_only=True):
    """One setting: its names everywhere, its values, and what it means for a run."""

    key: str
    """In TOML; of an option without a section: the parameter of the commands that have it."""
    section: str | None
    """``""`` is the top of campaign.toml, ``accounts`` a ``[accounts.NAME]`` of the user's config.toml;
    None: it has no key, and is set on the command line or in the environment only."""
    type: ValueType[Any]
    default: object = REQUIRED
    help: str
    """What it does, as a sentence without its full stop and without the default."""
    default_help: str = ""
    """The default in words, where the value does not show it."""
    flag: str | None = None
    """With its argument: ``--list FILE``; ``-q/--quiet``, ``--html/--no-html``."""
    commands: tuple[str, ...] = ()
    """Those that have the flag."""
    environment: tuple[str, ...] = ()
    """Variables; the first that is set counts. Keys of a campaign have theirs by a rule, see `variables`."""
    fact: bool = False
    """Messages depend on it: another value means another plan."""
    identifies: bool = False
    """On the command line it changes which campaign, rows, message or account is meant: a command that
    continues this one must repeat it."""

    @property
    def name(self) -> str:
        """The key with its section: ``data.source``."""
        return f"{self.section}.{self.key}" if self.section else self.key

    @property
    def required(self) -> bool:
        """Whether it must be set."""
        return self.default is REQUIRED

    @property
    def long_flag(self) -> str:
        """The flag as messages name it: ``--list``; where there is none, the name."""
        spellings = (self.flag or self.name).partition(" ")[0].split("/")
        return next((spelling for spelling in spellings if spelling.startswith("--")), spellings[0])

    @property
    def parameter(self) -> str:
        """The name of the commands' parameter: ``data_source``."""
        return self.name.replace(".", "_")

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that set it, the first one first."""
        if self.environment or self.section in {None, "attach", "accounts"} or self.type.entries:
            return self.environment
        return (f"MAILMERGE_{self.parameter}".upper(),)

    @property
    def written_default(self) -> object:
        """The default as TOML would write it; None: there is none to write."""
        if self.default is REQUIRED or self.default in (None, (), {}, frozenset(), "", Path()):
            return None
        written = self.type.write(self.default)
        try:
            self.type.read(written)
        except ValidationError:  # it means "not set", such as no jitter
            return None
        return written

    @property
    def sentence(self) -> str:
        """The help with the default."""
        written = self.written_default
        default = self.default_help or ("" if written is None or written is False else toml_text(written))
        return f"{self.help}; default: {default}." if default else f"{self.help}."


def toml_text(value: object) -> str:
    """Return a written default for a person to read: strings bare, arrays with commas."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(map(toml_text, value))
    return str(value)


@overload
def option(
    kind: ValueType[T],
    text: str,
    *,
    default_help: str = "",
    flag: str | None = None,
    commands: tuple[str, ...] = (),
    environment: tuple[str, ...] = (),
    fact: bool = False,
    identifies: bool = False,
) -> T: ...


@overload
def option(
    kind: ValueType[T],
    text: str,
    *,
    default: D,
    default_help: str = "",
    flag: str | None = None,
    commands: tuple[str, ...] = (),
    environment: tuple[str, ...] = (),
    fact: bool = False,
    identifies: bool = False,
) -> T | D: ...


def option(kind: ValueType[Any], text: str, **declared: Any) -> Any:
    """Declare a field of a `Section`: an `Option` with the help *text*, whose values *kind* reads."""
    return Option(key="", section=None, type=kind, help=text, **declared)


class SectionMeta(StructMeta):
    """Splits the options of a class: defaults for the struct, the rest into ``options``."""

    options: dict[str, Option]
    """By key."""

    def __new__(
        cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **config: Any
    ) -> SectionMeta:
        """Make the struct with its table of options."""
        section = namespace.get("toml_section")
        found: dict[str, Option] = {}
        for attribute, declared in list(namespace.items()):
            if isinstance(declared, Option):
                key = attribute.removesuffix("_")  # see `fields_of`
                found[key] = replace(declared, key=key, section=section)
                if declared.default is REQUIRED:
                    del namespace[attribute]
                else:
                    namespace[attribute] = declared.default
        made = super().__new__(cls, name, bases, namespace, **{"kw_only": True, **config})
        if section is not None:
            made.options = found
        return made


@dataclass_transform(field_specifiers=(option,), kw_only_default=True, frozen_default=True)
class Section(Struct, frozen=True, kw_only=True, metaclass=SectionMeta):
    """The values of one section; each field is an option."""

    toml_section: ClassVar[str]


def fields_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a section by field name: ``from`` is a keyword of Python, hence ``from_``."""
    return {f"{key}_" if iskeyword(key) else key: value for key, value in values.items()}


# --- types of a campaign --------------------------------------------------------------------------------

_HEADER_NAME = r"[!-9;-~]{1,70}\Z"
_HAS_OWN_KEY = frozenset(("from", "to", "cc", "bcc", "reply-to", "sender", "subject"))
_RESERVED = frozenset(
    ("date", "message-id", "mime-version", "return-path", "received", "delivered-to", "dkim-signature")
)
_RESERVED_PREFIXES = ("content-", "resent-", "x-mailmerge-")


_STRUCTURED = lazy_re(
    r"(?:list-.*|references|in-reply-to|auto-submitted|feedback-id|precedence|archived-at"
    r"|disposition-notification-(?:to|options)|return-receipt-to|original-message-id|supersedes|expires"
    r"|importance|priority|sensitivity|x-(?:priority|msmail-priority|auto-response-suppress|mailer))\Z",
    re.IGNORECASE,
)


@lru_cache(maxsize=64)
def is_structured(name: str) -> bool:
    """Return whether machines read this header: RFC 2047 has no place in it for encoded words."""
    return _STRUCTURED.match(name) is not None


def _read_template(value: object) -> Path | str:
    """Read the name of a template's file; a string with a line break is the template itself."""
    if not isinstance(value, str):
        raise wrong_type("the name of a template's file", value)
    if not value.strip():
        raise ValidationError(ValidationIssue("is empty"))
    if "\n" in value:
        return value
    if "\0" in value:
        raise ValidationError(ValidationIssue("contains a NUL character"))
    return AUTO if value == AUTO else Path(value)


AUTO: Final = "auto"
"""Instead of a template's file: made from the other part."""
LAYOUTS: Final = ("letter", "newsletter")
"""The stock layouts: files of mailmerge/layouts/."""


class MarkdownText(str):
    """A template in Markdown that is given directly, not as the name of a file."""

    __slots__ = ()


def _read_layout(value: object) -> Path | str:
    """Read the name of a stock layout, or of a file: that has a suffix or a folder."""
    if value in LAYOUTS:
        return str(value)
    found = _read_template(value)
    if isinstance(found, Path) and not found.suffix and len(found.parts) == 1:
        hint = (
            did_you_mean(str(found), LAYOUTS) or f"layouts: {', '.join(LAYOUTS)}, or a file such as ours.html"
        )
        raise ValidationError(ValidationIssue(f"is not a known layout: {quoted(str(found))}", hint=hint))
    return found


_DOCUMENTS = (".html", ".htm", ".typ", ".txt", ".csv", ".tsv")
"""Suffixes of templates that a file is made from."""


def _read_document(value: object) -> Path:
    """Read the name of a template; refuse a kind that no file can be made from."""
    path = FILE.read(value)
    suffix = path.suffix.lower()
    if suffix in _DOCUMENTS:
        return path
    hint = "write it as .html or .typ (both become a PDF), .txt or .csv"
    if suffix == ".ics":
        hint = 'an invitation is made by [message] calendar = { summary = "...", start = "...", ... }'
    elif suffix == ".pdf":
        hint = 'an existing PDF is attached by path = "..."'
    message = f"names a template that no file can be made from: {quoted(path.name)}"
    raise ValidationError(ValidationIssue(message, hint=hint))


_EVENT = (
    "summary",
    "start",
    "end",
    "minutes",
    "timezone",
    "location",
    "description",
    "url",
    "reminder",
    "uid",
)


def _read_event(value: object) -> str:
    """Read a template; minutes may be written as a number, a start as a date."""
    if isinstance(value, bool):
        raise wrong_type("a string", value)
    return str(value) if isinstance(value, int | date) else FILLED_TEXT.read(value)


def _check_event_key(name: str) -> ValidationIssue | None:
    if name in _EVENT:
        return None
    hint = did_you_mean(name, _EVENT) or f"known keys: {', '.join(_EVENT)}"
    return ValidationIssue("is not a part of an event", "C401", hint)


def _check_header_name(name: str) -> ValidationIssue | None:
    low = name.lower()
    if not re.match(_HEADER_NAME, name):
        hint = "letters, digits and hyphens, such as X-Campaign"
        return ValidationIssue("is not a valid header name", "C441", hint)
    if low in _HAS_OWN_KEY:
        hint = f"write `message.{low.replace('-', '_')}` instead"
        return ValidationIssue("cannot be set here: it has its own key", "C440", hint)
    if low in _RESERVED or low.startswith(_RESERVED_PREFIXES):
        return ValidationIssue("is made for each message and cannot be set", "C440")
    return None


def _check_header_text(text: str) -> ValidationIssue | None:
    if not text.strip().isprintable():
        return ValidationIssue("contains a line break or another control character")
    return None


def _read_headers(value: object) -> Mapping[str, str]:
    table = _HEADER_TABLE.read(value)
    seen: dict[str, str] = {}
    for name in table:
        if (earlier := seen.setdefault(name.lower(), name)) != name:
            issue = ValidationIssue(f"is the same header as {earlier}", "C441", path=f".{name}")
            raise ValidationError(issue)
    return table


def _check_unsubscribe(text: str) -> ValidationIssue | None:
    if not text.startswith(("https://", "mailto:", "{")):
        hint = "write https://example.org/u/{{ token }}, or mailto:leave@example.org?subject={{ token }}"
        return ValidationIssue(f"is not an https: or mailto: address: {quoted(text)}", "C510", hint)
    return _check_header_text(text)


def _check_variable_name(name: str) -> ValidationIssue | None:
    if name.isidentifier():
        return None
    hint = "use letters, digits and _, such as `year_2`"
    return ValidationIssue("is not a valid name for a variable in templates", hint=hint)


def _check_code(text: str) -> ValidationIssue | None:
    if re.fullmatch(r"[A-Z]\d{3}", text):
        return None
    return ValidationIssue(f"is not the code of a problem: {quoted(text)}", hint='codes look like "D204"')


def _check_encoding(text: str) -> ValidationIssue | None:
    try:
        codecs.lookup(text)
    except (LookupError, ValueError):  # ValueError: NUL
        hint = did_you_mean(text, ("utf-8", "gb18030", "gbk", "big5", "cp1252", "latin-1", "utf-16"))
        return ValidationIssue(f"is not a known encoding: {quoted(text)}", hint=hint)
    return None


ENCODING = checked(LABEL, _check_encoding)
TEMPLATE: ValueType[Path | str] = ValueType(
    "the name of a template's file", _read_template, {"type": "string", "pattern": r"\S", "format": "path"}
)
CALENDAR: ValueType[Mapping[str, str]] = table_of(
    ValueType("a string", _read_event, {"type": ["string", "integer"]}), _check_event_key
)
DOCUMENT: ValueType[Path] = ValueType(FILE.expected, _read_document, FILE.schema)
LAYOUT: ValueType[Path | str] = ValueType(
    "the name of a layout or of its file", _read_layout, {"type": "string", "pattern": r"\S"}
)
_HEADER_TABLE = table_of(checked(TEXT, _check_header_text), _check_header_name)
HEADERS = ValueType("a table", _read_headers, _HEADER_TABLE.schema, entries=_HEADER_TABLE.entries)
UNSUBSCRIBE = checked(FILLED_TEXT, _check_unsubscribe)
NAMED_VALUES: ValueType[Mapping[str, Plain]] = table_of(PLAIN, _check_variable_name)
PAIRS = table_of(FILLED_TEXT)
_CODE_ARRAY = array_of(checked(LABEL, _check_code), 'an array of codes, such as ["D204"]')
CODES: ValueType[frozenset[str]] = ValueType(
    _CODE_ARRAY.expected,
    lambda value: frozenset(_CODE_ARRAY.read(value)),
    {"type": "array", "items": {"type": "string", "pattern": "^[A-Z][0-9]{3}$"}},
)


# --- types of an account --------------------------------------------------------------------------------


def _check_host(text: str) -> ValidationIssue | None:
    if is_host(text):
        return None
    name, _, port = text.rpartition(":")
    hint = None
    if port.isdecimal() and is_host(name):
        hint = f"give the port separately: {name} and {port}"
    elif "://" in text:
        hint = "give the name alone: smtp.example.org"
    elif text.isprintable() and not text.isascii():
        hint = "write the name in its ASCII form (xn--...)"
    return ValidationIssue(f"is not a valid host name: {quoted(text)}", "C412", hint)


def _check_helo(text: str) -> ValidationIssue | None:
    if is_address_literal(text) or is_host_name(text):
        return None
    hint = "write a host name, or an address in brackets: [192.0.2.1]"
    return ValidationIssue(f"is not a valid EHLO name: {quoted(text)}", "C412", hint)


def _check_user(text: str) -> ValidationIssue | None:
    if text.isprintable():
        return None
    return ValidationIssue(f"contains a line break or another control character: {quoted(text)}", "C412")


Algorithm = Literal["rsa-sha256", "ed25519-sha256"]
"""How a message is signed, as in DKIM's tag ``a=``."""


class DkimKey(Struct, frozen=True, kw_only=True):
    """A key that signs messages (DKIM), and where its public half is published.

    Raises:
        ValidationError: the selector is not valid.

    """

    selector: str
    """The name of the record: ``SELECTOR._domainkey.DOMAIN``."""
    key_file: Path
    """The private key, in PEM format: RSA of at least 2,048 bits, or Ed25519."""
    domain: str | None = None
    """Who signs; None: the domain of From."""
    algorithm: Algorithm | None = None
    """None: that of the key."""

    def __post_init__(self) -> None:
        if len(self.selector) > _LONGEST_SELECTOR or not re.fullmatch(_SELECTOR, self.selector):
            message = f"does not have a valid selector: {quoted(self.selector)}"
            raise ValidationError(ValidationIssue(message, "C515", "letters, digits and hyphens: mail2026"))


_ALGORITHMS: Final = get_args(Algorithm)
_SELECTOR = rf"{DOMAIN_LABEL}(?:\.{DOMAIN_LABEL})*"
_LONGEST_SELECTOR = 100
_DKIM_KEYS = ("selector", "key_file", "domain", "algorithm")


def _read_dkim(value: object) -> tuple[DkimKey, ...]:
    """Read one table or an array of them."""
    tables = value if isinstance(value, list | tuple) else [value]
    if not tables:
        raise ValidationError(ValidationIssue("must not be an empty array"))
    return tuple(table if isinstance(table, DkimKey) else _read_dkim_key(table) for table in tables)


def _read_dkim_key(value: object) -> DkimKey:
    example = 'dkim = { selector = "mail2026", key_file = "dkim.pem" }'
    if not isinstance(value, dict):
        raise wrong_type("a table or an array of them", value, f"write {example}")
    for key in value:
        if key not in _DKIM_KEYS:
            hint = did_you_mean(key, _DKIM_KEYS) or f"write {example}"
            raise ValidationError(ValidationIssue(f"has an unknown key {quoted(key)}", "C401", hint))
    for key in _DKIM_KEYS[:2]:
        if key not in value:
            raise ValidationError(ValidationIssue(f"has no `{key}`", "C406", f"write {example}"))
    said: dict[str, Any] = {key: LABEL.read(text) for key, text in value.items()}
    if said.get("algorithm") not in {None, *_ALGORITHMS}:
        hint = f"write {' or '.join(_ALGORITHMS)}, or leave it out"
        raise ValidationError(
            ValidationIssue(f"has an unknown algorithm {quoted(said['algorithm'])}", hint=hint)
        )
    if "domain" in said:
        said["domain"] = _read_mailbox(f"postmaster@{said['domain']}").address.domain
    return DkimKey(**{**said, "key_file": Path(said["key_file"])})


def _read_stripped(value: object, expected: str) -> str:
    if not isinstance(value, str):
        raise wrong_type(expected, value)
    return value.strip()


def _read_mailbox(value: object) -> Mailbox:
    text = _read_stripped(value, "a mailbox")
    try:
        mailboxes = parse_address_list(text)
    except AddressError as error:
        hint = f"did you mean {error.suggestion}?" if error.suggestion else None
        message = f"is not a valid mailbox: {quoted(text)}: {error}"
        raise ValidationError(ValidationIssue(message, hint=hint)) from None
    if len(mailboxes) != 1:
        raise ValidationError(ValidationIssue(f"must be exactly one mailbox, not {quoted(text)}"))
    if not mailboxes[0].name.isprintable():
        raise ValidationError(ValidationIssue("contains a control character in its name", "C412"))
    return mailboxes[0]


def _read_address(value: object) -> Address:
    return _read_mailbox(value).address


def _read_alias(value: object) -> str:
    text = _read_stripped(value, "an address")
    if not text.startswith("@"):
        return _read_mailbox(text).address.normalised
    return "@" + _read_mailbox(f"postmaster{text}").address.domain


def _read_command(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        message = "must be an array: the program, then each of its arguments"
        raise ValidationError(ValidationIssue(message, "C404", f"no shell runs it; write {value.split()!r}"))
    command = _WORDS.read(value)
    if not command:
        raise ValidationError(ValidationIssue("does not name a program"))
    return command


def _check_copy_to(text: str) -> ValidationIssue | None:
    form, colon, rest = text.partition(":")
    if colon and form in {"imap", "maildir", "mbox"} and rest.strip() and not rest.startswith("//"):
        return None
    return ValidationIssue(
        f"does not name a place for copies: {quoted(text)}",
        'write "imap:Sent", "maildir:DIR" or "mbox:FILE"; the account\'s `imap` names the server',
    )


_WORDS = array_of(LABEL, "an array of strings")
_STRING: Mapping[str, object] = {"type": "string"}


HOST = checked(LABEL, _check_host)
COPY_TO = checked(LABEL, _check_copy_to)
HELO = checked(LABEL, _check_helo)
USER = checked(ValueType("a string", lambda value: _read_stripped(value, "a string"), _STRING), _check_user)
MAILBOX = ValueType("a mailbox", _read_mailbox, _STRING)
ADDRESS = ValueType("an address", _read_address, _STRING)
ALIAS = ValueType("an address or @domain", _read_alias, _STRING)
_DKIM_TABLE: Mapping[str, object] = {
    "type": "object",
    "properties": {
        "selector": {**_STRING, "pattern": f"^{_SELECTOR}$"},
        "key_file": {**_STRING, "format": "path"},
        "domain": _STRING,
        "algorithm": {"enum": list(_ALGORITHMS)},
    },
    "required": ["selector", "key_file"],
    "additionalProperties": False,
}
DKIM: ValueType[tuple[DkimKey, ...]] = ValueType(
    "a table or an array of them",
    _read_dkim,
    {"anyOf": [_DKIM_TABLE, {"type": "array", "items": _DKIM_TABLE, "minItems": 1}]},
)
COMMAND = ValueType("an array of strings", _read_command, {**_WORDS.schema, "minItems": 1})
