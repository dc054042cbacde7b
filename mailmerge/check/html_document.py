"""The HTML of messages as rules read it: a parsed document, or the tags of every row.

A parsed document (`HtmlDocument`) takes milliseconds and is made for the first message of each layout. What
has to be checked in every row is read tag by tag from the chunks that the template yielded (`TagReader`):
nearly all of a body is the same in every row, and so are nearly all of its tags. For each fixed chunk, the
reader remembers the whole tags in it, and whether a tag is still open at its end. Per row, only a tag that a
value is part of has to be assembled, and not even that where plain values (a token, a number) are known
to make no difference.
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cached_property, lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from mailmerge.check.shapes import joining

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence

    from lxml.etree import _Element as Element
    from tinycss2.ast import Node

    from mailmerge.check.shapes import Shape

LARGEST = 1_000_000
"""Longer HTML, in characters, is not parsed."""
_MOST_TAGS = 20_000
"""Nor is HTML of more tags: a cell that is HTML can have many times as many as any message."""

LINE_BREAK = "br(?: ?/)?>"
"""A tag that no rule is about, and is read as a space; a cell of many thousand lines has as many of them."""
_TAG = re.compile(
    rf"""<(?!{LINE_BREAK})([a-zA-Z][^\s/<>]*)(?:"[^"]{{0,4000}}"|'[^']{{0,4000}}'|[^<>"']+){{0,200}}+>"""
)
"""A tag with its attributes, each of a bounded length: no input takes long to search."""
_UNSEEN = frozenset({"head", "script", "style", "title", "template", "noscript"})
_HIDDEN = re.compile(
    r"display\s*:\s*none|mso-hide\s*:\s*all|visibility\s*:\s*hidden|max-height\s*:\s*0", re.IGNORECASE
)
_BLANK = re.compile(r"[\s\u00a0\u00ad\u034f\u200b-\u200f\u2007\ufeff]+")


# --- a whole document --------------------------------------------------------------------------------


class HtmlDocument:
    """A parsed HTML body; parsing it never loads anything.

    Args:
        chunks: the HTML in the pieces that the template yielded.
        root: the root element of the tree.

    """

    def __init__(self, chunks: Sequence[str], root: Element) -> None:
        self.chunks = chunks
        self.html = "".join(chunks)
        self.root = root
        self._styles: dict[Element, dict[str, str]] = {}

    @classmethod
    def parse(cls, chunks: Sequence[str]) -> HtmlDocument | None:
        """Parse HTML as leniently as a mail program does; None: it is empty or too large."""
        from lxml import etree

        if sum(map(len, chunks)) > LARGEST:
            return None
        source = "".join(chunks).encode("utf-8", "replace").replace(b"\0", b" ")
        for tag in (b"<br>", b"<br/>", b"<br />"):
            source = source.replace(tag, b" " * len(tag))
        if source.count(b"<") > _MOST_TAGS:
            return None
        try:
            root = etree.fromstring(source, etree.HTMLParser(encoding="utf-8", no_network=True))
        except (etree.ParserError, etree.XMLSyntaxError):  # for example, only comments or white space
            return None
        return None if root is None else cls(chunks, root)

    @cached_property
    def elements(self) -> list[Element]:
        """All elements in document order, without comments and plain line breaks."""
        return [element for element in self.root.iter() if isinstance(element.tag, str)]

    def all(self, *tags: str) -> Iterator[Element]:
        """Yield the elements with one of these tag names, in document order."""
        return (element for element in self.elements if element.tag in tags)

    @cached_property
    def _offsets(self) -> dict[Element, tuple[int, int]]:
        """Where each element's tag starts in the HTML, and how long it is."""
        by_line: defaultdict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
        line, counted = 1, 0
        for match in _TAG.finditer(self.html):
            line += self.html.count("\n", counted, match.end())
            counted = match.end()
            # The parser's line number of an element is that of the end of its tag.
            by_line[line, match[1].lower()].append((match.start(), len(match[0].split("\n", 1)[0])))
        found = {}
        for element in self.elements:
            number: Any = element.sourceline
            spots = by_line.get((number, str(element.tag).lower()))
            if spots:
                found[element] = spots.pop(0)
        return found

    def spot(self, element: Element) -> tuple[int | None, int]:
        """Return the offset and length of an element's tag in the HTML; None: the parser implied it."""
        return self._offsets.get(element, (None, 1))

    def style(self, element: Element) -> dict[str, str]:
        """Return the declarations of an element's ``style`` attribute, names in lower case."""
        known = self._styles.get(element)
        if known is None:
            text = element.get("style") or ""
            known = {name: value for name, value, _ in declarations(text)} if text else {}
            self._styles[element] = known
        return known

    def hidden(self, element: Element) -> bool:
        """Return whether an element, or one around it, is not shown."""
        node: Element | None = element
        while node is not None:
            if _unseen(node):
                return True
            node = node.getparent()
        return False

    def words(self, element: Element) -> str:
        """Return the text of an element and the ``alt`` texts in it, runs of white space folded."""
        parts: list[str] = []
        for node in element.iter():
            if isinstance(node.tag, str) and node.tag not in _UNSEEN:
                parts += (node.text or "", " ", node.get("alt") or "" if node.tag == "img" else "")
            if node is not element:
                parts.append(node.tail or "")
        return _folded("".join(parts))

    @cached_property
    def visible(self) -> tuple[tuple[Element, str], ...]:
        """Every piece of text that is shown, with the element it is in."""
        body = self.root.find("body")
        return tuple(self._visible(self.root if body is None else body))

    def _visible(self, top: Element) -> Iterator[tuple[Element, str]]:
        unseen: set[Element] = set()
        for node in top.iter():
            parent = node.getparent()
            if isinstance(node.tag, str):
                if parent in unseen or _unseen(node):
                    unseen.add(node)
                elif text := _folded(node.text):
                    yield node, text
            outside = node is top or parent is None or parent in unseen
            if not outside and parent is not None and (tail := _folded(node.tail)):
                yield parent, tail

    @cached_property
    def shown_text(self) -> str:
        """Everything that is shown, as one string."""
        return " ".join(text for _, text in self.visible)

    @cached_property
    def sheets(self) -> list[tuple[Element, list[Node]]]:
        """The ``<style>`` elements with their rules."""
        return [(element, _stylesheet(element.text or "")) for element in self.all("style")]


