"""The rules of ``<style>`` moved into the elements, for mail programs that drop ``<style>``.

css-inline decides which rule applies to which element; its document is not used, because an HTML parser
rewrites everything. Elements are numbered, and only their ``style`` attributes are copied: all else remains
as its author wrote it. Rules that no attribute can express (``@media``, ``:hover``) stay in ``<style>``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from mailmerge.render.tags import MARK, OPEN, PLAIN_TAGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mailmerge.render.tags import Tags

_VALUE: Final = r"""(?:"[^"]*"|'[^']*'|[^'">])"""
_PIECE: Final = re.compile(
    r"<!--.*?-->"
    rf"|<(?P<raw>style|script|title|textarea)\b(?P<of>{_VALUE}*)>(?P<body>.*?)</(?P=raw)\s*>"
    rf"|<(?P<tag>[a-zA-Z][^\s/>]*)(?P<attributes>{_VALUE}*)>",
    re.IGNORECASE | re.DOTALL,
)
_ATTRIBUTE: Final = re.compile(r"""([^\s"'<>/=]+)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s"'=<>`]+))?""")
_STYLE: Final = re.compile(r"""(?<=[\s"'])style\s*=\s*("[^"]*"|'[^']*'|[^\s"'=<>`]+)""", re.IGNORECASE)
_NUMBER: Final = "data-mailmerge-element"
_NUMBERED: Final = re.compile(rf'<[a-zA-Z][^\s/>]*(?P<attributes>{_VALUE}*? {_NUMBER}="([0-9]+)"{_VALUE}*)>')
_MARKUP: Final = re.compile(r"\|\s*safe\b|(?<![\w.|])(?<!\|\s)[A-Za-z_]\w*\s*\(")
_BY_PLACE: Final = re.compile(r":(?:first|last|nth|only|empty|has|not|is|where)\b|[+~]")


class Obstacle(NamedTuple):
    """A tag of a template that allows styles to be moved only row by row."""

    number: int
    reason: str


def obstacle(html: str, tags: Tags) -> Obstacle | None:
    """Find what may make the result differ from row to row; None: once per template is enough.

    Args:
        html: a template whose tags were taken out.
        tags: the tags.

    """
    rules = "".join(
        piece["body"] for piece in _PIECE.finditer(html) if (piece["raw"] or "").lower() == "style"
    )
    for number in tags.numbers(rules):
        return Obstacle(number, "it is inside <style>")
    for number, reason in _in_attributes(html, tags, every="[" in rules):
        return Obstacle(number, reason)
    selectors = " ".join(prelude for prelude, _ in _rules(rules))
    by_place = _BY_PLACE.search(selectors)
    around = _around_elements(html, tags) if by_place else set()
    for number in tags.numbers(html):
        word = tags[number].word
        if word and word not in PLAIN_TAGS:
            return Obstacle(number, "what it puts there is not in this template")
        if not word and _MARKUP.search(tags[number].expression):
            return Obstacle(number, "it may print elements")
        if by_place and number in around:
            return Obstacle(number, f"a rule depends on the order of elements: {by_place[0]}")
    return None


def _around_elements(html: str, tags: Tags) -> set[int]:
    """Return the tags that decide whether, or how often, elements occur: with elements before their ends."""
    found: set[int] = set()
    open_: list[tuple[int, int]] = []
    for mark in MARK.finditer(html):
        word = tags[int(mark[1])].word
        if word in {"if", "for"}:
            open_.append((int(mark[1]), mark.end()))
        elif word in {"endif", "endfor"} and open_:
            number, begin = open_.pop()
            if "<" in html[begin : mark.start()]:
                found.add(number)
    return found | {number for number, _ in open_}


def _in_attributes(html: str, tags: Tags, *, every: bool) -> Iterator[tuple[int, str]]:
    for piece in _PIECE.finditer(html):
        attributes = piece["attributes"]
        if not attributes or OPEN not in attributes:
            continue
        quoted = set()
        for attribute in _ATTRIBUTE.finditer(attributes):
            value = attribute[2] or ""
            named = attribute[1].lower()
            if value[:1] in {'"', "'"}:
                quoted.update(tags.numbers(value))
                if every or named in {"style", "class", "id"}:
                    yield from ((number, f'it is inside {named}="…"') for number in tags.numbers(value))
        yield from ((n, "it is between attributes") for n in tags.numbers(attributes) if n not in quoted)


def inlined(html: str, skipped: Callable[[int], str] = lambda _count: "") -> str:
    """Move the rules of the ``<style>`` elements of a document into its elements.

    Args:
        html: the document.
        skipped: returns the replacement for a number of lines.

    """
    if "<style" not in html.lower():
        return html
    from css_inline import CSSInliner

    count = 0

    def number(piece: re.Match[str]) -> str:
        nonlocal count
        if not piece["tag"]:
            return piece[0]
        count += 1
        return f'<{piece["tag"]} {_NUMBER}="{count}"{piece["attributes"]}>'

    numbered = _PIECE.sub(number, html)
    inliner = CSSInliner(keep_style_tags=True, keep_link_tags=True, load_remote_stylesheets=False)
    styles = {}
    for piece in _NUMBERED.finditer(inliner.inline(numbered)):
        if style := _STYLE.search(piece["attributes"]):
            styles[int(piece[2])] = style[1][1:-1].strip()
    count = 0

    def restyle(piece: re.Match[str]) -> str:
        nonlocal count
        if (piece["raw"] or "").lower() == "style" and "data-css-inline" not in piece["of"]:
            return _without_moved(piece, skipped)
        if not piece["tag"]:
            return piece[0]
        count += 1
        return _restyled(piece, styles.get(count, ""))

    return _PIECE.sub(restyle, html)


def _restyled(piece: re.Match[str], style: str) -> str:
    own = _STYLE.search(piece["attributes"])
    if not style or (own and _bare(own[1].strip("\"'")) == _bare(style)):
        return piece[0]
    attribute = f'style="{style}"'
    if own:
        attributes = piece["attributes"]
        return f"<{piece['tag']}{attributes[: own.start()]}{attribute}{attributes[own.end() :]}>"
    attributes = piece["attributes"].rstrip()
    end = " /" if attributes.endswith("/") else ""
    return f"<{piece['tag']}{attributes.removesuffix('/').rstrip()} {attribute}{end}>"


def _bare(style: str) -> str:
    return re.sub(r"\s+", "", style).rstrip(";").replace("&quot;", '"')


def _without_moved(piece: re.Match[str], skipped: Callable[[int], str]) -> str:
    """Return a ``<style>`` with the rules that no attribute can express; empty: none are left."""
    kept = "\n".join(text for prelude, text in _rules(piece["body"]) if not prelude or ":" in prelude)
    style = f"<{piece['raw']}{piece['of']}>\n{kept}\n</{piece['raw']}>" if kept else ""
    return style + skipped(piece[0].count("\n") - style.count("\n"))


def _rules(css: str) -> Iterator[tuple[str, str]]:
    """Yield the rules of a style sheet: the selector, empty for an @ rule, and the text."""
    import tinycss2

    for rule in tinycss2.parse_stylesheet(css, skip_comments=True):
        if rule.type == "qualified-rule":
            yield tinycss2.serialize(rule.prelude), rule.serialize()
        elif rule.type == "at-rule":
            yield "", rule.serialize()
