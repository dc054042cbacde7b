"""A template that is a whole message: a block of headers, an empty line, and the body.

This is how awdeorio's mailmerge writes templates. There the file is one template, and its result is parsed as
a message; here each header is a separate template, so a value can neither begin a header nor end the block.
Tags on a line of their own count as the empty line that they leave, unless they strip it (``-%}``).
"""

from __future__ import annotations

import re
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from mailmerge.errors import TemplateError
from mailmerge.model import Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TAG: Final = re.compile(
    r"""(?x) \{\{ (?: "(?:\\.|[^"\\])*+" | '(?:\\.|[^'\\])*+' | (?!\{[\{%]) [^"'] )*? \}\}
        | \{% (?: "[^"]*+" | '[^']*+' | (?!\{%) [^"'] )*? %\}
        | \{\# (?: (?!\{\#) . )*? \#\}""",
    re.DOTALL,
)
"""A tag of Jinja2; for one that does not end the search stops at the next one."""
_HEADER: Final = re.compile(r"([!-9;-z|~]+)[ \t]*:(.*)", re.DOTALL)
_STATEMENT: Final = re.compile(r"\{%[-+]?\s*(\w+)\s*(.*?)\s*[-+]?%\}", re.DOTALL)
_ENCODED: Final = re.compile(r"(?:=\?[\w*-]{1,40}\?[bBqQ]\?[^?\s]{0,998}\?=)+")
_DEFINES: Final = frozenset({"set", "import", "from"})
_BRANCHES: Final = frozenset({"if", "elif", "else", "endif"})
_KNOWN: Final = re.compile(
    r"(?:to|from|subject|cc|bcc|reply-to|sender|attachment|content-type|mime-version|date)\s*:", re.IGNORECASE
)


_LONGEST: Final = 20_000
_DEEPEST: Final = 20


class HeaderField(Struct):
    """One header as it was written."""

    name: str
    """The name in lower case."""
    written: str
    """The name as it was written."""
    value: str
    """A template."""
    place: Place
    condition: str = ""
    """The expression on which it depends; empty: it is unconditional."""


class HeaderBlock(Struct):
    """A template split into its headers and its body."""

    headers: list[HeaderField] = field(default_factory=list)
    defines: str = ""
    """Statements that define names for everything below them."""
    body: str = ""
    body_line: int = 1
    """The line of the file in which the body begins."""

    def every(self, name: str) -> list[HeaderField]:
        """Return the headers of a name, in order."""
        return [header for header in self.headers if header.name == name]


def begins_with_headers(text: str) -> bool:
    """Return whether a template begins with a header of messages."""
    plain = TAG.sub("", text[:4096]).lstrip()
    return _KNOWN.match(plain) is not None


def read_header_block(text: str, shown: str, first_line: int = 1) -> HeaderBlock:
    """Split a template into headers and body.

    Args:
        text: the template.
        shown: the file's name in messages.
        first_line: the number of its first line in that file.

    Raises:
        TemplateError: headers depend on a condition in a way that our headers cannot (C541).

    """
    return _HeaderReader(text, shown, first_line).read()


