"""Rules for the structure of the HTML, checked once for each structure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mailmerge.check.message_view import Finding, about, about_first
from mailmerge.check.rules import each_document, each_layout, whole_list

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.check.html_document import HtmlDocument
    from mailmerge.check.message_view import ListTally, MessageLayout

_ACTIVE = ("script", "form", "iframe", "object", "embed", "applet", "video", "audio")
_SAFE = re.compile(r"\{\{(?:(?!\}\}).)*?\|\s*safe\b", re.DOTALL)
_UNQUOTED = re.compile(r"""<[a-zA-Z][^<>]*?\s[\w:-]+\s*=(\{\{.*?\}\})""")
_LOOKS_LIKE_HTML = re.compile(r"<[a-zA-Z/!]")


@each_document
def active_content(document: HtmlDocument) -> Iterator[Finding]:
    """Find elements that mail programs remove or warn about."""
    for tag in _ACTIVE:
        for element in document.all(tag):
            yield about(
                document,
                element,
                "H201",
                f"mail programs remove <{tag}> or warn about it",
                "link to a web page that has it",
            )
            break


@each_document
def external_styles(document: HtmlDocument) -> Iterator[Finding]:
    """Find style sheets that would have to be loaded."""
    hint = "mail programs do not load it: put the rules into style attributes"
    for link in document.all("link"):
        if "stylesheet" in (link.get("rel") or "").lower():
            yield about(document, link, "H202", "the HTML uses an external style sheet", hint)
    for element, rules in document.sheets:
        if any(rule.type == "at-rule" and rule.lower_at_keyword == "import" for rule in rules):
            yield about(document, element, "H202", "a style sheet imports another", hint)


@each_document
def charset(document: HtmlDocument) -> Iterator[Finding]:
    """Find a <meta> that declares an encoding other than UTF-8, in which messages are sent."""
    for meta in document.all("meta"):
        named = meta.get("charset") or ""
        if (meta.get("http-equiv") or "").lower() == "content-type":
            named = (meta.get("content") or "").rpartition("charset=")[2]
        if named and named.strip().lower() not in {"utf-8", "utf8"}:
            yield about(
                document,
                meta,
                "H203",
                f"the HTML declares {named.strip()}, but messages are sent in UTF-8",
                'write <meta charset="utf-8">',
            )


@each_document
def pictures(document: HtmlDocument) -> Iterator[Finding]:
    """Find a message that is a single image, and images without a width."""
    images = [image for image in document.all("img") if not document.hidden(image)]
    if not images:
        return
    if len(images) == 1 and len(document.shown_text) < 40:
        yield about(
            document,
            images[0],
            "H204",
            "the whole message is one image",
            "with images off there is nothing to read, and filters treat it as spam: add text",
        )
    without = [i for i in images if not i.get("width") and "width" not in document.style(i)]
    yield from about_first(
        document,
        without,
        "image",
        "H205",
        "an image has no width",
        "Outlook shows it at full size, and the text jumps when it loads: add width and height",
    )


@each_layout
def preheader(layout: MessageLayout) -> Iterator[Finding]:
    """Find a message to subscribers without a preheader."""
    document = layout.document
    if not layout.bulk or document is None:
        return
    body = document.root.find("body")
    for element in body.iter("div", "span", "p", "td") if body is not None else ():
        if document.hidden(element) and document.words(element):
            return
    yield Finding(
        "M218",
        "the message has no preheader: inboxes show the first words of the HTML next to the subject",
        'write one sentence that makes people open it: preheader = "..." in [message]',
    )


@whole_list
def template_risks(tally: ListTally) -> Iterator[Finding]:
    """Find what is dangerous in a template with any rows: ``|safe``, values in unquoted attributes."""
    sources = tally.sources
    for name, text in sources.texts.items():
        if not _LOOKS_LIKE_HTML.search(text):
            continue
        for match in _SAFE.finditer(text):
            yield Finding(
                "T201",
                "`|safe` puts a value into the HTML unescaped",
                "the author of the list can change the whole message: use it only for your own text",
                sources.inside(name, match.start(), len(match[0])),
            )
        for match in _UNQUOTED.finditer(text):
            yield Finding(
                "T202",
                "a value is in an attribute without quotes",
                'a space in the cell ends the attribute: write name="{{ value }}"',
                sources.inside(name, match.start(1), len(match[1])),
            )
