"""Turns a design for another program into a template: its placeholders become ``{{ column }}``."""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING, Final

from jinja2.filters import FILTERS
from msgspec import Struct, field

from mailmerge.designs.editors import mend
from mailmerge.designs.names import Field, ListColumns, compared, quoted_in_template, read_field
from mailmerge.designs.placeholders import find_placeholders, is_html
from mailmerge.model import UNSUBSCRIBE_URL

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHEET: Final = re.compile(r"<(style|script)\b[^<>]*>(.*?)</\1\s*>", re.IGNORECASE | re.DOTALL)
TEMPLATE_CODE: Final = re.compile(r"\{[{%#]|[}%#]\}")
"""The signs at which template code begins and ends."""
_TOKEN: Final = re.compile(
    r"\*\|\s*(?P<mailchimp>(?:IF|IFNOT|INTERESTED|ELSEIF|ELSE|END):[^|*\n<>]{0,60})\|\*"
    r"|\{\{\{\s*(?P<triple>[^{}\n]{1,120}?)\s*\}\}\}"
    r"|\{\{(?P<double>[^{}]{1,200}?)\}\}"
    r"|\{%-?\s*(?P<tag>unsubscribe\w*|opt_?out\w*)(?:\s+(?:[\"'](?P<label>[^\"'%]{0,80})[\"'])?[^%]{0,80})?\s*-?%\}",
)
_LINK: Final = re.compile(
    r"<(?P<tag>unsubscribe|webversion|preferences)(?:\s[^<>]*)?>(?P<inner>.{0,2000}?)</(?P=tag)\s*>"
    r"|\[(?P<code>unsubscribe)\](?P<text>[^\[\]]{1,200})\[/(?P=code)\]",
    re.IGNORECASE | re.DOTALL,
)
_ADDRESS_BEFORE: Final = re.compile(
    r"(?:href|src|action)\s*=\s*(?:\"[^\"<>]+|'[^'<>]+|[^\"'<>\s]+)\Z", re.IGNORECASE
)
_LONGEST: Final = 4000
"""Characters of an element that are examined."""
_TAG_BEFORE: Final = re.compile(r"<[a-zA-Z][^<>]*\Z")
_CHARSET: Final = re.compile(r"(<meta\b[^<>]*?\bcharset\s*=\s*[\"']?\s*)([\w.:-]+)", re.IGNORECASE)
_FIELD_CODE: Final = re.compile(
    r"<!--\[if supportFields\]>(?P<code>.*?)<!\[endif\]-->", re.IGNORECASE | re.DOTALL
)
_MERGE_FIELD: Final = re.compile(
    r"MERGEFIELD\s+(?:\"(?P<quoted>[^\"]{1,80})\"|(?P<bare>[^\s\\\"]{1,80}))", re.IGNORECASE
)
_COMPARED: Final = {
    "": "{column} == {text}",
    "*": "{text} in ({column}|string)",
    "^": "({column}|string).startswith({text})",
    "$": "({column}|string).endswith({text})",
    **{sign: f"({{column}}|float) {sign} {{number}}" for sign in ("==", ">", ">=", "<", "<=")},
}
"""Comparisons of Thunderbird's Mail Merge."""
_FILTERS: Final = frozenset({"date", "time", "money", "number", "ordinal", "lines", "qr"})
"""Our filters in addition to Jinja2's."""
_MARKUP: Final = re.compile(r"<[^<>]*>")


class Converted(Struct):
    """A template made from a design, and what was changed."""

    text: str
    mapped: dict[str, str] = field(default_factory=dict)
    """Placeholders as they were written, and what each has become."""
    left: dict[str, int] = field(default_factory=dict)
    """Placeholders without a known column, and the line of the first of each."""
    mended: int = 0
    """How many template tags were repaired."""
    protected: bool = False
    """Whether braces of its style sheets had to be protected."""

    conditions: list[bool] = field(default_factory=list)
    """Open blocks, and whether each could be translated: otherwise its end is unchanged."""

    @property
    def unsubscribes(self) -> bool:
        """Whether it contains the recipient's own unsubscribe link."""
        return UNSUBSCRIBE_URL in self.text


def convert(source: str, columns: ListColumns) -> Converted:
    """Turn a design into a template.

    Args:
        source: HTML or plain text.
        columns: the columns of the list.

    """
    html = is_html(source)
    made = Converted(source)
    if html:
        made.text = _word_fields(_CHARSET.sub(r"\1utf-8", made.text), columns, made)
    mended = mend(made.text)
    made.text, made.mended = mended.text, len(mended.tags)
    if html:
        made.text = "".join(_without_sheets(made, columns))
    else:
        made.text = _translated(made.text, columns, made)
    for found in find_placeholders(made.text, columns, design=True):
        written = found.written(made.text)
        made.left.setdefault(written, made.text.count("\n", 0, found.start) + 1)
    return made


