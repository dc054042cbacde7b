"""Rules for the text of a message, row by row."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct, field

from mailmerge.check.html_document import HtmlDocument, declarations
from mailmerge.check.message_view import Finding
from mailmerge.check.rules import each_layout, each_message
from mailmerge.check.shapes import joining
from mailmerge.model import Place
from mailmerge.text import excerpt, quoted, unescaped
from mailmerge.values import displayed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from lxml.etree import _Element as Element

    from mailmerge.check.message_view import MessageLayout, MessageView, SourceLocator
    from mailmerge.check.shapes import Shape

_LEFTOVER = re.compile(r"\{\{[^{}]{0,200}\}\}|\{%[^{}]{0,200}%\}")
_GREETINGS = (
    *("dear", "hello", "hi", "hey", "good morning", "good afternoon", "good evening"),
    *("liebe", "lieber", "hallo", "guten tag", "bonjour", "hola", "ciao"),
)
_INITIALS = frozenset("".join(greeting[0] + greeting[0].upper() for greeting in _GREETINGS))
_MARKS_BEFORE = 3
_NO_WORD = re.compile(r"\A\W+")
_LONGEST_GREETING = max(map(len, _GREETINGS))
_GREETED = rf"\W{{0,{_MARKS_BEFORE}}}(?:{'|'.join(_GREETINGS)})"
_GREETING = re.compile(rf"{_GREETED}[ \t]*[,!:]", re.IGNORECASE)
_GREETING_AND_BLANK = re.compile(rf"{_GREETED}[ \t]+\Z", re.IGNORECASE)
_AFTER_GREETING = frozenset(",!:")
_SPEAKS_OF_ONE = re.compile(
    r"(?<![-\w\"'=/.#])(?:attached(?! to (?!th(?:is|e)\b))|enclosed"
    r"|(?<!\bno )(?<!without )(?<!without an )attachments?|anbei|(?:im|als) anhang|angehängt\w*"
    r"|in der anlage|beigefügt\w*"
    r"|ci-joint\w*|pi[eè]ces? jointes?|adjunt[oa]s?|in allegato|allegat[oiae]|em anexo|anexad[oa]s?"
    r"|bijlagen?|bijgevoegd\w*|w załączeniu|załącznik\w*|bifogad\w*|vedhæftet|vedlagt|liitteenä)\b"
    r"|附件|添付|첨부|вложени|прикреплен",
    re.IGNORECASE,
)
"""Words that promise an attachment, in the most common languages of mail merges."""
_SAID_BEFORE = re.compile(r"^>.*$", re.MULTILINE)
"""A line quoted from an earlier message."""
_SUBJECT = "message.subject"
_ADDRESS_IN_TEXT = re.compile(r"https?://", re.IGNORECASE)


@each_message
def leftover_markup(view: MessageView) -> Iterator[Finding]:
    """Find template markup from a cell: cells are never rendered, so readers would see it."""
    body = view.body if _may_show(view, _opens_markup, "{") else ""
    for part, text in (("subject", view.rendered.subject), ("body", body)):
        if "{" in text and (match := _LEFTOVER.search(text)) and (cell := view.cell(match[0])):
            yield Finding(
                "D160",
                f"the {part} shows template markup from a cell: {match[0]}",
                "cells are never rendered: write the value itself, or use the column in the template",
                Place(cell=cell),
            )
            return


def _may_show(view: MessageView, fixed: Callable[[Shape], bool], mark: str) -> bool:
    """Return whether a body can contain something: in its *fixed* chunks, or as a value has *mark*."""
    shape = view.body_shape
    return shape is None or mark in view.body_values or shape.once(fixed)


def _opens_markup(shape: Shape) -> bool:
    return any("{{" in chunk or "{%" in chunk or chunk[-1:] == "{" for chunk in shape.chunks if chunk)


@each_message
def replacement_character(view: MessageView) -> Iterator[Finding]:
    """Find U+FFFD, the trace of text that was read in the wrong encoding."""
    body = view.body if _may_show(view, _was_misread, "\ufffd") else ""
    for text in (view.rendered.subject, body):
        if "\ufffd" in text:
            cell = view.cell("\ufffd")
            yield Finding(
                "D161",
                "the message contains U+FFFD, a trace of text that was read in the wrong encoding",
                "open the list or template in its own program and save it as UTF-8",
                Place(cell=cell) if cell else None,
            )
            return


def _was_misread(shape: Shape) -> bool:
    return any("\ufffd" in chunk for chunk in shape.chunks if chunk)


@each_message
def greeting(view: MessageView) -> Iterator[Finding]:
    """Find greetings without a name where the template meant to print one: the cell is empty."""
    shape = view.body_shape
    if shape is not None and "\n" not in view.body_values:
        lines = shape.once(_beginnings)
        if not lines.greets(view.body_chunks) and all(map(view.sources.of, lines.written)):
            return
    match = _greeting(view.body[:2000])
    if match and not view.sources.of(match[0]):  # "Hello," without a value is how the author meant it
        yield Finding(
            "D204",
            f"the greeting has no name: {match[0].strip()!r}",
            'write {{ first or "there" }} in the template, or set data.defaults for the column',
        )


def _greeting(text: str) -> re.Match[str] | None:
    for line in text.split("\n"):
        # A plain comparison first: few lines begin this way, and the pattern takes ten times as long.
        first = line[:1]
        if first.isalpha() and (first not in _INITIALS or not line[:16].lower().startswith(_GREETINGS)):
            continue
        if match := _GREETING.match(line):
            return match
    return None


class _GreetingLine(NamedTuple):
    """A line of a body that a value is part of, and that may begin with a greeting."""

    before: str
    """What is written before its first value."""
    first: int
    """The index of that value."""
    last: int
    """The index of the chunk in which the line ends."""
    after: str
    """The part of that chunk that belongs to the line."""
    greeted: bool
    """Whether *before* is a greeting and a space, so that what follows must be a name."""
    bare: bool
    """Whether *before* contains no word."""

    def greets(self, chunks: Sequence[str]) -> bool:
        """Return whether a greeting without a name begins the line in this body."""
        value = chunks[self.first]
        if self.greeted and (begin := value.lstrip(" \t")):
            return begin[0] in _AFTER_GREETING
        if self.bare and value[:1].isalnum() and value[0] not in _INITIALS:
            return False
        return (
            _GREETING.match("".join((self.before, *chunks[self.first : self.last], self.after))) is not None
        )


class _GreetingLines(NamedTuple):
    """What has to be known about a body's lines to find its greeting."""

    touched: tuple[_GreetingLine, ...]
    written: tuple[str, ...]
    """The greetings that no value is part of."""

    def greets(self, chunks: Sequence[str]) -> bool:
        """Return whether a line with a value in it begins with a greeting; values contain no line breaks."""
        for line in self.touched:  # noqa: SIM110  a generator would take a third longer
            if line.greets(chunks):
                return True
        return False


