"""Rules for what should have been replaced: placeholders of other programs, filler, broken tags."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mailmerge.check.message_view import Finding
from mailmerge.check.rules import whole_list
from mailmerge.designs.editors import broken_tags
from mailmerge.designs.names import ListColumns
from mailmerge.designs.placeholders import find_placeholders, is_html, prose
from mailmerge.lazy_re import lazy_re
from mailmerge.model import UNSUBSCRIBE_URL
from mailmerge.text import plural, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mailmerge.check.message_view import ListTally
    from mailmerge.designs.names import Field
    from mailmerge.designs.placeholders import Placeholder

_LAYOUT_TAG = lazy_re(r"<<.*?>>|<%.*?%>", re.DOTALL)
"""The values that a layout needs from its campaign."""
_CODE_SUFFIXES = (".typ", ".json", ".css")
_MOST = 20
"""How many different placeholders of one template are reported."""
_COLUMNS = 8

_INSTRUCTIONS = (
    (r"MC_PREVIEW_TEXT", "remove it, and set `preheader` in [message]"),
    (
        r"(?:IF|IFNOT|ELSE|ELSEIF|END|INTERESTED)(?::.*)?",
        "write {% if column %} ... {% else %} ... {% endif %}, or remove it",
    ),
    (
        r"(?:MC|HTML|FEED\w*|ARCHIVE|FORWARD|TRANSLATE|UPDATE_PROFILE)(?::.*)?",
        "remove it: it is an instruction to that program",
    ),
)
"""What Mailchimp's designs contain besides merge fields, and what to do about it."""

UNWRITTEN = ("Write your message here", "请在这里写信的正文")
"""What a stock template says where its owner has yet to write."""
_FILLER_TEXT = (
    r"lorem ipsum|dolor sit amet|\bTODO\b|\bFIXME\b|\bXXX+\b"
    r"|\[(?:your |insert )[^\]\n\0]{1,60}\]"
    r"|a link that says where it leads|the headline of this month.s letter|one warm sentence that says"
    r"|three or four sentences tell|what changes, in one line"
    r"|one sentence says what (?:it is, and one why|changes and from when)|say here what people have to do"
    r"|a reason that is honest, in two or three|the name of your event|18:30: what happens first"
    r"|your street 1\b"
    r"|(?:insert|add|put|type|enter) your (?:text|content|message|copy|headline|logo|address) here"
    r"|your (?:text|headline|heading|content|button text|logo|tagline|slogan) (?:goes )?here\b"
    r"|this is (?:a|your) (?:placeholder|sample|dummy|preheader) ?text|placeholder text\b"
    r"|\bdummy text\b|hier (?:steht|kommt) (?:ihr|der|dein) text\b|blindtext\b|ihr text hier\b"
    r"|votre texte ici|tu texto aquí|su texto aquí|il tuo testo qui|（待填）|" + "|".join(UNWRITTEN)
)
_FILLER = lazy_re(_FILLER_TEXT)
_FILLER_ANY_CASE = lazy_re(
    "|".join(part for part in _FILLER_TEXT.split("|") if not re.match(r"\\b(?:TODO|FIXME|XXX)", part)),
    re.IGNORECASE,
)
_WHOLE_LINE = lazy_re(
    r"(?:^|[>\0|·•©\n])[ \t]*(?:©[ \t]*)?(?:\d{4}[ \t]*)?"
    r"((?:your|my|ihre?|votre|tu|su) (?:organi[sz]ation|company|business|brand|name|firma|unternehmen"
    r"|entreprise|empresa)(?: name)?(?: here)?|company name"
    r"|(?:first|second|third|1st|2nd) (?:story|headline|heading)"
    r"|your (?:street|address|city|town|phone|website)(?: here)?"
    r"|123 (?:main|any|fake|example) str?(?:eet)?\b[^\n<\0]{0,40}"
    r"|(?:main )?(?:headline|heading) here|sample (?:text|headline))"
    r"[ \t]*(?=[.,|·•<\0\n\r]|$)",
    re.IGNORECASE | re.MULTILINE,
)
"""What is filler if nothing else is in its line or element."""


@whole_list
def of_other_programs(tally: ListTally) -> Iterator[Finding]:
    """Find placeholders of other programs, which Jinja2 would not replace: readers would see them."""
    sources = tally.sources
    columns = ListColumns(sources.columns)
    for name, text in sources.texts.items():
        if name.startswith("attach[") or name.endswith(_CODE_SUFFIXES):
            continue  # [...] is a glob there, and content in Typst
        if name and name == sources.layout:
            text = _LAYOUT_TAG.sub(lambda tag: " " * len(tag[0]), text)  # noqa: PLW2901  the rest of it
        counts: dict[str, int] = {}
        first: dict[str, tuple[int, int, Field]] = {}
        for found in find_placeholders(text, columns):
            written = found.written(text)
            counts[written] = counts.get(written, 0) + 1
            first.setdefault(written, (found.start, found.end - found.start, found.field))
        for written, (start, width, field) in list(first.items())[:_MOST]:
            times = f" ({plural(counts[written], 'time')})" if counts[written] > 1 else ""
            yield Finding(
                "H250",
                f"{quoted(written)} is another program's placeholder: readers would see it{times}",
                _instead(field, columns, sources.columns.headings),
                sources.inside(name, start, width),
            )


def _instead(field: Field, columns: ListColumns, headings: tuple[str, ...]) -> str:
    if field.unsubscribes:
        return f"write {{{{ {UNSUBSCRIBE_URL} }}}}"
    for pattern, hint in _INSTRUCTIONS:
        if re.fullmatch(pattern, field.name, re.IGNORECASE | re.DOTALL):
            return hint
    if written := columns.written(field):
        other = f' or "{field.fallback}"' if field.fallback and '"' not in field.fallback else ""
        return f"write {{{{ {written}{other} }}}}"
    if not headings:
        return "write {{ column }}"
    more = " ..." if len(headings) > _COLUMNS else ""
    return f"write {{{{ column }}}}, with a column of the list: {', '.join(headings[:_COLUMNS])}{more}"


@whole_list
def filler(tally: ListTally) -> Iterator[Finding]:
    """Find text that was meant to be replaced before sending."""
    sources = tally.sources
    columns = ListColumns(sources.columns)
    for name, text in sources.texts.items():
        if name.startswith("attach[") or name.endswith(_CODE_SUFFIXES):
            continue
        shown = _without(prose(text), find_placeholders(text, columns))
        match = _FILLER.search(shown) or _FILLER_ANY_CASE.search(shown) or _WHOLE_LINE.search(shown)
        if match:
            group = match.lastindex or 0
            word = " ".join(match[group].split())
            yield Finding(
                "M210",
                f"placeholder text was left in: {word!r}",
                "replace it before sending",
                sources.inside(name, match.start(group), len(match[group])),
            )


def _without(text: str, told: Iterable[Placeholder]) -> str:
    """Return *text* without what another rule reports."""
    for found in told:
        text = text[: found.start] + "\0" * (found.end - found.start) + text[found.end :]
    return text


@whole_list
def split_by_an_editor(tally: ListTally) -> Iterator[Finding]:
    """Find template tags that an editor has broken by putting markup between their characters."""
    sources = tally.sources
    for name, text in sources.texts.items():
        if not is_html(text):
            continue
        for start, end, meant in broken_tags(text):
            yield Finding(
                "H251",
                f"an editor has put markup into a template tag: {quoted(text[start:end])}",
                f"write {meant} in one piece, or let `init --from` repair it",
                sources.inside(name, start, min(end - start, 40)),
            )