def _without_sheets(made: Converted, columns: ListColumns) -> Iterator[str]:
    """Yield the design in pieces: style sheets and scripts unchanged, the rest as a template."""
    text, at = made.text, 0
    for sheet in _SHEET.finditer(text):
        yield _translated(text[at : sheet.start()], columns, made)
        if TEMPLATE_CODE.search(sheet[2]) and "{%" not in text[max(0, sheet.start() - 14) : sheet.start()]:
            made.protected = True
            yield f"{{% raw %}}{sheet[0]}{{% endraw %}}"
        else:
            yield sheet[0]
        at = sheet.end()
    yield _translated(text[at:], columns, made)


def _translated(text: str, columns: ListColumns, made: Converted) -> str:
    """Return a piece with its placeholders in Jinja2's notation."""
    html = is_html(made.text)
    text = _LINK.sub(lambda found: _link(found, made), text) if html else text
    text = re.sub(r"(?<![{\"'])\{\#(?! [^\n]*\#\})", '{{ "{#" }}', text)
    text = _TOKEN.sub(lambda found: _token(found, columns, made), text)
    pieces: list[str] = []
    at = 0
    for one in find_placeholders(text, columns, html=html, design=True):
        written = one.written(text)
        expression = _expression(one.field, columns)
        if expression is None:
            continue
        tags = "".join(_MARKUP.findall(written)) if "</" in written else ""
        code = _printed(expression, one.field, _element_before(text, one.start))
        made.mapped.setdefault(" ".join(written.split()), code)
        pieces += (text[at : one.start], code, _unpaired(tags))
        at = one.end
    return "".join((*pieces, text[at:]))


def _element_before(text: str, end: int) -> str:
    """Return the text before a place since the last `<` or `>`, which shows if it is in an element."""
    begin = max(0, end - _LONGEST)
    return text[max(text.rfind("<", begin, end), text.rfind(">", begin, end), begin) : end]


def _unpaired(tags: str) -> str:
    """Return the markup in a placeholder, from an editor, that ends elements outside it."""
    opened, closed = len(re.findall(r"<[a-zA-Z]", tags)), tags.count("</")
    return "" if opened == closed else tags


def _expression(field: Field, columns: ListColumns) -> str | None:
    return UNSUBSCRIBE_URL if field.unsubscribes else columns.written(field)


def _printed(expression: str, field: Field, before: str) -> str:
    """Return the tag that prints a column at the end of *before*."""
    inside = _TAG_BEFORE.search(before) is not None
    if field.fallback and expression != UNSUBSCRIBE_URL:
        quote = "'" if inside else '"'
        if quote not in field.fallback and "\\" not in field.fallback:
            expression = f"{expression} or {quote}{field.fallback}{quote}"
    if expression != UNSUBSCRIBE_URL and _ADDRESS_BEFORE.search(before):
        expression = f"({expression})|urlencode" if " or " in expression else f"{expression}|urlencode"
    if inside:
        expression = expression.replace('row["', "row['").replace('"]', "']")
    return f"{{{{ {expression} }}}}"


def _link(found: re.Match[str], made: Converted) -> str:
    """Return a link for a pair of tags that another program turns into one."""
    name = (found["tag"] or found["code"] or "").lower()
    if name != "unsubscribe":
        return found[0]
    code = f'<a href="{{{{ {UNSUBSCRIBE_URL} }}}}">{found["inner"] or found["text"]}</a>'
    made.mapped[f"<{name}>" if found["tag"] else f"[{name}]"] = f"{{{{ {UNSUBSCRIBE_URL} }}}}"
    return code


def _token(found: re.Match[str], columns: ListColumns, made: Converted) -> str:
    """Translate a block or a tag in double braces; Jinja2's own are unchanged."""
    written = found[0]
    if found["mailchimp"]:
        code = _block(found["mailchimp"], columns, made.conditions)
    elif found["tag"]:
        label = found["label"]
        code = f"{{{{ {UNSUBSCRIBE_URL} }}}}"
        code = f'<a href="{code}">{label}</a>' if label and is_html(made.text) else code
    else:
        code = _braces(found, columns, made.conditions)
    if code is None:
        line = made.text.count("\n", 0, max(0, made.text.find(written))) + 1
        made.left.setdefault(" ".join(written.split()), line)
        return written
    if code != written:
        made.mapped[" ".join(written.split())] = code
    return code


def _block(inner: str, columns: ListColumns, conditions: list[bool]) -> str | None:
    """Translate a part of a Mailchimp condition; None: it, or its block, is not known."""
    kind, _, rest = inner.partition(":")
    kind = kind.strip().upper()
    if kind == "ELSE":
        return "{% else %}" if conditions and conditions[-1] else None
    if kind == "END":
        ends = rest.strip().upper().startswith(("IF", "INTERESTED"))  # and nothing that never began
        return "{% endif %}" if ends and conditions and conditions.pop() else None
    if kind == "ELSEIF":
        return _condition(kind, rest, columns) if conditions and conditions[-1] else None
    code = _condition(kind, rest, columns) if kind != "INTERESTED" else None
    conditions.append(code is not None)
    return code


