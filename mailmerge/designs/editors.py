"""What mail editors and word processors do to template tags, and how that is undone.

They put markup between the braces of a tag (``{<span>{ name }</span>}``), curl its quotes, turn its spaces
into ``&nbsp;`` and ``>`` into ``&gt;``, wrap its lines, and percent-encode it in addresses.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote

from mailmerge.lazy_re import lazy_re

if TYPE_CHECKING:
    from collections.abc import Iterator

_INVISIBLE = "[\u00ad\u200b-\u200d\u2060\ufeff]"
_MARKUP = (
    r"<(?:/?[a-zA-Z][^<>{}]{0,2000}|/?[a-zA-Z]|!--[^{}]{0,2000}?--|!\[endif\]--|!--\[if[^<>{}]{0,200}\])>"
)
_BETWEEN = rf"(?:{_MARKUP}|{_INVISIBLE}|&(?:shy|zwnj|zwj|ZeroWidthSpace|\#8203|\#xFEFF);){{0,12}}"
_LEFT, _RIGHT = (
    r"(?:\{|&\#123;|&\#x7[bB];|&lbrace;|&lcub;|｛)",
    r"(?:\}|&\#125;|&\#x7[dD];|&rbrace;|&rcub;|｝)",
)
_INNER = r"(?:(?!\{\{|\{%|%\}|\}\}).){1,2000}?"
_TAG: Final = lazy_re(
    rf"(?P<open>{_LEFT}{_BETWEEN}{_LEFT})(?P<inner>{_INNER})(?P<close>{_RIGHT}{_BETWEEN}{_RIGHT})"
    rf"|(?P<open_block>{_LEFT}{_BETWEEN}%)(?P<block>{_INNER})(?P<close_block>%{_BETWEEN}{_RIGHT})",
    re.DOTALL,
)
_ENCODED: Final = lazy_re(
    r"(?P<scheme>https?://|mailto:)?(?P<tag>%7B%7B(?:(?!%7D%7D)[^\s\"'<>]){1,400}%7D%7D)", re.IGNORECASE
)
_OPAQUE: Final = lazy_re(
    r"<(?P<tag>style|script)\b[^<>]*>.*?(?:</(?P=tag)\s*>|\Z)"
    r"|\{%[-+]?\s*raw\s*[-+]?%\}.*?\{%[-+]?\s*endraw\s*[-+]?%\}|\{\#.*?\#\}",
    re.IGNORECASE | re.DOTALL,
)
_STRINGS: Final = lazy_re(r'"(?:\\.|[^"\\\n])*"' + r"|'(?:\\.|[^'\\\n])*'")
_ENTITY: Final = lazy_re(r"&(?:#\d{1,7}|#x[0-9a-fA-F]{1,6}|[a-zA-Z]{2,20});")
_CURLY_DOUBLE: Final = lazy_re("[“”„‟«»＂]")
_CURLY_SINGLE: Final = lazy_re("(?<!\\w)[‘’‚‛]|[‘’‚‛](?!\\w)")
_NAME: Final = lazy_re(r"</?([a-zA-Z][^\s/>]*)")
_VOID: Final = frozenset({"br", "wbr", "img", "hr", "input", "meta", "link"})


class Mended(NamedTuple):
    """Text whose tags are complete again."""

    text: str
    tags: tuple[tuple[int, str, str], ...]
    """The line of each changed tag, from 1; what it was, and what it is now."""


def mend(text: str) -> Mended:
    """Repair template tags that an editor has split; everything else is unchanged."""
    changed: list[tuple[int, str, str]] = []

    def whole(match: re.Match[str]) -> str:
        was = match[0]
        made = _mended(match)
        if made != was:
            changed.append((text.count("\n", 0, match.start()) + 1, was, made))
        return made

    pieces: list[str] = []
    at = 0
    for opaque in _OPAQUE.finditer(text):
        pieces += (_decoded(_TAG.sub(whole, text[at : opaque.start()])), opaque[0])
        at = opaque.end()
    pieces.append(_decoded(_TAG.sub(whole, text[at:])))
    return Mended("".join(pieces), tuple(changed))


def broken_tags(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield start and end of each tag whose braces an editor has separated, and the intended tag."""
    masked = _OPAQUE.sub(lambda found: " " * len(found[0]), text)
    for match in _TAG.finditer(masked):
        signs = [match[name] for name in ("open", "close", "open_block", "close_block") if match[name]]
        if any(len(sign) > 2 for sign in signs):
            start, made = match.start(), _mended(match)
            yield start, match.end(), alone(made)


