"""Finds the placeholders of other programs in plain text or HTML: ``*|FNAME|*``, ``%%name%%``, ``[Name]``.

Some shapes are never prose: ``*|...|*`` is a placeholder whatever its content. Others may be: text in
brackets, braces and quotation marks is a placeholder only if it is the name of a column, or known as a
placeholder of many programs. Code, style sheets, scripts and comments are not searched, and addresses only
for what addresses do not contain.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from mailmerge.designs.names import Field, ListColumns, read_field
from mailmerge.lazy_re import lazy_re

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = r"\0*+[^\W\d_](?:[\w .'’/-]|&nbsp;|&\#160;|\u00a0|\0++){0,47}"
"""Each character of a tag is replaced with a NUL."""
_TAIL = r"""(?:\s*(?:,\s*fallback\s*=|\|\s*default\b|\|(?=\w)|:(?=["'])|\bOR\s+["'])[^\]{}\n<>]{0,60})?"""
_OPEN = r"(?:<<|&lt;&lt;|‹‹)"
_CLOSE = r"(?:>>|&gt;&gt;|››)"

_SURE: Final = lazy_re(
    r"\*\|\s*(?P<mailchimp>[^|*\n<>]{1,80}?)\s*\|\*"
    r"|%%(?P<salesforce>=?[^\W\d][^%\n<>]{0,78}?(?<=\S))%%(?!\d)"
    r"|%(?P<mailgun>recipient[._][A-Za-z][\w.]*|(?:tag_|mailing_list_)?unsubscribe_(?:url|email)|UNSUBSCRIBELINK)%"
    r"|\$\{\s*(?P<dollar>[^\W\d][\w.\ -]{0,60}?)\s*\}"
    r"|\$\[(?P<zoho>[^\]\n<>]{1,60})\]\$"
    r"|\{[$!]\s*\$?(?P<mailerlite>[^\W\d][\w.]{0,60})[^{}\n<>]{0,40}\}"
    r"|\#\{\s*(?P<hash_brace>[^\W\d][\w.]{0,60})\s*\}"
    r"|\{contactfield=(?P<mautic>[\w.]{1,60})(?:\|[^{}\n<>]{0,60})?\}"
    r"|(?:<|&lt;)%=?\s*(?P<percent_tag>[A-Za-z][\w.]{1,60})\s*%(?:>|&gt;)"
    r"|\[%-?\s*(?P<bracket_percent>[^\W\d][\w.:\ -]{0,60}(?:\|[^\]\n<>]{0,60})?)\s*-?%\]"
    r"|\[\[\s*(?P<wiki>(?:data|var):[^\]\n<>]{1,80}|UNSUB\w*"
    r"|[^\W\d][\w\ -]{0,40}\s+OR\s+[\"'][^\]\n<>]{0,60})\s*\]\]"
    r"|\[contact_attribute:(?P<benchmark>[\w ]{1,40})\]"
    r"|~(?P<keap>(?:Contact|Company|Owner)\.\w{1,40}|OptOut\w*)~"
)
"""Shapes that do not occur in prose and code by chance."""
_PERHAPS: Final = lazy_re(
    rf"(?<![\w{{$%\#!\\\]]){{\s*(?P<brace>{_NAME}{_TAIL})\s*}}(?!}})"
    rf"|(?<![\]!\w\\\[])\[\[?\s*(?P<bracket>{_NAME}{_TAIL})\s*\]\]?(?![(\[\w])"
    rf"|{_OPEN}\s?(?P<angle>{_NAME})\s?{_CLOSE}"
    rf"|(?:«|&laquo;|&\#171;|&\#x[aA][bB];)(?P<guillemet>{_NAME})(?:»|&raquo;|&\#187;|&\#x[bB][bB];)"
    rf"|(?<![\w\#&/])\#\#?(?P<hash>{_NAME})\#\#?(?![\w\#])"
    rf"|(?<![\w%])%(?P<percent>{_NAME})%(?![\w%])"
)
"""Shapes that depend on their content."""

_LONGEST_TAG: Final = 4000
_TAG_BEGIN: Final = lazy_re(r"\{[{%#]")
_IN_TAG: Final = lazy_re(r"""(?:[^"'}]+|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|\}(?!\}))*\}\}\}?""")
_ANGLE: Final = lazy_re(rf"<<\s?(?P<angle>{_NAME})\s?>>")
_UNSEEN: Final = lazy_re(
    r"<!--.*?(?:-->|\Z)"
    r"|<(?P<tag>style|script|pre|code|kbd|samp|tt|textarea|xmp|svg)\b[^<>]*>.*?(?:</(?P=tag)\s*>|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_CODE: Final = lazy_re(
    r"^(```++|~~~++)[^\n]*+\n.*?(?:^\1|\Z)|(?<!`)(`+)(?!`)[^\n]{0,2000}?(?<!`)\2(?!`)",
    re.DOTALL | re.MULTILINE,
)
_TAG: Final = lazy_re(r"""</?[a-zA-Z](?:"[^"]*"|'[^']*'|[^<>"'])*+>""")
_ATTRIBUTE: Final = lazy_re(r"""([\w:@.-]+)\s*=\s*("[^"]*"|'[^']*'|[^\s"'<>]+)""")
_READ: Final = frozenset({"alt", "title", "aria-label", "content", "value", "summary", "label"})
"""Attributes that people read, or hear."""
_LEADS: Final = frozenset({"href", "src", "background", "action", "cite", "poster", "data-href"})
_ADDRESS: Final = lazy_re(r"(?:https?|ftp|mailto|tel):[^\s<>\"']+|\bwww\.[^\s<>\"']+", re.IGNORECASE)
_IN_ADDRESS: Final = lazy_re(
    rf"{{(?P<brace>{_NAME})}}|(?:(?<==)|(?<=/)|\A)\[(?P<bracket>{_NAME})\](?=[&/\#]|\Z)"
    rf"|(?:(?<==)|\A)\#(?P<hash>{_NAME})\#(?=[&/\#]|\Z)"
    rf"|(?:(?<==)|(?<=/)|(?<=:)|\A)%(?P<percent>[^\W\d_][\w.]{{2,47}})%(?=[&/\#]|\Z)"
)
_HTML: Final = lazy_re(r"<(?:!doctype|html|body|p|div|table|td|span|br|a|img|h[1-6]|mj\w+)\b", re.IGNORECASE)

_WHOLE: Final = lazy_re(r"<(?:html|body|mjml)\b", re.IGNORECASE)


class Placeholder(NamedTuple):
    """A placeholder of another program, and its position."""

    start: int
    end: int
    shape: str
    field: Field
    certain: bool = True
    """Whether it is one in any context; otherwise only in a design of another program."""

    def written(self, text: str) -> str:
        """Return it as written in *text*."""
        return text[self.start : self.end]


def is_html(text: str) -> bool:
    """Return whether a template is HTML: its content decides, not its file name."""
    return _HTML.search(text) is not None


def find_placeholders(
    text: str, columns: ListColumns, *, html: bool | None = None, design: bool = False
) -> list[Placeholder]:
    """Find the placeholders of other programs.

    Args:
        text: a template, or a design that will become one.
        columns: the columns of the list.
        html: whether it is HTML; None: decide by its content.
        design: it was made for another program: other names in brackets are placeholders too.

    """
    if not any(mark in text for mark in "[{%*«#~<&"):
        return []
    masked = _without_tags(text)
    html = is_html(text) if html is None else html
    found = list(_in_html(masked, columns) if html else _in_text(masked, columns))
    return sorted(one for one in found if one.certain or (design and _is_of_a_design(one)))


def _is_of_a_design(one: Placeholder) -> bool:
    """Return whether something is a placeholder in text that was made for another program."""
    if one.shape == "brace" and one.field.fallback:  # {Company|your company} of GMass
        return True
    return one.shape != "guillemet" and one.field.common


def _blank(match: re.Match[str]) -> str:
    return "\0" * len(match[0])


def _in_text(text: str, columns: ListColumns) -> Iterator[Placeholder]:
    masked = _CODE.sub(_blank, text)
    addresses = [(found.start(), found.end()) for found in _ADDRESS.finditer(masked)]
    yield from _sure(masked)
    for start, end in addresses:
        yield from _in_address(masked[start:end], start, columns)
    prose = _ADDRESS.sub(_blank, _SURE.sub(_blank, masked))
    yield from _perhaps(prose, 0, columns)


def _in_html(text: str, columns: ListColumns) -> Iterator[Placeholder]:
    masked = _UNSEEN.sub(_blank, text)
    if not _WHOLE.search(text):  # HTML in Markdown
        masked = _CODE.sub(_blank, masked)
    yield from _sure(masked)
    masked = _SURE.sub(_blank, masked)
    for match in _ANGLE.finditer(masked):  # in HTML, a tag in angle brackets
        field = read_field(match["angle"])
        if _may_be_meant("angle", field, columns, masked, match):
            certain = _is_meant("angle", field, columns)
            yield Placeholder(match.start(), match.end(), "angle", field, certain)
    masked = _ANGLE.sub(_blank, masked)
    for tag in _TAG.finditer(masked):
        for attribute in _ATTRIBUTE.finditer(tag[0]):
            name, value = attribute[1].lower(), attribute[2]
            start = tag.start() + attribute.start(2)
            if value[:1] in {'"', "'"}:
                value, start = value[1:-1], start + 1
            if name in _READ:
                yield from _perhaps(value, start, columns)
            elif name in _LEADS:
                yield from _in_address(value, start, columns)
    prose = _TAG.sub(_blank, masked)
    yield from _sure(prose)  # into which an editor has put tags
    yield from _perhaps(_ADDRESS.sub(_blank, _SURE.sub(_blank, prose)), 0, columns)


def _sure(text: str) -> Iterator[Placeholder]:
    for match in _SURE.finditer(text):
        shape = match.lastgroup or ""
        field = read_field(match[shape])
        if shape == "dollar" and field.name.isupper() and not field.personal and "_" not in field.name:
            continue  # ${HOME} of a shell
        yield Placeholder(match.start(), match.end(), shape, field)


def _perhaps(text: str, ahead: int, columns: ListColumns) -> Iterator[Placeholder]:
    for match in _PERHAPS.finditer(text):
        shape = match.lastgroup or ""
        field = read_field(match[shape])
        if _may_be_meant(shape, field, columns, text, match):
            certain = _is_meant(shape, field, columns)
            yield Placeholder(ahead + match.start(), ahead + match.end(), shape, field, certain)


def _may_be_meant(shape: str, field: Field, columns: ListColumns, text: str, match: re.Match[str]) -> bool:
    if len(field.key) < 2 and not (columns.named(field) and shape in {"angle", "brace", "hash"}):
        return False
    if shape == "bracket":
        line_start = text.rfind("\n", 0, match.start()) + 1
        if text[line_start : match.start()].strip() == "" and re.match(
            r":\s*(?:<|https?:|/|\#|\.|\0)", text[match.end() : match.end() + 12]
        ):
            return False  # the address of a link in Markdown
        return not field.editorial
    return True


def _is_meant(shape: str, field: Field, columns: ListColumns) -> bool:
    known = columns.named(field)
    if shape == "guillemet":  # quotation marks in French, Russian, Swiss and Spanish
        return (
            known
            or (field.spelt_as_a_field and (field.personal or columns.written(field) is not None))
            or (field.personal and len(field.key) > 5 and field.name[:1].isupper())
        )
    if shape == "angle" and field.spelt_as_a_field:
        return True
    return known or field.personal


def _in_address(address: str, ahead: int, columns: ListColumns) -> Iterator[Placeholder]:
    for match in _IN_ADDRESS.finditer(address):
        shape = match.lastgroup or ""
        field = read_field(match[shape])
        certain = columns.named(field) or field.personal
        yield Placeholder(ahead + match.start(), ahead + match.end(), shape, field, certain)


def _without_tags(text: str) -> str:
    """Return a template with NULs in place of its own tags, in time that is linear in its length."""
    pieces: list[str] = []
    end = at = 0
    last_comment = text.rfind("#}")
    while found := _TAG_BEGIN.search(text, at):
        begin, at = found.start(), found.start() + 1
        most = begin + _LONGEST_TAG
        if found[0] == "{#":
            close = text.find("#}", begin + 2) + 2 if begin + 2 <= last_comment else 0
        elif found[0] == "{%":
            close = text.find("%}", begin + 2, most) + 2
        elif text.find("}}", begin + 2, most) < 0:
            continue
        else:
            inside = _IN_TAG.match(text, begin + 2, most)
            close = inside.end() if inside else 0
        if close > begin + 3:
            pieces += (text[end:begin], "\0" * (close - begin))
            end = at = close
    pieces.append(text[end:])
    return "".join(pieces)


def prose(text: str) -> str:
    """Return what people read in a template, with every other character replaced by a NUL."""
    masked = _without_tags(text)
    if is_html(text):
        return _TAG.sub(_blank, _UNSEEN.sub(_blank, masked))
    return _CODE.sub(_blank, masked)