def _unseen(element: Element) -> bool:
    """Return whether the element itself is not shown."""
    style = element.get("style")
    return (
        element.tag in _UNSEEN
        or element.get("hidden") is not None
        or (style is not None and _HIDDEN.search(style) is not None)
    )


def _folded(text: str | None) -> str:
    return _BLANK.sub(" ", text).strip() if text else ""


_BRACKET = re.compile(r"[({\[\])}]")
_DEEPEST = 40
_DIGITS = re.compile(r"[0-9]{400,}")


_LONGEST_STYLE = 8192
_LONGEST_STYLESHEET = 65_536


def _readable(css: str, longest: int) -> str:
    """Return a style in a form that is safe for tinycss2, which is recursive and reads integers with ``int``.

    A style that is longer, or more deeply nested, than any mail program supports counts as empty.
    """
    if len(css) > longest:
        return ""
    depth = 0
    for bracket in _BRACKET.findall(css):
        depth += 1 if bracket in "({[" else -1 if depth else 0
        if depth > _DEEPEST:
            return ""
    return _DIGITS.sub("0", css)


@lru_cache(maxsize=512)  # all layouts of a campaign have the same few
def declarations(text: str) -> tuple[tuple[str, str, list[Node]], ...]:
    """Return property, value and the value's tokens for each declaration of ``a:b; c:d``."""
    import tinycss2

    nodes = tinycss2.parse_blocks_contents(
        _readable(text, _LONGEST_STYLE), skip_comments=True, skip_whitespace=True
    )
    return tuple(
        (node.lower_name, tinycss2.serialize(node.value).strip().lower(), node.value)
        for node in nodes
        if node.type == "declaration"
    )


@lru_cache(maxsize=8)
def _stylesheet(text: str) -> list[Node]:
    import tinycss2

    css = _readable(text, _LONGEST_STYLESHEET)
    rules: list[Node] = tinycss2.parse_stylesheet(css, skip_comments=True, skip_whitespace=True)
    return rules


# --- the tags of every row ---------------------------------------------------------------------------

_Found = TypeVar("_Found")
_MOST = 10_000

# Where a chunk ends: between tags, inside a tag, or inside an attribute with one kind of quotes.
_BETWEEN, _IN_TAG, _DOUBLE, _SINGLE = "", ">", '"', "'"
_START = re.compile(rf"<(?!{LINE_BREAK})(?=[a-zA-Z])")
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]*", re.ASCII)
"""Values that cannot end anything or lead anywhere else."""
_WITHIN = re.compile(r""">|=\s*(["'])""")


