"""What rules look at, and how they report what they find.

A rule gets one message (`MessageView`), the first message of each layout (`MessageLayout`), or the list as a
whole (`ListTally`), and yields `Finding`s. `SourceLocator` finds the author's source of rendered text.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from mailmerge.check.shapes import Shape
from mailmerge.model import Columns, Diagnostic, Place, Severity
from mailmerge.text import plural
from mailmerge.values import displayed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lxml.etree import _Element as Element

    from mailmerge.check.html_document import HtmlDocument
    from mailmerge.model import FrozenMessage, Rendered

_Made = TypeVar("_Made")
_LEAST = 8
"""A shorter piece of a line, in characters, may be anywhere: it does not show where it came from."""
_MOST_FOUND = 2000
_MOST_SHAPES = 1000
"""How many shapes of bodies are remembered; rows with any other are checked one by one."""


class Finding(Struct, frozen=True):
    """What a rule found, before it is known whether a row or a template is at fault."""

    code: str
    message: str
    hint: str | None = None
    place: Place | None = None
    offset: int | None = None
    """The offset in the rendered HTML, for findings about its structure."""
    width: int = 1


def about(
    document: HtmlDocument, element: Element | None, code: str, message: str, hint: str | None = None
) -> Finding:
    """Return a finding about an element of the HTML; its place will be where its tag was written."""
    offset, width = (None, 1) if element is None else document.spot(element)
    return Finding(code, message, hint, offset=offset, width=width)


def about_first(
    document: HtmlDocument, elements: Sequence[Element], noun: str, code: str, message: str, hint: str
) -> Iterator[Finding]:
    """Yield one finding about the first of several elements, with their number; nothing without elements."""
    if elements:
        times = f" ({plural(len(elements), noun)})" if len(elements) > 1 else ""
        yield about(document, elements[0], code, message + times, hint)


def diagnostic(found: Finding, *, row: int | None = None, address: str | None = None) -> Diagnostic:
    """Return a finding as a diagnostic, with its severity, and the row if it is about one."""
    return Diagnostic(
        found.code,
        found.message,
        found.hint,
        severity=Severity.of(found.code),
        place=found.place,
        row=row,
        address=address,
    )


# --- from rendered text back to the author's ---------------------------------------------------------


class PlaceFinder(Protocol):
    """Returns the place of a line of a template, named as the user named it."""

    def __call__(self, name: str, line: int = 1, word: str | None = None) -> Place:
        """Return the place."""


def _no_place(name: str, line: int = 1, word: str | None = None) -> Place:
    return Place(path=name, line=line, width=len(word or " "))


class SourceLocator(Struct):
    """The templates of a campaign as their author wrote them, to find where a piece of a message comes from.

    Args:
        texts: sources by the names under which templates include each other.
        place: returns where a line of such a source is, in the user's terms.
        fixed: the pieces of text that rendering copies unchanged.
        columns: those of the list.
        layout: which of *texts* is a layout, which has its own kind of tags.
        derived: templates that were made from those, such as HTML from Markdown.

    """

    texts: Mapping[str, str] = field(default_factory=dict)
    place: PlaceFinder = _no_place
    fixed: frozenset[str] = frozenset()
    columns: Columns = Columns((), ())
    layout: str = ""
    derived: Mapping[str, str] = field(default_factory=dict)
    _found: dict[str, Place | None] = field(default_factory=dict)
    _made: dict[object, Any] = field(default_factory=dict)
    _copied: dict[str, str] = field(default_factory=dict)
    _shapes: dict[tuple[str | None, ...], Shape] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._copied = {chunk: chunk for chunk in self.fixed}

    def shape(self, chunks: Sequence[str]) -> Shape | None:
        """Return the shape of a rendered body; None: there are too many to remember."""
        key = tuple(map(self._copied.get, chunks))
        shape = self._shapes.get(key)
        if shape is None and len(self._shapes) < _MOST_SHAPES:
            shape = self._shapes[key] = Shape(key)
        return shape

    def of(self, piece: str) -> Place | None:
        """Find *piece* in the templates; None: a value of the row is part of it."""
        if piece not in self._found:
            if len(self._found) > _MOST_FOUND:
                self._found.clear()
            self._found[piece] = self._search(piece)
        return self._found[piece]

    def once(self, make: Callable[[SourceLocator], _Made]) -> _Made:
        """Return the result of *make*, which is called once a campaign."""
        if make not in self._made:
            self._made[make] = make(self)
        made: _Made = self._made[make]
        return made

    def inside(self, name: str, start: int, width: int) -> Place:
        """Return the place of *width* characters at *start* of the template called *name*."""
        return self._at(name, self.texts[name], start, width)

    def at(self, chunks: Sequence[str], offset: int, width: int) -> Place | None:
        """Return where the text at *offset* of the joined *chunks* was written; None: in a cell."""
        ends = list(accumulate(map(len, chunks)))
        index = bisect_right(ends, offset)
        if index >= len(chunks) or chunks[index] not in self.fixed:
            return None
        chunk = chunks[index]
        inside = offset - (ends[index] - len(chunk))
        whole = self._search(chunk, width, inside)
        if whole is not None:
            return whole
        # Tags such as {%- trim the text next to them: then a single line of it is searched for.
        begin = chunk.rfind("\n", 0, inside) + 1
        line = chunk[begin:].partition("\n")[0]
        bare = line.strip()
        if len(bare) < _LEAST:
            return None
        return self._search(bare, width, max(0, inside - begin - line.index(bare)))

    def _search(self, piece: str, width: int | None = None, ahead: int = 0) -> Place | None:
        """Find *piece*; return the place of *width* characters of it, *ahead* characters after its start."""
        if not piece:
            return None
        for name, text in self.texts.items():
            start = text.find(piece)
            if start >= 0:
                return self._at(name, text, start + ahead, len(piece) if width is None else width)
        for name, text in self.derived.items():
            start = text.find(piece)
            if start >= 0:
                return self.place(name, text.count("\n", 0, start + ahead) + 1)
        return None

    def _at(self, name: str, text: str, start: int, width: int) -> Place:
        begin = text.rfind("\n", 0, start) + 1
        line = text.count("\n", 0, start) + 1
        place = self.place(name, line)
        if place.source is None or place.source != text[begin:].partition("\n")[0].rstrip("\r"):
            return place  # an option: the campaign file's own line
        return replace(place, column=start - begin + 1, width=max(1, width))


# --- what rules look at ------------------------------------------------------------------------------


class MessageView(Struct, frozen=True, dict=True):
    """One row's message as the rules see it; what few rules need is computed when one asks for it."""

    rendered: Rendered
    message: FrozenMessage
    sources: SourceLocator
    text_shape: Shape | None
    """The shape of the text part; None: it is unknown, or the message has no text part."""
    html_shape: Shape | None
    """The shape of the HTML part; None: it is unknown, or the message has no HTML part."""
    body_shape: Shape | None
    """The shape of the body; None: it is unknown."""
    body_values: str
    """The values in the body, in one piece; empty if its shape is unknown."""

    @cached_property
    def text(self) -> str | None:
        """The text part; None: it does not have one."""
        return None if self.rendered.text is None else "".join(self.rendered.text)

    @cached_property
    def html(self) -> str | None:
        """The HTML part in one piece, which few rules need; None: it does not have one."""
        return None if self.rendered.html is None else "".join(self.rendered.html)

    @property
    def body(self) -> str:
        """The text part; the HTML if the message does not have one."""
        return self.text if self.text is not None else self.html or ""

    @property
    def body_chunks(self) -> Sequence[str]:
        """The body in the pieces that its template yielded."""
        return self.rendered.text if self.rendered.text is not None else self.rendered.html or ()

    @property
    def address(self) -> str:
        """The first recipient's address."""
        return str(self.rendered.to[0].address)

    def cell(self, value: str) -> str | None:
        """Return ``column NAME`` for the column whose cell contains *value*; None: no column does."""
        recipient = self.rendered.recipient
        for heading, cell in zip(recipient.columns.headings, recipient.values, strict=True):
            if value in displayed(cell):
                return f"column {heading}"
        return None

    def column_in(self, text: str) -> str | None:
        """Return ``column NAME`` for the longest cell that is part of *text*; None: no cell is."""
        recipient = self.rendered.recipient
        pairs = [
            (len(cell), heading)
            for heading, cell in zip(
                recipient.columns.headings, map(displayed, recipient.values), strict=True
            )
            if cell and cell in text
        ]
        return f"column {max(pairs)[1]}" if pairs else None


class MessageLayout(Struct, frozen=True):
    """The first message of a kind: other rows with the same fixed text have the same structure."""

    view: MessageView
    document: HtmlDocument | None
    """Its HTML, parsed; None: it has none, or it cannot be parsed."""
    bulk: bool
    """Whether it has a List-Unsubscribe header: it is mail to a list of subscribers."""


class Construct(Struct):
    """Something in the HTML that not all mail programs support, and where it is used."""

    place: Place | None
    count: int = 0


class ListTally(Struct):
    """What is counted over all rows; its size does not grow with the list."""

    sources: SourceLocator = field(default_factory=SourceLocator)
    unsubscribe: tuple[str, Place | None] | None = None
    """The template of the List-Unsubscribe header, and its place; None: the campaign does not set it."""
    rows: int = 0
    programs: Counter[str] = field(default_factory=Counter)
    """The number of rows by the mail program that their address's provider offers."""
    unsubscribe_values: dict[str, int] = field(default_factory=dict)
    """The first two different values of that header, and the first row of each."""
    constructs: dict[str, Construct] = field(default_factory=dict)
