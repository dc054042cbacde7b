"""A text part made from HTML: what a reader sees, in the same order, with links as footnotes.

It is made once from the template, whose tags were taken out (`mailmerge.render.tags`), if that contains all
elements; else from the HTML of each row. Neither inscriptis nor html-to-markdown is suitable: both draw
layout tables with columns of spaces or bars, neither writes footnotes, and both move tags between the rows of
a table (docs/content.md has the measurements).
"""

from __future__ import annotations

import re
from itertools import count
from typing import TYPE_CHECKING, Final

from lxml import html as parser

from mailmerge.render.tags import CLOSE, MARK, OPEN, PLAIN_TAGS, Tags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lxml.etree import _Element as Element

_SKIPPED: Final = frozenset(
    {"head", "style", "script", "title", "noscript", "template", "select", "textarea", "object"}
)
_PARAGRAPHS: Final = frozenset(
    {
        "p",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "ul",
        "ol",
        "dl",
        "table",
        "blockquote",
        "pre",
        "hr",
        "section",
        "article",
    }
)
_LINES: Final = frozenset(
    {"div", "tr", "li", "dt", "dd", "center", "header", "footer", "main", "nav", "address", "form", "figure",
     "figcaption", "caption", "thead", "tbody", "tfoot"}
)  # fmt: skip
_HIDDEN: Final = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden|mso-hide\s*:\s*all", re.IGNORECASE)
_INVISIBLE: Final = re.compile("[\u00ad\u034f\u200b\u200c\u2007\u2060\ufeff]+")
_BLANK: Final = re.compile("[ \t\r\n\f\u00a0]+")
_ENDLESS: Final = re.compile(
    r"\|\s*(?:e|escape|forceescape|safe|urlize|xmlattr|tojson)\b|(?<![\w.|])(?<!\|\s)[A-Za-z_]\w*\s*\("
)


def in_sight(html: str, tags: Tags) -> bool:
    """Return whether a template contains all of its text: nothing is included, and no tag prints elements."""
    for number in tags.numbers(html):
        word = tags[number].word
        if (word and word not in PLAIN_TAGS) or (not word and _ENDLESS.search(tags[number].expression)):
            return False
    return True


def text_of(html: str, tags: Tags | None = None) -> str:
    """Return the text of a document, or of a template whose *tags* were taken out; empty: it shows none."""
    if not html.strip():
        return ""
    writer = _Writer(tags)
    try:
        root = parser.document_fromstring(html)
    except (ValueError, parser.etree.ParserError):  # nothing in it but comments
        return ""
    writer.element(root)
    return writer.finish()