def _beginnings(shape: Shape) -> _GreetingLines:
    touched, written = [], []
    before, first = "", -1
    for place, chunk in enumerate((*shape.chunks, "\n")):
        if chunk is None:
            first = place if first < 0 else first
            continue
        if "\n" not in chunk:  # a loop may write a letter at a time
            before += chunk if first < 0 else ""
            continue
        *ends, rest = chunk.split("\n")
        for end in ends:
            if first >= 0:
                if _may_greet(before):
                    greeted, bare = bool(_GREETING_AND_BLANK.match(before)), not re.search(r"\w", before)
                    touched.append(_GreetingLine(before, first, place, end, greeted, bare))
            elif match := _greeting(before + end):
                written.append(match[0])
            before, first = "", -1
        before += rest if first < 0 else ""
    return _GreetingLines(tuple(touched), tuple(written))


def _may_greet(before: str) -> bool:
    """Return whether a line that begins with *before* can begin with a greeting, whatever follows."""
    if before[:1].isalpha() and before[0] not in _INITIALS:
        return False
    begin = len(before) - len(_NO_WORD.sub("", before, count=1))
    words = before[begin:][:_LONGEST_GREETING].lower()
    if begin > _MARKS_BEFORE:
        return False
    return not words.isascii() or words.startswith(_GREETINGS) or any(g.startswith(words) for g in _GREETINGS)