def damage(source: str) -> str | None:
    """Return what an editor did to the first tag of a line that Jinja2 cannot read; None: unknown."""
    for match in re.finditer(r"\{\{\{\s*([^{}]{1,80}?)\s*\}\}\}", source):
        return f"{{{{{{ }}}}}} is the syntax of another program: write {{{{ {match[1]} }}}}"
    for match in _TAG.finditer(source):
        made = _mended(match)
        if made == match[0]:
            continue
        inner = match["inner"] or match["block"] or ""
        if _CURLY_DOUBLE.search(inner) or _CURLY_SINGLE.search(inner):
            what = "an editor has curled the quotes"
        elif re.search(_MARKUP, match[0]):
            what = "an editor has put markup into the tag"
        elif _ENTITY.search(inner):
            what = "an editor has escaped characters in the tag"
        else:
            what = "an editor has changed the tag"
        return f"{what}: write {alone(made)}"
    return None


def alone(made: str) -> str:
    """Return a repaired tag without the markup that was moved behind it."""
    return made[: max(made.rfind("}}"), made.rfind("%}")) + 2]


def _mended(match: re.Match[str]) -> str:
    block = match["open_block"] is not None
    inner = match["block"] if block else match["inner"]
    signs = (match["open_block"], match["close_block"]) if block else (match["open"], match["close"])
    removed = re.findall(_MARKUP, signs[0])
    outside = _STRINGS.sub("", inner)
    if re.search(_MARKUP, outside) or removed or len(signs[1]) > 2:
        removed += re.findall(_MARKUP, inner)
        inner = re.sub(_MARKUP, "", inner)
        outside = _STRINGS.sub("", inner)
    removed += re.findall(_MARKUP, signs[1])
    if _ENTITY.search(outside):
        from html import unescape

        inner = unescape(inner)
    inner = re.sub(_INVISIBLE, "", inner) if re.search(_INVISIBLE, outside) else inner
    inner = _straightened(inner)
    if re.search(r"[\n\u00a0\u2007\u202f]", inner):
        inner = re.sub(r"[\s\u00a0\u2007\u202f]+", " ", inner)
    left, right = ("{%", "%}") if block else ("{{", "}}")
    return f"{left}{inner}{right}{''.join(_unpaired(removed))}"


def _straightened(inner: str) -> str:
    """Straighten quotes that are not inside straight quotes."""
    pieces: list[str] = []
    at = 0
    for string in _STRINGS.finditer(inner):
        pieces += (_straight(inner[at : string.start()]), string[0])
        at = string.end()
    return "".join((*pieces, _straight(inner[at:])))


def _straight(code: str) -> str:
    code = _CURLY_SINGLE.sub("'", _CURLY_DOUBLE.sub('"', code))
    return re.sub(r"(?<=\s)[–—](?=\s)", "-", code)


def _unpaired(tags: list[str]) -> list[str]:
    """Return the tags that begin or end something outside, without matching pairs."""
    kept: list[str] = []
    for tag in tags:
        name = _NAME.match(tag)
        if name is None or (name[1].lower() in _VOID):
            continue
        before = _NAME.match(kept[-1]) if kept else None
        if tag.startswith("</") and before and not kept[-1].startswith("</") and before[1] == name[1]:
            kept.pop()
        else:
            kept.append(tag)
    return kept


def _decoded(text: str) -> str:
    """Decode tags that an editor has percent-encoded in an address."""
    if "%7B%7B" not in text and "%7b%7b" not in text:
        return text

    def plain(match: re.Match[str]) -> str:
        tag = unquote(match["tag"])
        whole_address = match.end() < len(text) and text[match.end()] in "\"'"
        keeps = match["scheme"] and not (whole_address and match["scheme"].startswith("http"))
        return (match["scheme"] if keeps else "") + tag

    return _ENCODED.sub(plain, text)
