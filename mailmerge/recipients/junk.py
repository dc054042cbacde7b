"""Cells that a program damaged or never filled in, whatever kind of list they are in.

Formula errors, ``nan``, numbers that lost their digits, text read in the wrong encoding, markup, merge
fields. A block of cells is searched for what such a cell must contain; only cells that contain it are
examined one by one. Known are what programs write: errors of Excel, LibreOffice and Google Sheets in the
languages of their menus, empty values of pandas, R, SQL clients and JavaScript, merge fields of mail
programs.
"""

from __future__ import annotations

import contextlib
import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.lazy_re import lazy_re

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class JunkKind(Struct, frozen=True):
    """A kind of junk."""

    code: str
    what: str
    """What a cell contains, as the object of "contain"."""
    hint: str
    meant: bool = False
    """Whether it may be intended: the type ``text`` accepts it."""
    doubtful: bool = False
    """Whether it may be a person's name: it is an error only if rows repeat it."""


ERROR = JunkKind(
    "D255", "the error of a formula", "correct the formula in the list's program, or empty the cells"
)
HASHES = JunkKind(
    "D255",
    "number signs instead of a number",
    "the column was too narrow when it was saved: widen it, and save it again",
)
NOTHING = JunkKind(
    "D256",
    "what a program writes for an empty cell",
    'empty the cells; if it really is a name: types = {{ {key} = "text" }} in [data]',
    meant=True,
    doubtful=True,
)
NO_OBJECT = JunkKind(
    "D256", "what a program writes for an empty cell", "empty the cells, or export them again"
)
EXPONENT = JunkKind(
    "D257",
    "a number that lost its digits",
    "format the column as text or number without decimals, and save it again; if it is intended: "
    'types = {{ {key} = "text" }} in [data]',
    meant=True,
)
DECIMAL_ID = JunkKind(
    "D257",
    "a number that got decimals",
    "the program that wrote it treated the column as numbers: export it as text; if it is intended: "
    'types = {{ {key} = "text" }} in [data]',
    meant=True,
)
ROUNDED = JunkKind(
    "D257",
    "a number of more than 15 digits",
    "spreadsheet programs keep 15 digits and replace the others with 0: type them as text",
)
GARBLED = JunkKind(
    "D258",
    "text that was read in the wrong encoding",
    "export the list again as UTF-8, from the program that has it right",
)
QUOTED = JunkKind(
    "D259",
    "a formula that was meant to keep a number as it is",
    'write what is in the quotes; types = {{ {key} = "text" }} in [data] accepts it as it is',
    meant=True,
)
MARKUP = JunkKind(
    "D259",
    "characters as HTML writes them",
    'write the characters themselves; types = {{ {key} = "text" }} in [data] accepts them as they are',
    meant=True,
)
ESCAPED = JunkKind(
    "D259",
    "characters as programs write them",
    'write the characters themselves; types = {{ {key} = "text" }} in [data] accepts them as they are',
    meant=True,
)
MERGE_FIELD = JunkKind(
    "D260",
    "a merge field that was never filled in",
    "fill in the cells, or use the column in the template; "
    'types = {{ {key} = "text" }} in [data] accepts them',
    meant=True,
)
OWN_FIELD = JunkKind(
    "D260",
    "markup of a template",
    "cells are never rendered: write the value itself, or use the column in the template",
    meant=True,
)
HIDDEN_AT = JunkKind("D261", "a mail address without its @", "write the address: ann@example.org")

# --- formulas and empty values ------------------------------------------------------------------------

