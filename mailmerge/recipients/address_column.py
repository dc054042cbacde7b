"""Which column of a table contains the addresses, and which addresses a cell contains.

One answer for ``init``, for lists and for files of opt-outs: a heading that means e-mail in one of many
languages counts, and the content of the cells decides. A column called Address may contain postal ones.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from mailmerge.addresses import Address, AddressError, parse_address_list
from mailmerge.lazy_re import lazy_re
from mailmerge.text import excerpt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_EMAIL = (
    *(
        "email",
        "epost",
        "eposta",
        "mejl",
        "sahkoposti",
        "courriel",
        "courrierelectronique",
        "correoelectronico",
    ),
    *("correo", "postaelettronica", "correioeletronico", "adresseelectronique", "tolvupostur", "netfang"),
    *(
        "elektronickaposta",
        "elpastas",
        "elpasts",
        "drustvenaposta",
        "surel",
        "emel",
        "thudientu",
        "mailadres",
    ),
    *("邮箱", "郵箱", "邮件", "郵件", "邮址", "電子信箱", "电子信箱", "メール", "이메일", "메일"),
    *("почта", "имейл", "пошта", "имеил", "ηλεκτρονικοταχυδρομειο", "ηλεκτρονικηδιευθυνση"),
    *("דואל", "דוארלקטרוני", "البريدالالكتروني", "ايميل", "ईमेल", "อีเมล"),
)
"""Parts of a heading that mean e-mail, in lower case and without accents and spaces."""
_EMAIL_WORDS = frozenset({"mail", "mails", "mel", "mailto", "smtp"})
"""Words that mean e-mail, but only as whole words."""
_MAYBE = frozenset(
    {"address", "addresses", "adresse", "adresses", "adres", "adress", "direccion", "indirizzo", "endereco"}
    | {"адрес", "地址", "住所", "recipient", "recipients", "to", "contact", "kontakt", "username", "login"}
    | {"user", "subscriber", "unsubscribed", "unsubscribe", "emailaddress", "member", "mailmerge_address"}
)
"""Headings that can mean an e-mail address: the cells decide."""
_NOT_THEIRS = frozenset(
    {"sender", "from", "owner", "referrer", "referred", "referral", "agent", "manager", "assigned", "admin"}
    | {"reply", "replyto", "return", "creator", "author", "absender", "von", "expediteur", "remitente"}
    | {
        "mittente",
        "remetente",
        "avsandare",
        "afzender",
        "отправитель",
        "发件人",
        "寄件者",
        "差出人",
        "보낸사람",
    }
)
"""Words of a heading that mark the address as somebody else's."""
_TOKEN = lazy_re(r"[^\s<>(),;\"\[\]，；、]+")
_ITEMS = lazy_re(r"[,;\n\r，；]")
AT_SIGN = lazy_re("[@＠﹫]")
"""An ``@``, or a character that looks like one."""
_HASH = lazy_re(r"(?:sha-?256:)?([0-9a-f]{64})", re.IGNORECASE)
_LOST = "\ufffd"
_BARE = lazy_re(r"[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_LONGEST = 10_000
"""Length in characters up to which a cell is examined for its kind."""
_NEARLY_ALL = 0.75
"""Share of the most addresses that makes columns equal, so that the first one counts.

A second address has fewer cells, and so fewer mistakes: the number of addresses decides, not their share.
"""
_INSIDE = "'’\"״׳"
"""Marks that do not end a word of a heading."""
_AROUND = ".:!?'`*“”‘’«»„‚…"


# --- headings ------------------------------------------------------------------------------------------


class Heading(Struct, frozen=True):
    """What a heading tells about its column."""

    email: bool = False
    """The heading means an e-mail address."""
    maybe: bool = False
    """The heading may mean an e-mail address: the cells decide."""
    theirs: bool = True
    """The address belongs to the person the row is about, as far as the heading tells."""


@lru_cache(maxsize=1024)
def understood(heading: str) -> Heading:
    """Return what a heading means."""
    words = heading_words(heading[:200])
    together = "".join(words)
    theirs = not (_NOT_THEIRS & set(words) or words[-1:] == ("by",))
    # "E-Mail" is two words; a longer word, such as "mailing", is a different one.
    email = any(part in together for part in _email_parts()) or bool(_EMAIL_WORDS & set(words))
    return Heading(email, bool(_MAYBE & {*words, together}), theirs)


def tells_column(heading: str) -> bool:
    """Return whether a heading, without a cell below it, marks its column as that of the addresses."""
    words = heading_words(heading[:200])
    meaning = understood(heading)
    only = bool(words) and ({*words} <= _MAYBE or "".join(words) in _MAYBE)
    return meaning.theirs and (meaning.email or only)


@cache
def _email_parts() -> tuple[str, ...]:
    return tuple("".join(heading_words(part)) for part in _EMAIL)


@lru_cache(maxsize=4096)
def heading_words(heading: str) -> tuple[str, ...]:
    """Return the words of a heading in lower case and without accents: ``Prénom`` is ``prenom``."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", heading)
    plain = unicodedata.normalize("NFKD", apart.replace("ı", "i").replace("ø", "o")).casefold()
    kept = "".join(
        char if char.isalnum() else "" if unicodedata.category(char)[0] == "M" or char in _INSIDE else " "
        for char in plain
    )
    return tuple(unicodedata.normalize("NFC", kept).split())


# --- columns -------------------------------------------------------------------------------------------


class AddressColumn(Struct, frozen=True):
    """A column that contains addresses, or should according to its heading."""

    position: int
    heading: Heading
    filled: int
    """Cells that are not blank."""
    addresses: int
    """Cells that contain an address."""


def has_address(cell: str) -> bool:
    """Return whether a cell is one or more addresses, with or without names."""
    if "@" not in cell or len(cell) > _LONGEST:
        return False
    try:
        return bool(parse_address_list(cell.strip().removeprefix("mailto:")))
    except AddressError:
        return False


def names_somebody(cell: str) -> bool:
    """Return whether a cell contains an ``@`` or is a SHA-256: a heading does neither."""
    return AT_SIGN.search(cell) is not None or _is_hash(cell)


def _is_hash(cell: str) -> bool:
    return _HASH.fullmatch(cell.partition("#")[0].strip()) is not None


def has_entry(cell: str) -> bool:
    """Return whether a cell is an address, a domain written as ``@example.org``, or a SHA-256."""
    if "@" not in cell:
        return _is_hash(cell)
    if cell.lstrip().startswith(("@", "*@")) and "." in cell and len(cell) < 320:
        found = entries_in(cell)
        return found.any and found.problem is None
    return has_address(cell)


def address_columns(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    matches: Callable[[str], bool] = has_address,
) -> list[AddressColumn]:
    """Find the columns that contain addresses in these rows, the likeliest first.

    Headings decide between columns with addresses. If no column has addresses, those whose heading means
    e-mail are returned, if any. *headings* may be empty strings: then the cells alone decide.
    """
    filled = [0] * len(headings)
    hits = [0] * len(headings)
    for row in rows:
        for position, cell in enumerate(row[: len(headings)]):
            if cell and not cell.isspace():
                filled[position] += 1
                hits[position] += matches(cell)
    found = [
        AddressColumn(position, understood(heading), filled[position], hits[position])
        for position, heading in enumerate(headings)
    ]
    chosen = [column for column in found if column.addresses] or [
        column for column in found if column.heading.email
    ]
    most: dict[tuple[bool, ...], int] = {}
    for column in chosen:
        kind = _kind(column)
        most[kind] = max(most.get(kind, 0), column.addresses)

    def likelihood(column: AddressColumn) -> tuple[tuple[bool, ...], bool, int]:
        kind = _kind(column)
        return kind, column.addresses < _NEARLY_ALL * most[kind], column.position

    return sorted(chosen, key=likelihood)


def _kind(column: AddressColumn) -> tuple[bool, ...]:
    """Return what distinguishes columns, the likelier ones first, apart from how many addresses they have."""
    heading = column.heading
    mostly = column.addresses * 2 > column.filled
    return not heading.theirs, not mostly, not heading.email, not heading.maybe


# --- cells ---------------------------------------------------------------------------------------------


HASH: Final = "sha256:"
"""How an entry with the hash of an address begins."""


class Entries(Struct, frozen=True):
    """The addresses, domains and hashes in a cell, in the form in which opt-outs are compared."""

    addresses: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    hashes: tuple[str, ...] = ()
    """SHA-256 of normalised addresses, 64 hex digits in lower case."""
    problem: str | None = None
    """Why something in the cell that should be an address is not valid, as a message."""
    suggestion: str | None = None

    @property
    def any(self) -> bool:
        """Whether the cell contains any of them."""
        return bool(self.addresses or self.domains or self.hashes)

    def written(self) -> Iterator[str]:
        """Yield the entries as stores of opt-outs keep them."""
        return written_entries(self.addresses, self.domains, self.hashes)


def written_entries(addresses: Iterable[str], domains: Iterable[str], hashes: Iterable[str]) -> Iterator[str]:
    """Yield entries as stores of opt-outs keep them: an address, ``@example.org``, ``sha256:`` and a hash."""
    yield from addresses
    yield from (f"@{domain}" for domain in domains)
    yield from (f"{HASH}{digest}" for digest in hashes)


def entries_in(cell: str) -> Entries:
    """Find every address, every domain (``@example.org``, ``*@example.org``) and every SHA-256 in a cell.

    Names, angle brackets, ``mailto:`` and what comes after `` #`` do not matter. Each ``@`` must belong to a
    valid address, and an item that looks like an address without its ``@`` is a problem.
    """
    cell = re.split(r"(?:^|(?<=\s))#", cell, maxsplit=1)[0]
    addresses: list[str] = []
    domains: list[str] = []
    hashes: list[str] = []
    before = None
    for found in _TOKEN.finditer(cell):
        token, word = found[0], _word_before(cell, before, found.start())
        before = found
        if word and token.startswith("@"):
            shown = excerpt(f"{word} {token}")
            problem = f'"{shown}": it is unclear whether an address or a domain is meant'
            return Entries(problem=problem, suggestion=f"{word}{token}")
        if not AT_SIGN.search(token):
            if match := _HASH.fullmatch(token):
                hashes.append(match[1].lower())
            continue
        try:
            address, domain = _entry(_bare(token))
        except AddressError as error:
            return Entries(problem=f'"{excerpt(token)}": {error}', suggestion=error.suggestion)
        (addresses if address else domains).append(address or domain)
    missing = _without_at(cell)
    if missing:
        return Entries(problem=f'"{excerpt(missing)}" has no @')
    return Entries(tuple(addresses), tuple(domains), tuple(hashes))


def _word_before(cell: str, before: re.Match[str] | None, end: int) -> str:
    """Return the word that only spaces separate from *end*: it may be the first half of an address."""
    if before is None or not cell[before.end() : end].isspace():
        return ""
    word = before[0]
    return "" if AT_SIGN.search(word) or word.endswith(":") or not re.search(r"[^\W\d]", word) else word


def _bare(token: str) -> str:
    if token[:7].lower() == "mailto:":
        token = token[7:].partition("?")[0]
    return token if token.startswith("*@") else token.strip(_AROUND)


def _entry(token: str) -> tuple[str, str]:
    """Return the address or the domain that a token is."""
    local, _, domain = token.rpartition("@")
    if _LOST in token:
        raise AddressError("one of its letters was lost when the file was converted")
    if domain and local in {"", "*"}:
        return "", Address.parse(f"any@{domain}").domain
    if "?" in local:
        raise AddressError("one of its letters may have been lost when the file was converted")
    if "*" in local or local == "%":
        raise AddressError(f"only a whole domain can be meant by a sign: *@{domain}")
    try:
        return Address.parse(token).normalised, ""
    except AddressError:
        # We cannot send to it, but it is somebody's address, and other programs may have collected it.
        if local.isascii() or "@" in local or not local.isprintable():
            raise
        return f"{unicodedata.normalize('NFC', local).lower()}@{Address.parse(f'any@{domain}').domain}", ""


def _without_at(cell: str) -> str | None:
    """Return an item that looks like an address whose ``@`` was lost; one before a bracket is a name."""
    items = _ITEMS.split(cell)
    for text, following in zip(items, [*items[1:], ""], strict=True):
        item = text.strip()
        looks_so = "." in item and len(item) < 320 and _BARE.fullmatch(item)
        if looks_so and "<" not in following and item.rpartition(".")[2].isalpha():
            return item
    return None
