"""Rules for what does not arrive as written: text that is left out or hidden, images that are not sent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from mailmerge.check.html_document import LINE_BREAK, HtmlDocument, declarations, end_of_tag
from mailmerge.check.message_view import Finding, about
from mailmerge.check.rules import each_layout, whole_list
from mailmerge.text import excerpt, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jinja2.nodes import Template
    from lxml.etree import _Element as Element

    from mailmerge.check.message_view import ListTally, MessageLayout

# --- template comments -------------------------------------------------------------------------------

_COMMENT = re.compile(
    r"\{%[-+]?\s*raw\s*[-+]?%\}.*?\{%[-+]?\s*endraw\s*[-+]?%\}"
    r"""|\{\{(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[^"'])*?\}\}"""
    r"|(\{#.*?#\})",
    re.DOTALL,
)
_MARKUP = re.compile(r"\{#|<[a-zA-Z/!]|(?<!\{)\{(?![{%])|(?<![%}])\}(?!\})")
_MEANT = 'if it is intended: [check] ignore = ["T203"]'


@whole_list
def swallowed(tally: ListTally) -> Iterator[Finding]:
    """Find template comments that remove more than a remark: ``{#`` in CSS begins one too."""
    sources = tally.sources
    for name, text in sources.texts.items():
        if "{#" not in text:
            continue
        for match in _COMMENT.finditer(text):
            if not match[1]:
                continue
            inner = match[1][2:-2].strip("-+")
            lines = [line for line in inner.splitlines() if line.strip()]
            remark = len(lines) < 2 or not text[: match.start()].strip()
            if remark and not _MARKUP.search(inner):
                continue
            end = text.count("\n", 0, match.end()) + 1
            yield Finding(
                "T203",
                f"a template comment removes everything up to the next #}}, in line {end}: {_folded(inner)}",
                f"{{# begins a comment: in CSS write {{ #main, with a space; {_MEANT}",
                sources.inside(name, match.start(1), min(2 + len(inner.partition("\n")[0]), 40)),
            )


@whole_list
def outside_of_blocks(tally: ListTally) -> Iterator[Finding]:
    """Find text outside of all blocks in a template that extends another, and blocks that the other lacks."""
    sources = tally.sources
    extending = {name: text for name, text in sources.texts.items() if "extends" in text}
    if not extending:
        return
    from jinja2 import Environment, TemplateSyntaxError

    parse = Environment().parse  # noqa: S701  nothing is rendered
    try:
        trees = {name: parse(text) for name, text in sources.texts.items() if "{%" in text}
    except TemplateSyntaxError:  # an option that is not a template
        return
    for name in extending:
        for line, text, hint in _left_out(name, trees):
            place = sources.place(name, line)
            yield Finding("T204", f"{text} is not sent", hint, place)


def _left_out(name: str, trees: Mapping[str, Template]) -> Iterator[tuple[int, str, str]]:
    from jinja2 import nodes

    tree = trees.get(name)
    parents = [node.template for node in tree.find_all(nodes.Extends)] if tree else []
    if tree is None or len(parents) != 1 or not isinstance(parents[0], nodes.Const):
        return
    parent = str(parents[0].value)
    for output in tree.body:
        if isinstance(output, nodes.Output):
            for piece in output.nodes:
                if isinstance(piece, nodes.TemplateData) and piece.data.strip():
                    shown = _folded(piece.data)
                    lines = len(piece.data) - len(piece.data.lstrip())
                    line = output.lineno + piece.data.count("\n", 0, lines)
                    yield line, f"text outside of the blocks, {shown},", f"put it into a block of {parent}"
    known = {
        block.name for other, node in trees.items() if other != name for block in node.find_all(nodes.Block)
    }
    for block in tree.body:
        if isinstance(block, nodes.Block) and block.name not in known:
            yield block.lineno, f"block `{block.name}`", f"{parent} has no block of this name"


def _folded(text: str) -> str:
    return quoted(excerpt(" ".join(text.split())))


# --- HTML that hides what follows it -------------------------------------------------------------------

_NAME = re.compile(r"<([a-zA-Z][^\s/>]*)")
_RAW_TEXT = frozenset({"iframe", "noembed", "noframes", "script", "style", "textarea", "title", "xmp"})
_CODE = frozenset({"script", "iframe"})
_WITHOUT_ATTRIBUTES = rf"(?!(?:{'|'.join(sorted(_RAW_TEXT))})>)[a-z][a-z0-9]*>"
_OPENING = re.compile(rf"<!--|<(?!{LINE_BREAK}|{_WITHOUT_ATTRIBUTES})(?=[a-z])", re.IGNORECASE)
"""What can hide something: neither a tag without attributes, nor a line break."""
_TAG_IN_TEXT = re.compile(
    r"</?(?:a|body|br|div|h[1-6]|head|img|li|p|span|table|td|tr|ul)\b[^<>]*>", re.IGNORECASE
)
_TAG_IN_VALUE = re.compile(r"""=\s*(?:"[^"<]*<[a-zA-Z/!][^"]*"|'[^'<]*<[a-zA-Z/!][^']*')""")


@each_layout
def hidden_by_mistake(layout: MessageLayout) -> Iterator[Finding]:
    """Find unclosed comments, elements and quotes: what follows them is not shown."""
    html, at = layout.view.html or "", 0
    while opening := _OPENING.search(html, at):
        start = opening.start()
        if opening[0] == "<!--":
            at, found = _comment(html, start)
        else:
            at, found = _element(html, start)
        if found:
            yield replace(found, offset=start)


def _comment(html: str, start: int) -> tuple[int, Finding | None]:
    if html.startswith((">", "->"), start + 4):  # an empty comment
        return start + 5, None
    end = re.compile(r"--!?>").search(html, start + 4)
    if end is None:
        return len(html), _unclosed("a comment (<!--)", html[start + 4 :])
    inner = html[start + 4 : end.start()]
    nested = "<!--" in inner and not inner.lstrip().startswith(("[if", "<![endif]"))
    return end.end(), _swallowed("a comment (<!--)", inner.partition("<!--")[0]) if nested else None


def _element(html: str, start: int) -> tuple[int, Finding | None]:
    named = _NAME.match(html, start)
    assert named is not None
    name = named[1].lower()
    end, open_quote = end_of_tag(html, named.end())
    shown = f"<{name}>"
    if open_quote in ('"', "'"):
        return end, _unclosed(f"a quote in {shown}", html[named.end() : end])
    if _TAG_IN_VALUE.search(html, named.end(), end):
        text = f"an attribute of {shown} contains a tag: its closing quote is missing before it"
        return end, Finding("H216", text, "close the quote; write &lt; for a real <", width=len(named[0]))
    if name not in _RAW_TEXT or html[end - 2 : end] == "/>":
        return end, None
    closing = re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE).search(html, end)
    if closing is None:
        return len(html), _unclosed(shown, html[end:])
    tag = None if name in _CODE else _TAG_IN_TEXT.search(html, end, closing.start())
    return closing.end(), _swallowed(shown, html[tag.start() : closing.start()]) if tag else None


def _unclosed(what: str, rest: str) -> Finding | None:
    """Return that *what* is not closed; None: only tags follow, so nothing is lost."""
    if not re.sub(r"<[^<>]*>|[\s\"'>]+", "", rest):
        return None
    return Finding(
        "H215",
        f"{what} is not closed: mail programs hide everything after it, {_folded(rest)}",
        "close it where it is meant to end",
        width=4,
    )


def _swallowed(what: str, inner: str) -> Finding:
    return Finding(
        "H215",
        f"{what} is closed too late: mail programs hide its content, {_folded(inner)}",
        "close it where it is meant to end",
        width=4,
    )


# --- pictures that stay behind -------------------------------------------------------------------------

_ELSEWHERE = re.compile(r"\s*(?:(?!file:)[a-zA-Z][a-zA-Z0-9+.-]+:|//|#|\Z)", re.IGNORECASE)
_ELSEWHERE_OR_DISK = re.compile(r"\s*(?:[a-zA-Z][a-zA-Z0-9+.-]*:|//|#|\Z)")
_CANDIDATE = re.compile(r"(?:\A|,)\s*([^\s,](?:\S*[^\s,])?)(?:\s+[^,]*)?")
"""An address of ``srcset``; it may contain commas."""
_ATTRIBUTES = (
    *(("img", "src"), ("img", "srcset"), ("input", "src"), ("image", "src"), ("source", "srcset")),
    *(("source", "src"), ("video", "poster"), ("video", "src"), ("audio", "src"), ("object", "data")),
    *(("embed", "src"), ("image", "href"), ("image", "xlink:href"), ("link", "imagesrcset")),
    *(("feimage", "href"), ("frame", "src"), ("iframe", "src")),
)


@each_layout
def left_behind(layout: MessageLayout) -> Iterator[Finding]:
    """Find local files that the HTML as sent refers to, but that are not part of the message."""
    document = layout.document
    # Sending makes addresses part of the message, and adds none: what has none need not be parsed again.
    if document is None or not any(_has_local(document, element) for element in document.elements):
        return
    finished = _finished(layout)
    if finished is None:
        return
    written = document.elements if len(document.elements) == len(finished.elements) else finished.elements
    for element, origin in zip(finished.elements, written, strict=True):
        for attribute, address in _local_addresses(finished, element):
            yield about(
                document,
                origin,
                "H218",
                f"a local file in {attribute} is not sent with the message: {quoted(address)}",
                "copy the image into the campaign's folder and use its path there, as in "
                '<img src="logo.png">, or write its full https address',
            )
            break


def _finished(layout: MessageLayout) -> HtmlDocument | None:
    """Return the parsed HTML of the finished message."""
    from email import message_from_bytes

    body = b"".join(piece for piece in layout.view.message.body if isinstance(piece, bytes))
    for part in message_from_bytes(body).walk():
        if part.get_content_type() == "text/html":
            content = part.get_payload(decode=True)
            return (
                HtmlDocument.parse([content.decode("utf-8", "replace")])
                if isinstance(content, bytes)
                else None
            )
    return None


def _has_local(document: HtmlDocument, element: Element) -> bool:
    return next(_local_addresses(document, element), None) is not None


def _local_addresses(document: HtmlDocument, element: Element) -> Iterator[tuple[str, str]]:
    for tag, attribute in _ATTRIBUTES:
        if element.tag == tag and (value := element.get(attribute)):
            many = attribute.endswith("srcset")
            found = _CANDIDATE.findall(value) if many else (value.strip(),)
            told = element.tag == "img" and not many  # checked by another rule, in every row
            elsewhere = _ELSEWHERE_OR_DISK if told else _ELSEWHERE
            yield from ((attribute, address) for address in found if not elsewhere.match(address))
    if (value := element.get("background")) and not _ELSEWHERE.match(value):
        yield "background", value
    if style := element.get("style"):
        yield from (("url()", address) for address in _urls(_parsed(style)))
    if element.tag == "style":
        for sheet, rules in document.sheets:
            if sheet is element:
                yield from (("url()", address) for address in _urls(rules))


_OF_ADDRESSES = frozenset({"url", "src", "image-set", "-webkit-image-set"})
"""Functions of CSS in which a quoted string is an address."""


def _parsed(style: str) -> list[Any]:
    return [token for _, _, tokens in declarations(style) for token in tokens] if "(" in style else []


def _urls(nodes: Sequence[Any]) -> Iterator[str]:
    """Yield the local addresses in CSS: a token of its own, or a function with a quoted string."""
    for node in nodes:
        if node.type == "url":
            found = [node.value]
        elif node.type == "function" and node.lower_name in _OF_ADDRESSES:
            found = [part.value for part in node.arguments if part.type == "string"]
            yield from _urls(node.arguments)
        elif node.type == "function":
            yield from _urls(node.arguments)
            continue
        else:  # a rule or a block
            yield from _urls(getattr(node, "content", None) or ())
            continue
        yield from (address for address in found if not _ELSEWHERE.match(address))