@each_message
def file_forgotten(view: MessageView) -> Iterator[Finding]:
    """Find a message that mentions an attachment but has none."""
    promised = view.sources.once(_promises)
    if not promised or any(not file.content_id for file in view.message.files):
        return
    body = view.rendered.html if view.rendered.text is None else view.rendered.text
    for chunk in (_SUBJECT, *(body or ())):
        if word := promised.get(chunk):
            yield Finding(
                "A215",
                f"the message mentions {quoted(word)}, but no file is attached",
                "attach the file with [[attach]] or --attach, or write where it can be found",
                view.sources.of(word),
            )
            return


def _promises(sources: SourceLocator) -> dict[str, str]:
    """Return the words in the templates that promise an attachment; cells are not searched."""
    texts = {chunk: _spoken(chunk) for chunk in sources.fixed}
    texts[_SUBJECT] = _spoken(sources.texts.get(_SUBJECT, ""))
    return {chunk: word for chunk, word in texts.items() if word}


def _spoken(text: str) -> str:
    found = _SPEAKS_OF_ONE.search(_SAID_BEFORE.sub("", text))
    return found[0] if found else ""


@each_layout
def no_text_part(layout: MessageLayout) -> Iterator[Finding]:
    """Find a message with HTML only."""
    if layout.view.text is None:
        yield Finding(
            "M202",
            "the message has no text part",
            "some readers and most spam filters expect one: add message.text",
        )


@each_layout
def text_part_differs(layout: MessageLayout) -> Iterator[Finding]:
    """Find a text part that is much shorter than the HTML, or leaves out its links."""
    text, document = layout.view.text, layout.document
    if text is None or document is None:
        return
    linked = any(_ADDRESS_IN_TEXT.match(link.get("href") or "") for link in document.all("a"))
    if linked and not _ADDRESS_IN_TEXT.search(text):
        yield Finding(
            "M217",
            "the HTML has links, but the text part has none",
            "add the links' addresses to the text part: some people read only that",
        )
        return
    short, long = len(text.strip()), len(document.shown_text)
    if long > 400 and short < long / 4:
        yield Finding(
            "M217",
            f"the text part has {short:,} characters, but the HTML shows {long:,}",
            "both need the same content: filters compare them, and some people only read the text part",
        )


# --- cells of several lines ----------------------------------------------------------------------------

_KEEPS = frozenset({"pre", "textarea", "xmp"})
_PRE = re.compile(r"pre|break-spaces")
_SIMPLE = re.compile(r"(?P<tag>[a-zA-Z][\w-]*|\*)?(?:#(?P<id>[\w-]+))?(?P<classes>(?:\.[\w-]+)*)\Z")
_HERE = "\ue0f5"


class _ValueSurroundings(Struct):
    """What is known about the places of values: whether line breaks of a cell are visible there."""

    lost: dict[tuple[str, ...], bool] = field(default_factory=dict)


def _surroundings(_sources: SourceLocator) -> _ValueSurroundings:
    return _ValueSurroundings()


@each_message
def run_together(view: MessageView) -> Iterator[Finding]:
    """Find cells of several lines that the HTML shows as one: in HTML, a line break is a space."""
    if view.rendered.html is None:
        return
    recipient = view.rendered.recipient
    for cell in recipient.values:
        text = cell if cell.__class__ is str else displayed(cell)
        if "\n" in text and "\n" in text.strip():
            break
    else:
        return
    chunks, fixed = view.rendered.html_before or view.rendered.html, view.sources.fixed
    known = view.sources.once(_surroundings).lost
    for index, chunk in enumerate(chunks):
        if "\n" not in chunk or chunk in fixed or "<" in chunk or "\n" not in chunk.strip():
            continue
        around = (chunks[index - 1] if index else "", *chunks[index + 1 : index + 2])
        around = tuple([piece for piece in around if piece in fixed])  # a value tells nothing about others
        if around not in known:
            if len(known) > 1000:
                known.clear()
            known[around] = _is_one_line(chunks, index)
        if known[around]:
            yield _run_together(view, chunks, index)