_ERROR_TEXTS = (
    "#NULL! #DIV/0! #VALUE! #REF! #NAME? #NUM! #N/A #GETTING_DATA #SPILL! #CALC! #FIELD! #BLOCKED! #UNKNOWN! "
    "#CONNECT! #BUSY! #EXTERNAL! #PYTHON! #ERROR! "
    "#BEZUG! #NV #WERT! #ZAHL! #ÜBERLAUF! #KALK! #FELD! #BLOCKIERT! #UNBEKANNT! #VERBINDEN! "
    "#VALEUR! #NOM? #NOMBRE! #NUL! #PROPAGATION! #EPARS! #CHAMP! #BLOQUE! #INCONNU! #OCCUPE! "
    "#¡REF! #¡VALOR! #¿NOMBRE? #¡NUM! #N/D #¡NULO! #¡DIV/0! #¡DESBORDAMIENTO! #¡CALC! #¡CAMPO! "
    "#RIF! #VALORE! #NOME? #NULLO! #ESPANSIONE! #VALOR! #NÚM! #NULO! #DESPEJAR! #DESPEJO! "
    "#VERW! #WAARDE! #NAAM? #GETAL! #N/B #LEEG! #DEEL/0! #OVERLOOP! "
    "#ADR! #ARG! #NAZWA? #LICZBA! #ZERO! #DZIEL/0! #ROZLANIE! "
    "#REFERENS! #VÄRDEFEL! #NAMN? #OGILTIGT! #SAKNAS! #SKÄRNING! #DIVISION/0! "
    "#REFERENCE! #VÆRDI! #NAVN? #I/T #VERDI! "
    "#VIITTAUS! #ARVO! #NIMI? #LUKU! #PUUTTUU! #TYHJÄ! #JAKO/0! "
    "#HODNOTA! #NÁZEV? #ČÍSLO! #NENÍ_K_DISPOZICI #DĚLENÍ_NULOU! #HODN! "
    "#HIV! #ÉRTÉK! #NÉV? #SZÁM! #HIÁNYZIK #NULLA! #ZÉRÓOSZTÓ! #BAŞV! #DEĞER! #AD? #SAYI! #YOK #BOŞ! #SAYI/0! "
    "#ССЫЛКА! #ЗНАЧ! #ИМЯ? #ЧИСЛО! #Н/Д #ПУСТО! #ДЕЛ/0! #ПОСИЛАННЯ! #ІМ'Я? "
    "#ΑΝΑΦ! #ΤΙΜΗ! #ΟΝΟΜΑ? #ΑΡΙΘ! #Δ/Υ #ΚΕΝΟ! #ΔΙΑΙΡ/0! #VREDN! #IME? #ŠTEV!"
)
"""The error values of Excel in the languages of its function reference, Google Sheets and LibreOffice."""
_ERRORS = frozenset(_ERROR_TEXTS.split())
_CODE = lazy_re(r"(?:Err|Error|Fehler|Erreur|Erro|Errore|Fout|Błąd|Fel|Fejl)\s?:\s?[0-9]{3}")
"""LibreOffice's: ``Err:502``."""
_WORDS = (
    *("nan", "NaN", "NAN", "NaT", "None", "NULL", "Null", "null", "NA", "<NA>", "<null>", "<NULL>", "<none>"),
    *("(null)", "(NULL)", "[null]", "[NULL]", "\\N", "undefined", "Undefined", "#null#", "nil", "-nan"),
    *("1.#QNAN", "1.#IND", "-1.#IND", "<nil>", "System.DBNull", "DBNull"),
)
_REPEATED = frozenset((*_WORDS, *(f"{word} {word}" for word in _WORDS)))
"""Also as a program joins two of them: ``undefined undefined``."""
_DOUBTFUL = frozenset(
    {"nan", "NaN", "NAN", "NaT", "None", "NULL", "Null", "null", "NA", "nil", "undefined", "Undefined"}
)
"""Also names of people and places: Null, None, Nan, Nil, Namibia (NA)."""


def _formula(text: str) -> JunkKind | None:
    if text.upper() in _ERRORS:
        return ERROR
    return HASHES if len(text) > 2 and not text.strip("#") else None


def _code(text: str) -> JunkKind | None:
    return ERROR if _CODE.fullmatch(text) else None


# --- numbers ------------------------------------------------------------------------------------------