class _Read(NamedTuple, Generic[_Found]):
    """What one chunk does to the tag that is open before it, and what it contains itself."""

    closing: str
    """The end of the tag that was open."""
    found: tuple[_Found, ...]
    """What was found in its whole tags."""
    opening: str
    """The beginning of a tag that it leaves open; or, without *closing*, all of it if one was open before."""
    end: str
    """Where it ends."""


_NOTHING = _Read[Any]("", (), "", _BETWEEN)
_NAMED = re.compile(r"<[a-zA-Z][^\s/<>]*[\s/]")
"""The beginning of a tag, from which its element can be told."""


class _ValueTag(NamedTuple):
    """A tag that values are part of."""

    pieces: tuple[str, ...]
    values: tuple[int, ...]
    """The indices of the values between them."""


class _TagPlan(NamedTuple, Generic[_Found]):
    """What to do about the tags of all bodies of a shape, and for which values that is valid."""

    between: Callable[[Sequence[str]], str]
    """Joins the values between tags: none may begin a tag."""
    plain: Callable[[Sequence[str]], str]
    double: Callable[[Sequence[str]], str]
    """Joins the values in double quotes: none may end them."""
    single: Callable[[Sequence[str]], str]
    items: tuple[_ValueTag | tuple[_Found, ...], ...]
    """In order: tags to check, and what was found in those that are the same in all rows."""

    def are_those_of(self, chunks: Sequence[str]) -> bool:
        """Return whether the values of a body leave all tags unchanged."""
        return (
            "<" not in self.between(chunks)
            and _PLAIN.fullmatch(self.plain(chunks)) is not None
            and _DOUBLE not in self.double(chunks)
            and _SINGLE not in self.single(chunks)
        )