def _run_together(view: MessageView, chunks: Sequence[str], index: int) -> Finding:
    recipient = view.rendered.recipient
    first = unescaped(str(chunks[index]).strip().split("\n", 1)[0].strip())
    for name, heading, cell in zip(
        recipient.columns.names, recipient.columns.headings, recipient.values, strict=True
    ):
        if first and first.casefold() in displayed(cell).casefold() and "\n" in displayed(cell):
            expression = re.compile(rf"\{{\{{-?\s*(?:row\.)?{re.escape(name)}\b[^}}]*\}}\}}")
            place = _written(view.sources, expression) or Place(cell=f"column {heading}")
            return Finding(
                "H217",
                f"the line breaks in `{name}` are lost in HTML: its lines are shown as one",
                f'write {{{{ {name}|nl2br }}}}, or give its element style="white-space: pre-line"',
                place,
            )
    return Finding(
        "H217",
        "the line breaks of a value are lost in HTML: its lines are shown as one",
        'add |nl2br to it, or give its element style="white-space: pre-line"',
        view.sources.of(str(chunks[index - 1])) if index else None,
    )


def _written(sources: SourceLocator, expression: re.Pattern[str]) -> Place | None:
    for name, text in sources.texts.items():
        is_html = "<" in text or name.endswith((".md", ".markdown"))
        if is_html and not name.startswith("message.to") and (match := expression.search(text)):
            return sources.inside(name, match.start(), len(match[0]))
    return None


def _is_one_line(chunks: Sequence[str], index: int) -> bool:
    """Return whether the lines of the value at *index* run together: it is shown, without line breaks."""
    marked = [str(chunk) for chunk in chunks]
    before = "".join(marked[:index])
    if before.rfind("<") > before.rfind(">"):  # in a tag
        return False
    marked[index] = _HERE
    document = HtmlDocument.parse(marked)
    if document is None:
        return False
    for element in document.elements:
        if _HERE in (element.text or ""):
            return not _keeps_lines(document, element)
        parent = element.getparent()
        if parent is not None and _HERE in (element.tail or ""):
            return not _keeps_lines(document, parent)
    return False


def _keeps_lines(document: HtmlDocument, element: Element) -> bool:
    if document.hidden(element):
        return True
    selectors = _keeping_selectors(document)
    node: Element | None = element
    while node is not None:
        if node.tag in _KEEPS or _PRE.match(document.style(node).get("white-space", "")):
            return True
        if any(_selects(selector, node) for selector in selectors):
            return True
        node = node.getparent()
    return False


def _keeping_selectors(document: HtmlDocument) -> list[str]:
    import tinycss2

    found = []
    nested = [rule for _, rules in document.sheets for rule in rules]
    while nested:
        rule = nested.pop()
        if rule.type == "at-rule" and rule.content and rule.lower_at_keyword in {"media", "supports"}:
            nested += tinycss2.parse_rule_list(rule.content)
        elif rule.type == "qualified-rule":
            declared = {name: value for name, value, _ in declarations(tinycss2.serialize(rule.content))}
            if _PRE.match(declared.get("white-space", "")):
                found += tinycss2.serialize(rule.prelude).split(",")
    return found


def _selects(selector: str, node: Element) -> bool:
    """Return whether the last part of a selector selects *node*; if it is not simple, assume that it does."""
    parts = selector.split()
    match = _SIMPLE.match(parts[-1]) if parts else None
    if match is None:
        return True
    classes = set((node.get("class") or "").split())
    return (
        match["tag"] in (None, "*", node.tag)
        and match["id"] in (None, node.get("id"))
        and classes.issuperset(filter(None, match["classes"].split(".")))
    )