_SCIENTIFIC = lazy_re(r"[+-]?[0-9](?:[.,][0-9]{1,14})?[eE]\+?([0-9]{1,3})")
_TELLING = 10
"""From this exponent on, spreadsheet programs write whole numbers this way by themselves."""
_WHOLE = lazy_re(r"[0-9]+[.,]0")
_NUMBERS = lazy_re(
    r"(?:^|[^a-z])(?:id|ids|no|nr|num|number|nummer|numero|numéro|número|nro|code|codigo|código|key|ref|reference"
    r"|referenz|sku|isbn|ean|gtin|upc|iban|imei|vat|ssn|zip|plz|postal|postcode|postleitzahl|cap|cep|cp|phone"
    r"|telephone|tel|telefon|telefono|téléphone|teléfono|telefone|mobile|mobil|cell|handy|móvil|cellulare|fax"
    r"|whatsapp|account|konto|compte|cuenta|customer|kunde|client|cliente|member|mitglied|order|bestellung"
    r"|invoice|rechnung|ticket|barcode|serial|tracking)(?:$|[^a-z])"
    r"|(?:nummer|nr|number|phone|telefon|telefoon)\.?$"
    r"|番号|電話|郵便|编号|编码|电话|手机|订单|邮编|號碼|电子|번호|전화|номер|телефон|код",
    re.IGNORECASE,
)
"""Headings of columns whose numbers are identifiers: nobody calculates with them."""