class TagReader(Generic[_Found]):
    """Searches the tags of one row after the other.

    Args:
        fixed: the chunks that are the same in many rows.
        find: checks one whole tag.
        wanted: matches the beginning of the tags to check.
        settled: given the fixed pieces of a tag in which nothing was found: whether nothing can be found
            there with any plain values between them.

    """

    def __init__(
        self,
        fixed: Container[str],
        find: Callable[[str], Iterable[_Found]],
        wanted: re.Pattern[str],
        settled: Callable[[Sequence[str]], bool] = lambda _pieces: False,
    ) -> None:
        self._fixed = fixed
        self._find = find
        self._wanted = wanted
        self._settles = settled
        self._settled: dict[tuple[str, ...], bool] = {}
        self._plain: set[str] = set()
        self._idle: set[str] = set()
        """Fixed chunks that change nothing if no tag is open before them: most of them."""
        self._known: dict[str, dict[str, _Read[_Found]]] = {
            end: {} for end in (_BETWEEN, _IN_TAG, _DOUBLE, _SINGLE)
        }

    def read(self, chunks: Iterable[str]) -> Iterator[_Found]:
        """Yield what is found in the tags of one body.

        A chunk is looked up together with where the one before it ended: between tags, inside a tag, or
        inside an attribute. For a fixed chunk the result is always the same, so it is computed once.
        """
        where = _BETWEEN
        pieces: list[str] = [""]  # the open tag; plain values are between the pieces
        values: list[str] = []
        idle = self._idle
        for chunk in chunks:
            if where == _BETWEEN and chunk in idle:
                continue
            read = self._known[where].get(chunk)
            if read is None:
                if chunk in self._fixed:
                    read = self._read_fixed(chunk, where)
                elif where == _BETWEEN and "<" not in chunk:
                    continue  # a value between tags that starts none
                elif self._is_plain(chunk):
                    # It can neither end the attribute nor change where the link leads: the pieces around it
                    # decide.
                    values.append(chunk)
                    pieces.append("")
                    continue
                else:
                    read = self._read(chunk, where)
            if read.closing:
                pieces[-1] += read.closing
                yield from self._look_between(pieces, values)
                pieces, values = [""], []
            if read.found:
                yield from read.found
            pieces[-1] += read.opening
            where = read.end

    def read_shaped(self, chunks: Sequence[str], shape: Shape) -> Iterator[_Found]:
        """Yield what `read` yields, for a body of this *shape*."""
        for make in (self._quick, self._thorough):
            tags = shape.once(make)
            if tags is not None and tags.are_those_of(chunks):
                return (
                    chain.from_iterable(
                        self._look(_put_together(item, chunks)) if isinstance(item, _ValueTag) else item
                        for item in tags.items
                    )
                    if tags.items
                    else iter(())
                )
        return self.read(chunks)

    def _quick(self, shape: Shape) -> _TagPlan[_Found] | None:
        """Return what to do if values are plain."""
        return self._tags(shape, settles=self._settles)

    def _thorough(self, shape: Shape) -> _TagPlan[_Found] | None:
        """Return what to do if values may be anything that does not end an attribute."""
        return self._tags(shape, settles=lambda _pieces: False)

    def _tags(self, shape: Shape, settles: Callable[[Sequence[str]], bool]) -> _TagPlan[_Found] | None:
        items: list[_ValueTag | tuple[_Found, ...]] = []
        places: dict[str, list[int]] = {end: [] for end in self._known}
        where, pieces, values = _BETWEEN, [""], dict[int, str]()
        for place, chunk in enumerate(shape.chunks):
            if chunk is None:
                if where == _BETWEEN:
                    places[where].append(place)
                else:
                    values[place] = where
                    pieces.append("")
                continue
            read = self._known[where].get(chunk) or self._read_fixed(chunk, where)
            if read.closing:
                pieces[-1] += read.closing
                tag = _ValueTag(tuple(pieces), tuple(values))
                plain = False
                if not values:
                    items.append(tuple(self._look(pieces[0])))
                elif self._wanted.match(pieces[0]) or not _NAMED.match(pieces[0]):
                    plain = settles(pieces)
                    if not plain:
                        items.append(tag)
                for value, within in values.items():
                    places[_IN_TAG if plain else within].append(value)
                pieces, values = [""], {}
            items.append(read.found)
            pieces[-1] += read.opening
            where = read.end
        if values:
            return None  # in a tag that is not closed
        return _TagPlan(
            between=joining(places[_BETWEEN]),
            plain=joining(places[_IN_TAG]),
            double=joining(places[_DOUBLE]),
            single=joining(places[_SINGLE]),
            items=tuple(item for item in items if item),
        )

    def _read_fixed(self, chunk: str, where: str) -> _Read[_Found]:
        read = self._read(chunk, where)
        if len(self._known[where]) < _MOST:
            self._known[where][chunk] = read
            if where == _BETWEEN and read == _NOTHING:
                self._idle.add(chunk)
        return read

    def _is_plain(self, value: str) -> bool:
        if value in self._plain:
            return True
        if not _PLAIN.fullmatch(value):
            return False
        if len(self._plain) >= _MOST:
            self._plain.clear()
        self._plain.add(value)
        return True

    def _look_between(self, pieces: Sequence[str], values: Sequence[str]) -> Iterable[_Found]:
        key = tuple(pieces)
        if self._settled.get(key):
            return ()
        tag = "".join(chain.from_iterable(zip(pieces, (*values, ""), strict=True)))
        found = tuple(self._look(tag))
        if not found and key not in self._settled and len(self._settled) < _MOST:
            self._settled[key] = not self._wanted.match(tag) or self._settles(pieces)
        return found

    def _read(self, chunk: str, where: str) -> _Read[_Found]:
        at, closing = 0, ""
        if where != _BETWEEN:
            at, where = end_of_tag(chunk, 0, where)
            if where != _BETWEEN:
                return _Read("", (), chunk, where)
            closing = chunk[:at]
        found: list[_Found] = []
        while start := _START.search(chunk, at):
            at, where = end_of_tag(chunk, start.end(), _IN_TAG)
            if where != _BETWEEN:
                return _Read(closing, tuple(found), chunk[start.start() :], where)
            if self._wanted.match(chunk, start.start(), at):
                found += self._find(str(chunk[start.start() : at]))
        return _Read(closing, tuple(found), "", _BETWEEN)

    def _look(self, tag: str) -> Iterable[_Found]:
        return self._find(tag) if self._wanted.match(tag) else ()


def _put_together(tag: _ValueTag, chunks: Sequence[str]) -> str:
    values = [*(chunks[place] for place in tag.values), ""]
    return "".join(chain.from_iterable(zip(tag.pieces, values, strict=True)))


def end_of_tag(text: str, at: int, where: str = _IN_TAG) -> tuple[int, str]:
    """Return where the tag around *at* ends, and the state there; the end of *text* if it does not end."""
    while True:
        if where != _IN_TAG:
            at = text.find(where, at) + 1
            if not at:
                return len(text), where
        if not (found := _WITHIN.search(text, at)):
            return len(text), _IN_TAG
        at = found.end()
        if not found[1]:
            return at, _BETWEEN
        where = found[1]