# --- links in the text part ----------------------------------------------------------------------------

_OPEN_LINK = re.compile(r"(?<![<\w/.@-])(?:https?://|www\.|mailto:)[^\s<>]*\Z", re.IGNORECASE)
"""What mail programs make clickable in plain text; `<https://...>` is a link up to its bracket."""
_LINK_ENDS = re.compile(r"[\s<>]")
_LONGEST_LINK = 2000
_WHOLE_LINK = re.compile(
    r"(?:https?://|www\.\w)\S+[^\S\n]+\S*(?:[/=&?%]|\.[A-Za-z0-9]{2,5}\Z)", re.IGNORECASE
)
_BLANK = re.compile(r"[^\S\n\r]")


@lru_cache(maxsize=256)
def _open_link(text: str) -> str | None:
    """Return the link in the middle of which *text* ends, so that a value continues it; None: no link."""
    match = _OPEN_LINK.search(text)
    return match[0] if match else None


def _in_links(shape: Shape) -> list[int]:
    """Return the indices of values that continue a link written before them."""
    found, is_open = [], False
    for place, chunk in enumerate(shape.chunks):
        if chunk is None:
            if is_open:
                found.append(place)
        elif (":" in chunk or "." in chunk) and _OPEN_LINK.search(chunk[-_LONGEST_LINK:]):
            is_open = True
        elif is_open and _LINK_ENDS.search(chunk):
            is_open = False
    return found


def _joining_links(shape: Shape) -> Callable[[Sequence[str]], str]:
    return joining(_in_links(shape))


def _before(chunks: Sequence[str], place: int) -> str:
    """Return the text before a chunk, as far as a link may reach back."""
    pieces: list[str] = []
    length = 0
    while place > 0 and length < _LONGEST_LINK:
        place -= 1
        pieces.append(chunks[place][-_LONGEST_LINK:])
        length += len(pieces[-1])
        if re.search(r"\s", pieces[-1]):
            break
    return "".join(reversed(pieces))[-_LONGEST_LINK:]


@each_message
def broken_links(view: MessageView) -> Iterator[Finding]:
    """Find links in the text part that a value breaks with a space: mail programs end a link there."""
    chunks, shape, fixed = view.rendered.text or (), view.text_shape, view.sources.fixed
    places: Iterable[int] = range(len(chunks))
    if shape is not None:
        values = view.body_values
        if "://" in values or "www." in values or "WWW." in values or "mailto:" in values:
            places = shape.values
        elif _BLANK.search(shape.once(_joining_links)(chunks)):
            places = shape.once(_in_links)
        else:
            return
    for place in places:
        chunk = chunks[place]
        if chunk and chunk not in fixed and _BLANK.search(chunk):
            yield from _broken_by(view, place)


def _broken_by(view: MessageView, place: int) -> Iterator[Finding]:
    """Yield a finding if the value at *place*, which contains a space, breaks a link or is a broken one."""
    chunks = view.rendered.text or ()
    value = chunks[place].strip()
    before = _before(chunks, place)
    opened = None if chunks[place][0].isspace() else _open_link(before)
    link, written = "", None
    if opened:
        line = value.partition("\n")[0]
        if _BLANK.search(line):
            link, written = opened + line, view.sources.of(opened)
    elif not before.endswith("<") and (match := _WHOLE_LINK.match(value)):
        link = match[0]
    if link:
        cell = view.cell(value)
        yield _broken(link, written or (Place(cell=cell) if cell else None))


def _broken(link: str, place: Place | None) -> Finding:
    first = " ".join(link.split(None, 1)[:1])
    return Finding(
        "H219",
        f"a link in the text part ends at a space, after {quoted(excerpt(first, 60))}",
        "percent-encode the value, {{ value|urlencode }}, or put the link in angle brackets: <https://...>",
        place,
    )
