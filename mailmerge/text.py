"""Text and figures as people read them: escaping, quoting, near misses, plurals, spans of time, sizes.

It uses none of the program's own types, so that everything may use it.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING

from mailmerge.lazy_re import lazy_re

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

_SIMILAR = 0.7
"""Share of letters that a near miss has in common with the name that was meant, as difflib counts it."""
_ALMOST_EQUAL = 0.87
_MOST_MISSES = 3


# --- text from outside ------------------------------------------------------------------------------


def printable(text: str) -> str:
    """Return *text* on one line with every control, bidi and other invisible character as an escape.

    What is printable here can neither control a terminal nor change the direction of the text around it.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


def excerpt(text: str, limit: int = 40) -> str:
    """Return the first *limit* characters of *text*, printable, with a mark where it was cut."""
    return printable(text[:limit]) + ("…" if len(text) > limit else "")


def quoted(value: object, limit: int = 60) -> str:
    """Return *value* for a message: in double quotes, shortened to *limit*, everything invisible escaped."""
    text = str(value)
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    escaped = (c if c.isprintable() and c not in '"\\' else json.dumps(c)[1:-1] for c in text)
    return f'"{"".join(escaped)}"'


def toml_key(name: str) -> str:
    """Return a name as TOML requires it left of ``=``: in quotes unless it is ASCII letters and digits."""
    if re.fullmatch(r"[A-Za-z0-9_-]+", name):
        return name
    return toml_value(name)


def toml_value(value: object) -> str:
    """Return a value as TOML, on one line; whatever is invisible in a string is escaped."""
    if isinstance(value, dict):
        pairs = ", ".join(f"{toml_key(name)} = {toml_value(entry)}" for name, entry in value.items())
        return f"{{ {pairs} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    quoted_ = json.dumps(str(value), ensure_ascii=False)  # TOML's escapes include those of JSON
    return "".join(
        char
        if char.isprintable()
        else f"\\u{ord(char):04x}"
        if ord(char) < 0x10000
        else f"\\U{ord(char):08x}"
        for char in quoted_
    )