def names_something(heading: str) -> bool:
    """Return whether a column with this heading contains ids, telephone numbers or zip codes."""
    return _NUMBERS.search(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", heading.replace("_", " "))) is not None


def exponent(text: str, *, name: bool) -> JunkKind | None:
    """Judge a number with an exponent; *name*: in a column whose numbers are identifiers."""
    found = _SCIENTIFIC.fullmatch(text)
    return EXPONENT if found and (name or int(found[1]) >= _TELLING) else None


def decimal_id(text: str, *, name: bool) -> JunkKind | None:
    """Judge a whole number with a decimal, as pandas writes a column with empty cells."""
    return DECIMAL_ID if name and _WHOLE.fullmatch(text) else None


# --- markup --------------------------------------------------------------------------------------------

_KEPT = lazy_re(r"=\s*\"([^\"]*)\"|='([^']*)'|=T\(\"([^\"]*)\"\)|'[0-9]+")
_ENTITY = lazy_re(r"&(?:#[0-9]{2,6}|#[xX][0-9a-fA-F]{2,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_ESCAPE = lazy_re(r"\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}")
_PERCENT = lazy_re(r"%(?:C[2-9A-F]|D[0-9A-F])%[89AB][0-9A-F]|%E[0-9A-F](?:%[89AB][0-9A-F]){2}", re.IGNORECASE)
_FIELD = lazy_re(
    r"\*\|[^|\n]{1,80}\|\*|%%[^%\s]{1,80}%%"
    r"|«(?=[^»]*_|[^»]*(?:name|nom|anrede|firma|mail|addr|adress))[\w ]{1,80}»|<<[\w .:-]{1,80}>>"
    r"|\[\[[^\[\]\n]{1,80}\]\]|\$\{[^{}\n]{1,80}\}|\{![^{}\n]{1,80}\}|#\{[^{}\n]{1,80}\}|\{\$[\w.]{1,80}\}"
    r"|%(?:FIRST|LAST|FULL)?_?-?NAME%|\[(?:FIRST|LAST|FULL)[ _-]?NAME\]|\{(?:first|last|full)[ _-]?name\}",
    re.IGNORECASE,
)
_OWN_FIELD = lazy_re(r"\{\{[^{}]{0,200}\}\}|\{%[^{}]{0,200}%\}")
_AT = lazy_re(
    r"[\w.+-]+\s*[(\[{<]\s*(?:at|a|ät|arroba|chez|bei|собака)\s*[)\]}>]\s*[\w-]+(?:\s*(?:\.|[(\[{<]\s*(?:dot|punkt|point"
    r"|punto|ponto)\s*[)\]}>])\s*[\w-]+)*",
    re.IGNORECASE,
)


def _kept(text: str) -> JunkKind | None:
    return QUOTED if _KEPT.fullmatch(text) else None


def _entity(text: str) -> JunkKind | None:
    return MARKUP if any(_is_entity(found[0]) for found in _ENTITY.finditer(text)) else None


@cache
def _names() -> frozenset[str]:
    from html.entities import html5

    return frozenset(name for name in html5 if name.endswith(";"))


def _is_entity(text: str) -> bool:
    return text[1] == "#" or text[1:] in _names()


def _escape(text: str) -> JunkKind | None:
    return ESCAPED if _ESCAPE.search(text) else None


def _percent(text: str) -> JunkKind | None:
    return ESCAPED if _PERCENT.search(text) and "/" not in text else None


def _merge_field(text: str) -> JunkKind | None:
    if _FIELD.search(text):
        return MERGE_FIELD
    return OWN_FIELD if _OWN_FIELD.search(text) else None


def _hidden_at(text: str) -> JunkKind | None:
    return HIDDEN_AT if _AT.fullmatch(text) else None


def _object(text: str) -> JunkKind | None:
    return NO_OBJECT if "[object " in text else None


# --- text in the wrong encoding --------------------------------------------------------------------------

_LOST = lazy_re("锟斤拷|ï¿½|烫烫烫")
"""Replacement characters that were decoded once more, and uninitialised memory."""
_SURE = lazy_re("Ã[¡-¬®-¿Ÿœ„‰]|â€[™œ˜“”¦–—¢\x9d\x9c]|ï»¿|ðŸ|Â[¡-¬®-¿]")
"""UTF-8 that was read as a Western code page, even if another part of the cell is right."""
_WESTERN = {char: octet for octet, char in enumerate(bytes(range(256)).decode("cp1252", "replace"))}
_WESTERN |= {chr(octet): octet for octet in range(0x80, 0xA0)}  # as in Latin-1
_FOLLOWING = "".join(char for char, octet in _WESTERN.items() if 0x80 <= octet < 0xC0 and char != "\ufffd")
"""What the second octet of a character becomes."""
_CODE_PAGES = ("cp1250", "cp1251", "cp1254", "mac_roman", "cp850", "cp437", "koi8_r", "cp866")
_IMPOSSIBLE = lazy_re(
    "(?<![^\x00-\x7f])[^\x00-\x7f](?![^\x00-\x7f])|[^\x00-\u25ff\uf8ff\ufb01\ufb02\ufffd-\uffff]"
)
"""A single octet over 0x7F, which UTF-8 does not have, or a character that is in none of these code pages."""
_BEGINNINGS = "√¬├┬ĂĹĽГВРСОУЦ╨╤п"
"""What the first octet of a character becomes in these, in names."""
_NO_LETTERS = "√├Ă"
_EAST_ASIAN = lazy_re(
    "(?:(?<=[A-Za-z])|(?=.[a-z]))[\u4e00-\u9fff\uac00-\ud7a3\uff61-\uff9f]|[縺繧繝邪芯懈褌谢袗鐨浣锛銆鐜鏉鍙]"
)
"""Latin letters among those of other scripts, and what the first octets of frequent characters become."""
_LETTER = lazy_re(
    "[\u00aa\u00b2-\u00be\u00c0-\u024f\u1e00-\u1eff]|([\u0370-\u052f\u0531-\u058f\u05d0-\u05ea\u0620-\u06ff"
    "\u0900-\u0e7f\u10a0-\u10ff\u1f00-\u1fff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3])|[\u2010-\u2026\u20ac\u2122"
    "\u00a0-\u00b7\u2190-\u27bf\u3000-\u3002\uff00-\uffef\U0001f000-\U0001faff\ufe0f\u200d\ufeff]"
)
"""Characters that may result: Latin letters, letters of other scripts (in a group), and signs."""


_LATIN = lazy_re("[A-Za-z\u00c0-\u024f]")


def garbled(text: str) -> str | None:
    """Return the intended text if this is UTF-8 that was read in another encoding; None if it is not.

    The text is encoded in the code page that it may have been read in; the result must be UTF-8, with letters
    that form words.
    """
    if _LOST.search(text):
        return ""
    possible = not _IMPOSSIBLE.search(text)
    if possible:
        with contextlib.suppress(KeyError, UnicodeDecodeError):
            found = bytes([_WESTERN[char] for char in text]).decode("utf-8")
            if len(found) < len(text) and _makes_sense(found, alone=False):
                return garbled(found) or found
    if _SURE.search(text):
        return ""
    for page in _CODE_PAGES if possible else ():
        with contextlib.suppress(UnicodeError):
            found = text.encode(page).decode("utf-8")
            inside = re.search("[A-Za-z][^\x00-\x7f]|[^\x00-\x7f][a-z]", text) is not None
            several = sum(not char.isascii() for char in found) > 1 or text[0] in _NO_LETTERS
            if len(found) < len(text) and (inside or several) and _makes_sense(found, alone=inside):
                return found
    return _garbled_east_asian(text) if _EAST_ASIAN.search(text) else None


def _garbled_east_asian(text: str) -> str | None:
    for page in ("gb18030", "cp932", "cp949", "big5"):
        with contextlib.suppress(UnicodeError):
            found = text.encode(page).decode("utf-8")
            if found != text and _makes_sense(found, alone=True):
                return found
    return None


def _makes_sense(found: str, *, alone: bool) -> bool:
    """Return whether the result is plausible text: signs in use, and no word with letters of two scripts.

    *alone*: one letter may be all that was found, even one of another script.
    """
    letters = 0
    foreign = False
    for word in found.split():
        matches = [_LETTER.match(char) for char in word if not char.isascii()]
        if not all(matches):
            return False
        others = any(match and match[1] for match in matches)
        if others and _LATIN.search(word):
            return False
        foreign = foreign or others
        letters += len(matches)
    return alone or letters > 1 or (letters == 1 and not foreign)


def _may_be_garbled(block: str) -> bool:
    """Return whether a block that is not ASCII may contain such a cell."""
    if any(char in block for char in _FOLLOWING) or any(char in block for char in _BEGINNINGS):
        return True
    try:
        block.encode("latin-1")
    except UnicodeEncodeError:
        return bool(_EAST_ASIAN.search(block)) or bool(_LOST.search(block))
    return False


def _garbled(text: str) -> JunkKind | None:
    if text.isascii():
        return None
    found = _garbled_name(text) if len(text) <= _LONGEST_NAME else garbled(text)
    return None if found is None else GARBLED


_LONGEST_NAME = 100
_garbled_name = lru_cache(maxsize=4096)(garbled)
"""The same for short texts: names and cities repeat."""


# --- a block of cells ------------------------------------------------------------------------------------

_SEARCHES: tuple[tuple[str, Callable[[str], JunkKind | None]], ...] = (
    ("#", _formula),
    (":", _code),
    ("[", _object),
    ("=", _kept),
    ("'", _kept),
    ("&", _entity),
    ("\\", _escape),
    ("%", _percent),
    *((mark, _merge_field) for mark in "{*%«<["),
    *((mark, _hidden_at) for mark in "([{<"),
)
"""What a cell must contain, and its judge; searching for one character is ten times as fast as for two."""


def search(block: str, cells: Sequence[str], *, name: bool) -> Iterator[tuple[int, JunkKind]]:
    """Find the junk in a block of cells, whose ends are trimmed.

    Args:
        block: all cells, joined.
        cells: the cells.
        name: whether the column's numbers are identifiers.

    Yields:
        The position of each such cell, and its kind of junk; a cell may be yielded twice.

    """
    if not _REPEATED.isdisjoint(cells):
        for at, cell in enumerate(cells):
            if cell in _REPEATED:
                yield at, NOTHING if cell in _DOUBTFUL else NO_OBJECT
    for needle, judge in _SEARCHES:
        if needle in block:
            yield from _judged(cells, judge, needle)
    if ("E" in block or "e" in block) and (name or "+" in block):
        yield from _judged(cells, lambda cell: exponent(cell, name=name), "" if name else "+")
    for needle in (".0", ",0") if name else ():
        if needle[0] in block:
            yield from _judged(cells, lambda cell: decimal_id(cell, name=name), needle)
    if not block.isascii() and _may_be_garbled(block):
        yield from _judged(cells, _garbled)


def _judged(
    cells: Sequence[str], judge: Callable[[str], JunkKind | None], needle: str = ""
) -> Iterator[tuple[int, JunkKind]]:
    for at, cell in enumerate(cells):
        if cell and needle in cell and (kind := judge(cell)) is not None:
            yield at, kind