class _HeaderReader:
    """One pass over the lines of the block."""

    def __init__(self, text: str, shown: str, first_line: int) -> None:
        self._shown = shown
        self._lines = list(_logical_lines(text, first_line))
        self._conditions: list[list[str]] = []
        """For each open ``if``: its conditions so far, of which the last one is true."""
        self.block = HeaderBlock()

    def read(self) -> HeaderBlock:
        at = 0
        while at < len(self._lines) and self._take(at):
            at += 1
        if at < len(self._lines) and not self._lines[at][1].strip():
            at += 1
        if self._conditions:
            raise self._refusal(self._lines[max(0, at - 1)][0], "an `if` that begins among the headers")
        self._decode()
        self.block.body = "\n".join(line for _, line in self._lines[at:])
        self.block.body_line = self._lines[at][0] if at < len(self._lines) else 1
        return self.block

    def _take(self, at: int) -> bool:
        """Read a line; return False if the block has ended before it."""
        number, line = self._lines[at]
        if not line.strip():
            return False
        if line[0] in " \t" and self.block.headers and not _STATEMENT.match(line.strip()):
            last = self.block.headers[-1]
            last.value = f"{last.value} {line.strip()}"
            if len(last.value) > _LONGEST:
                raise self._refusal(number, f"a header of more than {_LONGEST:,} characters")
            return True
        return self._take_tags(number, line, at)

    def _take_tags(self, number: int, line: str, at: int) -> bool:
        rest, pending = line.strip(), len(self._conditions)
        alone = not TAG.sub("", line).strip() and "{{" not in line
        if alone and not self._removes_its_line(line, at):
            return False
        while tag := TAG.match(rest):
            if tag[0].startswith("{{"):
                break
            self._statement(tag[0], number)
            rest = rest[tag.end() :].lstrip()
        ends: list[str] = []
        while len(self._conditions) > pending and (tail := re.search(r"\{%[-+]?\s*endif\s*[-+]?%\}\Z", rest)):
            ends.append(tail[0])
            rest = rest[: tail.start()].rstrip()
            pending += 1
        if rest:
            found = _HEADER.match(rest)
            if found is None or "{" in found[1]:
                return False
            self._add(number, line, found)
        for end in ends:
            self._statement(end, number)
        return True

    def _removes_its_line(self, line: str, at: int) -> bool:
        following = self._lines[at + 1][1] if at + 1 < len(self._lines) else ""
        own = line.lstrip().startswith(("{%-", "{#-")) or line.rstrip().endswith(("-%}", "-#}"))
        return own or following.startswith(("{%-", "{#-", "{{-"))

    def _statement(self, tag: str, number: int) -> None:
        if tag.startswith("{#"):
            return
        found = _STATEMENT.match(tag)
        word, rest = (found[1], found[2]) if found else ("", "")
        if word in _DEFINES and not self._conditions:
            self.block.defines += tag
        elif word == "if":
            self._conditions.append([rest])
            if len(self._conditions) > _DEEPEST:
                raise self._refusal(number, f"more than {_DEEPEST} nested conditions")
        elif word in _BRANCHES and self._conditions:
            open_one = self._conditions[-1]
            if word == "endif":
                self._conditions.pop()
            else:
                open_one.append(rest or "true")
        else:
            raise self._refusal(number, f"a `{word}` among the headers")

    def _add(self, number: int, line: str, found: re.Match[str]) -> None:
        value = found[2].strip()
        start = line.find(value) + 1 if value else 1
        place = Place(self._shown, number, start, max(1, len(value)), line)
        self.block.headers.append(
            HeaderField(found[1].lower(), found[1], value, place, joined_conditions(self._conditions))
        )

    def _decode(self) -> None:
        """Decode encoded words (RFC 2047, section 2): they are encoded again when sent."""
        for header in self.block.headers:
            if "=?" in header.value:
                header.value = _decoded(header.value)

    def _refusal(self, number: int, what: str) -> TemplateError:
        return TemplateError(
            f"{what} cannot be translated",
            code="C541",
            hint="put what depends on the row into the value of a header, or into a column of the list",
            place=Place(self._shown, number),
        )


def joined_conditions(blocks: Iterable[list[str]]) -> str:
    """Return the conditions of nested blocks as one expression.

    Args:
        blocks: for each open ``if``: its conditions so far, of which the last one is true.

    """
    parts = []
    for branches in blocks:
        *before, last = branches
        parts += [f"not ({one})" for one in before]
        parts += [f"({last})"] if last != "true" else []
    return " and ".join(parts)


def _decoded(value: str) -> str:
    """Decode the encoded words of a header, except those that cannot be or would be template code."""
    between = re.sub(r"(\?=)[ \t]+(?==\?)", r"\1", value)  # spaces between two of them do not count
    return _ENCODED.sub(_decoded_words, between)


def _decoded_words(found: re.Match[str]) -> str:
    try:
        text = str(make_header(decode_header(found[0])))
    except (HeaderParseError, LookupError, UnicodeDecodeError, ValueError):
        return found[0]
    return text if text.isprintable() and not re.search(r"[{}<>,]", text) else found[0]


def _logical_lines(text: str, first: int) -> Iterator[tuple[int, str]]:
    """Yield the lines with their numbers; a line that ends within a tag continues."""
    masked = TAG.sub(lambda tag: tag[0].replace("\n", "\0"), text)
    number = first
    for line in masked.split("\n"):
        yield number, line.replace("\0", "\n").rstrip("\r")
        number += 1 + line.count("\0")