BLANKS = (
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008"
    "\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
"""Spaces and line ends of all scripts."""
LONE_SURROGATE = "[\ud800-\udfff]"
"""A pattern: half a character, which no file and no message can contain."""
HALF_A_CHARACTER = "half a character (lone surrogate)"
"""Its name in messages."""
_EMBEDDINGS = "\u202a\u202b\u202c\u2066\u2067\u2068\u2069"
_EMBEDDED = lazy_re(f"[{_EMBEDDINGS}\u202d\u202e]")
_MARKS = "\u00ad\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
INVISIBLE = _MARKS + _EMBEDDINGS
"""Marks without any width: soft hyphen, zero-width space and joiners, byte order mark, those of direction."""


def trimmed(text: str) -> str:
    """Remove what is invisible at both ends: spaces of all kinds, line ends, marks without any width.

    What is inside stays. So do marks that override the direction, which are deliberate, and the ends of those
    that embed a part of the text.
    """
    if text.isascii():
        return text.strip()
    found = text.strip(BLANKS + INVISIBLE)
    return text.strip(BLANKS + _MARKS) if _EMBEDDED.search(found) else found


# --- columns of a terminal ---------------------------------------------------------------------------


def width(text: str) -> int:
    """Return how many cells of a terminal *text* takes, which is `printable`.

    Chinese characters and emoji take two cells, joined emoji two together, combining marks none: Unicode's
    tables and the rules of grapheme clusters, as wcwidth keeps them.
    """
    if text.isascii():
        return len(text)
    from wcwidth import wcswidth

    return max(0, wcswidth(text))


def padded(text: str, cells: int, *, right: bool = False) -> str:
    """Return *text*, printable, filled up with spaces to so many *cells*; *right* puts it at their end."""
    shown = printable(text)
    room = " " * (cells - width(shown))
    return room + shown if right else shown + room


def cut(text: str, cells: int) -> str:
    """Return as much of *text*, printable, as fits into so many *cells*, with a mark where it was cut."""
    shown = printable(text)
    if width(shown) <= cells:
        return shown
    from wcwidth import clip

    return str(clip(shown, 0, cells - 1)).rstrip() + "…"


# --- near misses ------------------------------------------------------------------------------------


_OTHER_ENTITY = lazy_re(r"&(?!(?:amp|lt|gt|quot|#34|#39);)")
_FEW = 100


def unescaped(text: str) -> str:
    """Return HTML text without its entities, as `html.unescape` does; many that escaping made cost little."""
    if text.count("&") > _FEW and not _OTHER_ENTITY.search(text):
        for entity, sign in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&#34;", '"'), ("&#39;", "'")):
            text = text.replace(entity, sign)
        return text.replace("&amp;", "&")  # last: what it makes must not be read as an entity
    from html import unescape  # its table of entities takes a while to load, and most commands need none

    return unescape(text)


def near(name: str, names: Iterable[str], *, strict: bool = False) -> tuple[str, ...]:
    """Return at most three of *names* that *name* was probably meant to be, best first.

    Case does not count, and a space, hyphen or underscore are the same. *strict* is for names where a
    similar one is often right as well, such as domains: it accepts only almost equal ones.
    """
    import difflib

    word = _folded(name)
    matcher = difflib.SequenceMatcher(None, b=word)  # it keeps what it learnt about its second text
    ranked = []
    for candidate in names:
        other = _folded(candidate)
        matcher.set_seq1(other)
        slip = not strict and one_slip(word, other)
        ratio = matcher.ratio()
        if slip or ratio >= (_ALMOST_EQUAL if strict else _SIMILAR):
            ranked.append((not slip, -ratio, candidate))
    ranked.sort()
    slips = [candidate for far, _, candidate in ranked if not far]
    return tuple(slips or [candidate for _, _, candidate in ranked])[:_MOST_MISSES]


def did_you_mean(name: str, names: Iterable[str]) -> str | None:
    """Return the hint that names the near misses; None: there are none."""
    found = [f"`{candidate}`" for candidate in near(name, names)]
    return f"did you mean {' or '.join(found)}?" if found else None


def _folded(name: str) -> str:
    return name.casefold().replace(" ", "_").replace("-", "_")


def one_slip(one: str, other: str) -> bool:
    """Return whether one letter was left out, added, changed or swapped: difflib is blind in short words."""
    if one == other:
        return True
    if len(one) > len(other):
        one, other = other, one
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
    if len(one) < len(other):
        return one[at:] == other[at + 1 :]
    swapped = one[:at] + one[at + 1 : at + 2] + one[at : at + 1] + one[at + 2 :]
    return one[at + 1 :] == other[at + 1 :] or swapped == other


def joined_columns(names: Iterable[str]) -> str:
    """Return the hint that names the expression for all these columns together: ``email ~ ' ' ~ name``."""
    return f"""for several columns write {" ~ ' ' ~ ".join(names)}"""


# --- figures ----------------------------------------------------------------------------------------


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """Write a count with its noun: ``1 row``, ``2,000 rows``; *nouns* where an "s" does not make it many."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def figure(value: float) -> str:
    """Write a number with about three digits, never with an exponent: ``30,000``, ``33.3``, ``0.0125``."""
    if value == 0 or abs(value) >= 99.95:
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def slowed_down(times: int, longest: float, last: float, full: float) -> str:
    """Return how a server's complaints changed the pace: the longest, the last and the usual interval."""
    often = "once" if times == 1 else f"{times} times"
    lowest, now = (60 / interval if interval else 0.0 for interval in (longest, last))
    back = "back to full speed" if last <= full else f"{figure(now)}/min"
    return f"slowed down {often} at the server's request: lowest rate {figure(lowest)}/min, {back} at the end"


def local_time(moment: datetime, now: datetime, *, seconds: bool = False) -> str:
    """Write a moment in local time: its time of day if that day is the one of *now*, else with the date."""
    local = moment.astimezone()
    if local.date() != now.astimezone().date():
        return f"{local:%Y-%m-%d %H:%M}"
    return f"{local:%H:%M:%S}" if seconds else f"{local:%H:%M}"


def numbers(rows: Iterable[int], *, more: bool = False) -> str:
    """Write row numbers: ``2, 17, 30``; *more* says that there are others."""
    return ", ".join(map(str, rows)) + (", ..." if more else "")


def rows_named(rows: Sequence[int], most: int = 12) -> str:
    """Name rows in a sentence, the first of them: ``row 2``, ``rows 2, 3, 5``."""
    named = numbers(rows[:most], more=len(rows) > most)
    return f"row {named}" if len(rows) == 1 else f"rows {named}"


def attachments(counts: Mapping[int, int]) -> str:
    """Write how many messages have how many attachments: ``1 per message (4), none (2)``."""
    return ", ".join(
        f"{f'{count} per message' if count else 'none'} ({messages:,})"
        for count, messages in sorted(counts.items(), reverse=True)
    )


def duration(seconds: float) -> str:
    """Write a span of time with at most two units: ``0.25 s``, ``12 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds < 1:
        return f"{seconds:.2g} s" if seconds >= 0.001 else "under 1 ms"
    if seconds < 10 and not float(seconds).is_integer():
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 and whole < 600 else "")
    if whole < 86_400:
        return f"{whole // 3600} h" + (f" {whole % 3600 // 60:02d} min" if whole % 3600 // 60 else "")
    return f"{whole // 86_400} d" + (f" {whole % 86_400 // 3600} h" if whole % 86_400 // 3600 else "")


def octets(number: int) -> str:
    """Write a number of octets for people, in steps of a thousand: ``940 B``, ``14.2 KB``, ``3.1 MB``."""
    if number < 1000:
        return f"{number} B"
    if number < 1_000_000:
        return f"{number / 1000:.1f} KB"
    return f"{number / 1_000_000:.1f} MB"


# --- cells of ours -----------------------------------------------------------------------------------

_BEGINNINGS = r"=+\-@\t\r\uff0b\uff0d\uff1d\uff20"
_STARTS = f"[{_BEGINNINGS}]"
_FORMULA = lazy_re(rf"(\A|[,;\t\r\n][ \"]*)(?='*{_STARTS})")
_HARMLESS = lazy_re(rf"(?:[^'{_BEGINNINGS},;\n][^,;\t\r\n]*)?")
"""What most cells are: nothing to guard, detected faster."""
_GUARDED = lazy_re(rf"(\A|[,;\t\r\n][ \"]*)'(?='*{_STARTS})")


def guarded(text: str) -> str:
    """Return text as a cell that no spreadsheet program reads as a formula: with an apostrophe before it.

    A program with another separator splits the cells of a table once more, and line ends begin a row for it:
    what follows any of them is guarded as well.
    """
    return text if _HARMLESS.fullmatch(text) else _FORMULA.sub(r"\1'", text)


def guarded_row(cells: Iterable[str | int | None]) -> list[str | int | None]:
    """Return the cells of a row for a CSV file, its texts `guarded`."""
    return [guarded(cell) if isinstance(cell, str) else cell for cell in cells]


def unguarded(text: str) -> str:
    """Return the text that was passed to `guarded`."""
    return _GUARDED.sub(r"\1", text)