class _Writer:
    """Writes text in the order of the elements."""

    def __init__(self, tags: Tags | None) -> None:
        self._tags = tags
        self._pieces: list[str] = []
        self._ends = 2
        """Number of line breaks at the end of the text, ignoring tags after them."""
        self._wanted = 0
        """Number of line breaks to write before more text."""
        self._blank = False
        self._prefix = ""
        self._depth = 0
        """Conditions and loops around the current text."""
        self._literal = 0
        self._links: dict[str, tuple[int, str]] = {}
        self._numbers: dict[Element, int] = {}
        """The next numbers of the items of ordered lists."""
        self._seen = False

    def finish(self) -> str:
        text = "".join(self._pieces)
        if not MARK.sub("", text).strip() and not self._shows_values(text):
            return ""
        if self._links:
            notes = [f"[{number}] {url}" for number, url in self._links.values()]
            text = "\n".join((text.rstrip("\n"), "", *notes))
        return text.rstrip("\n") + "\n"

    def _shows_values(self, text: str) -> bool:
        return self._tags is not None and any(
            self._tags[n].expression and not self._tags[n].word for n in self._tags.numbers(text)
        )

    def element(self, element: Element) -> None:
        name: object = element.tag
        if not isinstance(name, str):  # a comment
            self._tags_of(element.text or "")
            return
        tag = name.lower()
        if tag in _SKIPPED or element.get("hidden") is not None or _HIDDEN.search(element.get("style") or ""):
            self._tags_of("".join(map(str, element.itertext())))
            return
        write: Callable[[Element], None] = getattr(self, f"_{tag}", self._children)
        around = 2 if tag in _PARAGRAPHS else 1 if tag in _LINES else 0
        if tag in {"ul", "ol"} and any(True for _ in element.iterancestors("li")):
            around = 1
        self._line_ends(around)
        write(element)
        self._line_ends(around)

    def _children(self, element: Element) -> None:
        self.text(element.text or "")
        for child in element:
            self.element(child)
            self.text(child.tail or "")

    # --- elements that are more than their content -----------------------------------------------

    def _br(self, _element: Element) -> None:
        self._wanted = min(2, max(self._wanted, 0) + 1)
        self._blank = False

    def _hr(self, _element: Element) -> None:
        self.text("-----")

    def _img(self, element: Element) -> None:
        self.text(element.get("alt") or "")

    def _pre(self, element: Element) -> None:
        self._literal += 1
        self._children(element)
        self._literal -= 1

    def _a(self, element: Element) -> None:
        begin = len(self._pieces)
        self._children(element)
        shown = "".join(self._pieces[begin:]).strip()
        url = (element.get("href") or "").strip()
        if not shown and not url.startswith("#") and element.find(".//img") is not None:
            self.text(url)  # an image without an alternative text: the address is all there is
            return
        bare = url.partition(":")[2] if url.startswith(("mailto:", "tel:")) else url
        if (
            not url
            or url.startswith("#")
            or not shown
            or self._plain(shown) in {self._plain(url), self._plain(bare)}
        ):
            return
        if self._depth:  # a footnote would be outside the loop
            self.text(f" ({url})")
            return
        number, _ = self._links.setdefault(self._plain(url), (len(self._links) + 1, url))
        self.text(f" [{number}]")

    def _li(self, element: Element) -> None:
        depth = sum(1 for _ in element.iterancestors("ul", "ol")) - 1
        number = self._numbers.pop(element, None)
        self._prefix = "  " * depth + (f"{number}. " if number is not None else "- ")
        self._children(element)
        self._prefix = ""

    def _ol(self, element: Element) -> None:
        between = "".join([element.text or "", *((child.tail or "") for child in element)])
        if not MARK.search(between):  # otherwise the number of items is not known yet
            items = [child for child in element if child.tag == "li"]
            self._numbers.update(zip(items, count(_start(element)), strict=False))
        self._children(element)

    def _tr(self, element: Element) -> None:
        cells = [child for child in element if child.tag in {"td", "th"}]
        if len(cells) < 2 or not _is_data(element):
            self.text(element.text or "")
            for child in element:
                self._line_ends(1 if child.tag in {"td", "th"} else 0)
                self.element(child)
                self._line_ends(1 if child.tag in {"td", "th"} else 0)
                self.text(child.tail or "")
            return
        self.text(element.text or "")
        for cell in element:
            if cell is not cells[0] and cell in cells:
                self.text(" | ")
            self.element(cell)
            self.text(cell.tail or "")

    # --- writing ------------------------------------------------------------------------------------

    def text(self, text: str) -> None:
        """Write text with white space folded; tags are written in place, and end nothing."""
        for number, piece in _pieces(text):
            if number is not None:
                self._tag(number)
            elif self._literal:
                self._write(piece)
            else:
                self._run(_INVISIBLE.sub("", piece))

    def _run(self, text: str) -> None:
        words = _BLANK.sub(" ", text)
        if not words:
            return
        if words[0] == " ":
            self._blank = self._blank or not (self._wanted or self._ends)
        if bare := words.strip(" "):
            self._write(bare)
            self._blank = words[-1] == " "

    def _write(self, text: str) -> None:
        self._flush()
        self._pieces.append(text)
        self._ends = len(text) - len(text.rstrip("\n")) if text.endswith("\n") else 0

    def _flush(self) -> None:
        if self._wanted:
            self._pieces.append("\n" * max(0, self._wanted - self._ends))
            self._ends = max(self._ends, self._wanted)
            self._wanted = 0
        elif self._blank and not self._ends:
            self._pieces.append(" ")
        self._blank = False
        if self._prefix:
            self._pieces.append(self._prefix)
            self._prefix = ""

    def _tag(self, number: int) -> None:
        assert self._tags is not None
        word = self._tags[number].word
        if not self._tags[number].source:  # only records where its place was written
            self._pieces.append(f"{OPEN}{number}{CLOSE}")
            return
        if word in {"if", "for"}:
            self._depth += 1
        elif word in {"endif", "endfor"}:
            self._depth -= 1
        if word:
            kept, self._prefix = self._prefix, ""
            self._flush()
            self._prefix = kept
            self._pieces.append(f"{OPEN}{number}{CLOSE}")
        else:
            self._write(f"{OPEN}{number}{CLOSE}")

    def _tags_of(self, text: str) -> None:
        """Write the tags of hidden content, on which others may depend, but not those that print."""
        if self._tags is not None:
            for number in self._tags.numbers(text):
                if self._tags[number].word:
                    self._tag(number)

    def _line_ends(self, count: int) -> None:
        if count:
            self._wanted = max(self._wanted, count)
            self._blank = False

    def _plain(self, text: str) -> str:
        return self._tags.plain(text) if self._tags is not None else text


def _start(element: Element) -> int:
    """Return the number of the first item of a list."""
    written = (element.get("start") or "").strip()
    return int(written) if re.fullmatch(r"-?[0-9]{1,9}", written) else 1


def _pieces(text: str) -> Iterator[tuple[int | None, str]]:
    end = 0
    for mark in MARK.finditer(text):
        yield None, text[end : mark.start()]
        yield int(mark[1]), ""
        end = mark.end()
    yield None, text[end:]


def _is_data(row: Element) -> bool:
    """Return whether a row belongs to a table of data: one not for layout, whose cells contain only words."""
    table = next(row.iterancestors("table"), None)
    if table is None or (table.get("role") or "").lower() in {"presentation", "none"}:
        return False
    inside = {child.tag for cell in row for child in cell.iter() if child is not cell}
    return not inside & (_PARAGRAPHS | _LINES)