def _condition(kind: str, rest: str, columns: ListColumns) -> str | None:
    name, sign, value = (part.strip() for part in rest.partition("="))
    expression = columns.written(read_field(name))
    if expression is None:
        return None
    if sign:
        value = value.strip("\"' ")
        expression = f"{expression} == '{value}'" if "'" not in value else expression
    return f"{{% {'elif' if kind == 'ELSEIF' else 'if'} {'not ' if kind == 'IFNOT' else ''}{expression} %}}"


def _braces(found: re.Match[str], columns: ListColumns, conditions: list[bool]) -> str | None:
    """Translate ``{{ ... }}``; None: its meaning is not known."""
    sure = found["triple"] is not None
    text = (found["triple"] or found["double"]).strip()
    if block := re.match(r"#(if|unless)\s+(.+)\Z|(/)(?:if|unless)\Z|(else)\Z", text):
        return _handlebars(block, columns, conditions)
    if (choice := _choice(text, columns)) is not None:
        return choice
    own = re.match(r"[^\W\d]\w*", text)
    ours = text == UNSUBSCRIBE_URL or (own is not None and columns.is_name(own[0]) and ":" not in text)
    if ours and not sure:
        return found[0]
    field = read_field(text)
    expression = _expression(field, columns)
    if expression is not None and compared(field.name):
        return _printed(expression, field, _element_before(found.string, found.start()))
    if not sure and (re.match(r"row\[|row\.|[\"'(]", text) or _is_jinja(text)):
        return found[0]
    return None


def _choice(text: str, columns: ListColumns) -> str | None:
    """Translate ``{{name|if|then|else}}`` of Thunderbird's Mail Merge; None: it is something else.

    With an operator in front, ``{{name|>|5|many|few}}``, the comparison is not for equality.
    """
    name, *parts = (part.strip() for part in unescape(text).split("|"))
    sign = parts.pop(0) if len(parts) > 2 and parts[0] in _COMPARED else ""
    if len(parts) not in {2, 3} or (not sign and all(map(_is_filter, parts))):
        return None
    field = read_field(name)
    column = columns.written(field)
    if column is None or not columns.named(field):
        return None
    wanted, then, other = (quoted_in_template(part) for part in (*parts, "")[:3])
    if sign in {"==", ">", ">=", "<", "<="} and not re.fullmatch(r"-?\d+(?:\.\d+)?", parts[0]):
        return None
    condition = _COMPARED[sign].format(column=column, text=wanted, number=parts[0])
    return f"{{{{ {then} if {condition} else {other} }}}}"


def _is_filter(part: str) -> bool:
    found = re.fullmatch(r"(\w+)(?:\(.*\))?", part)
    return found is not None and (found[1] in FILTERS or found[1] in _FILTERS)


def _handlebars(block: re.Match[str], columns: ListColumns, conditions: list[bool]) -> str | None:
    """Translate ``{{#if x}}``, ``{{else}}`` and ``{{/if}}``; None: the column is not known."""
    if block[3]:
        return "{% endif %}" if conditions and conditions.pop() else None
    if block[4]:
        return "{% else %}" if conditions and conditions[-1] else None
    expression = columns.written(read_field(block[2])) if re.fullmatch(r"[\w.]+", block[2]) else None
    conditions.append(expression is not None)
    return expression and f"{{% if {'not ' if block[1] == 'unless' else ''}{expression} %}}"


def _is_jinja(text: str) -> bool:
    """Return whether an expression is more than a name: a filter, a call, a calculation of Jinja2."""
    return (
        re.search(r"\|\s*\w+\s*(?:\(|\||\Z)|\w\(|\sif\s|\s[-+*~]\s", text) is not None
        and "default:" not in text
    )


# --- Word ------------------------------------------------------------------------------------------------


def _word_fields(text: str, columns: ListColumns, made: Converted) -> str:
    """Turn the merge fields of a page that Word saved into template tags; other fields show their text."""
    if "supportfields" not in text.lower():
        return text
    pieces: list[str] = []
    at = 0
    while code := _FIELD_CODE.search(text, at):
        pieces.append(text[at : code.start()])
        at = code.end()
        plain = " ".join(_MARKUP.sub("", code["code"]).replace("&quot;", '"').split())
        named = _MERGE_FIELD.search(plain)
        if not named:
            continue
        end = next(
            (one for one in _FIELD_CODE.finditer(text, at) if "field-end" in one["code"].lower()), None
        )
        name = named["quoted"] or named["bare"]
        expression = _expression(read_field(name), columns)
        shown = text[at : end.start()] if end else ""
        if expression is None:
            pieces.append(shown)
        else:
            made.mapped[f"«{name}»"] = f"{{{{ {expression} }}}}"
            tags = _MARKUP.findall(shown)
            lead, tail = [t for t in tags if not t.startswith("</")], [t for t in tags if t.startswith("</")]
            pieces.append(f"{''.join(lead)}{{{{ {expression} }}}}{''.join(tail)}")
        at = end.end() if end else at
    pieces.append(text[at:])
    return "".join(pieces)
