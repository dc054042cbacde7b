"""The HTML of one message, taken apart once per structure: elements, places, styles, visible text."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lxml.etree import _Element as Element
    from tinycss2.ast import Node

LARGEST = 1_000_000
"""HTML of more characters is not taken apart."""

_TAG = re.compile(r"""<([a-zA-Z][^\s/<>]*)(?:"[^"]{0,4000}"|'[^']{0,4000}'|[^<>"']+){0,200}+>""")
"""A tag with its attributes, each of a bounded length: no text takes long to look through."""
_UNSEEN = frozenset({"head", "script", "style", "title", "template", "noscript"})
_HIDDEN = re.compile(
    r"display\s*:\s*none|mso-hide\s*:\s*all|visibility\s*:\s*hidden|max-height\s*:\s*0", re.IGNORECASE
)
_BLANK = re.compile(r"[\s\u00a0\u00ad\u034f\u200b-\u200f\u2007\ufeff]+")


class Page:
    """A parsed message body; reading it never loads anything.

    Args:
        chunks: the HTML in the pieces that the template yielded.
        root: the parsed tree.

    """

    def __init__(self, chunks: Sequence[str], root: Element) -> None:
        self.chunks = chunks
        self.html = "".join(chunks)
        self.root = root
        self._styles: dict[Element, dict[str, str]] = {}

    @classmethod
    def parse(cls, chunks: Sequence[str]) -> Page | None:
        """Read HTML as forgivingly as a mail program does; None: there is nothing in it, or too much."""
        from lxml import etree

        if sum(map(len, chunks)) > LARGEST:
            return None
        source = "".join(chunks).encode("utf-8", "replace").replace(b"\0", b" ")
        try:
            root = etree.fromstring(source, etree.HTMLParser(encoding="utf-8", no_network=True))
        except etree.ParserError:  # only comments or blanks
            return None
        except etree.XMLSyntaxError:
            return None
        return None if root is None else cls(chunks, root)

    @cached_property
    def elements(self) -> list[Element]:
        """All elements in document order, without comments."""
        return [element for element in self.root.iter() if isinstance(element.tag, str)]

    def all(self, *tags: str) -> Iterator[Element]:
        """Yield the elements of these names."""
        return (element for element in self.elements if element.tag in tags)

    @cached_property
    def _offsets(self) -> dict[Element, tuple[int, int]]:
        """Where each element's tag starts in the HTML, and how long it is."""
        by_line: defaultdict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
        line, counted = 1, 0
        for match in _TAG.finditer(self.html):
            line += self.html.count("\n", counted, match.end())
            counted = match.end()
            # The parser numbers an element by the line its tag ends in.
            by_line[line, match[1].lower()].append((match.start(), len(match[0].split("\n", 1)[0])))
        found = {}
        for element in self.elements:
            number: Any = element.sourceline
            spots = by_line.get((number, str(element.tag).lower()))
            if spots:
                found[element] = spots.pop(0)
        return found

    def spot(self, element: Element) -> tuple[int | None, int]:
        """Give the offset of an element's tag in the HTML and the tag's length; None: it was implied."""
        return self._offsets.get(element, (None, 1))

    def style(self, element: Element) -> dict[str, str]:
        """Give the declarations of an element's ``style`` attribute, names in lower case."""
        known = self._styles.get(element)
        if known is None:
            text = element.get("style") or ""
            known = {name: value for name, value, _ in declarations(text)} if text else {}
            self._styles[element] = known
        return known

    def hidden(self, element: Element) -> bool:
        """Whether it, or what it stands in, is not shown."""
        node: Element | None = element
        while node is not None:
            if _unseen(node):
                return True
            node = node.getparent()
        return False

    def words(self, element: Element) -> str:
        """Give the text of an element and the ``alt`` texts in it, blanks folded."""
        parts: list[str] = []
        for node in element.iter():
            if isinstance(node.tag, str) and node.tag not in _UNSEEN:
                parts += (node.text or "", " ", node.get("alt") or "" if node.tag == "img" else "")
            if node is not element:
                parts.append(node.tail or "")
        return _folded("".join(parts))

    def visible(self) -> Iterator[tuple[Element, str]]:
        """Yield every text that is shown, with the element it stands in."""
        body = self.root.find("body")
        yield from self._visible(self.root if body is None else body)

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
        """Everything that is shown, as one text."""
        return " ".join(text for _, text in self.visible())

    @cached_property
    def sheets(self) -> list[tuple[Element, list[Node]]]:
        """The ``<style>`` elements with their rules."""
        import tinycss2

        return [
            (element, tinycss2.parse_stylesheet(element.text or "", skip_comments=True, skip_whitespace=True))
            for element in self.all("style")
        ]


def _unseen(element: Element) -> bool:
    """Whether the element itself is not shown."""
    style = element.get("style")
    return (
        element.tag in _UNSEEN
        or element.get("hidden") is not None
        or (style is not None and _HIDDEN.search(style) is not None)
    )


def _folded(text: str | None) -> str:
    return _BLANK.sub(" ", text).strip() if text else ""


def declarations(text: str) -> Iterator[tuple[str, str, list[Node]]]:
    """Yield property, value and the value's tokens of a list of declarations, ``a:b; c:d``."""
    import tinycss2

    for node in tinycss2.parse_blocks_contents(text, skip_comments=True, skip_whitespace=True):
        if node.type == "declaration":
            value = tinycss2.serialize(node.value).strip()
            yield node.lower_name, value.lower(), node.value
