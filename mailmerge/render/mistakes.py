"""Mistakes that people make in templates: all such tags together, each with what was intended.

Jinja2 stops at the first tag that it cannot read, with a message in its own terms. Here the tags of such a
template are read one by one; a wrong tag is repaired in known ways, and a repair counts only if Jinja2 can
read the result.
"""

from __future__ import annotations

import inspect
import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from unicodedata import normalize

from jinja2 import TemplateSyntaxError, nodes
from msgspec import Struct

from mailmerge.designs.names import expression
from mailmerge.lazy_re import lazy_re
from mailmerge.text import did_you_mean, near

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from jinja2 import Environment

    from mailmerge.model import Columns

_OPENING: Final = lazy_re(r"\{\{|\{%|\{#")
_RAW: Final = lazy_re(r"\{%[-+]?\s*raw\s*[-+]?%\}")
_END_OF_RAW: Final = lazy_re(r"\{%[-+]?\s*endraw\s*[-+]?%\}")
_SIGNS: Final = lazy_re(r"\}\}|%\}|\{\{|\{%")
_MOST_ENDS: Final = 4
"""How many possible ends of a tag are tried: the first ones may be in strings in it."""
_WORD: Final = lazy_re(r"\{%[-+]?\s*(\w+)")
_STRING: Final = lazy_re(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')""")
_END_WORDS: Final[Mapping[str, str]] = {
    word: f"end{word}"
    for word in ("if", "for", "macro", "call", "filter", "set", "with", "block", "autoescape")
}
_BEFORE_END: Final[Mapping[str, str]] = {
    "endif": "{% if 1 %}",
    "endfor": "{% for _ in [] %}",
    "endmacro": "{% macro m() %}",
    "endcall": "{% call m() %}",
    "endfilter": "{% filter upper %}",
    "endset": "{% set m %}",
    "endwith": "{% with %}",
    "endautoescape": "{% autoescape true %}",
}
_MIDDLE: Final = ("elif", "else")
_WORDS_OF_BLOCKS: Final = (
    *_END_WORDS,
    *_END_WORDS.values(),
    *_MIDDLE,
    *("include", "extends", "import", "from", "raw", "endraw"),
)
_KEYWORDS: Final = frozenset({"if", "for", "in", "is", "not", "and", "or", "else", "elif", "set"})
_CONSTANTS: Final = frozenset(
    word for value in (True, False, None) for word in (repr(value), repr(value).lower())
)
_IN_CSS: Final = (
    "{# begins a comment: in CSS write { #main, with a space, or put {% raw %} around the style sheet"
)
_MONEY: Final = (
    *(
        "currency",
        "money_format",
        "format_currency",
        "numberformat_currency",
        "floatformat",
        "price",
        "cents",
    ),
    *("amount", "dollar", "dollars", "euro", "euros", "pound", "eur", "usd", "gbp", "chf", "cny", "jpy"),
)
_OTHER_FILTERS: Final[Mapping[str, str]] = {
    **dict.fromkeys(_MONEY, "money"),
    **dict.fromkeys(("upcase", "uppercase", "ucase", "toupper", "strtoupper"), "upper"),
    **dict.fromkeys(("downcase", "lowercase", "lcase", "tolower", "strtolower"), "lower"),
    **dict.fromkeys(("titlecase", "titleize", "proper", "ucwords", "propercase"), "title"),
    **dict.fromkeys(("ucfirst", "capitalise", "capfirst"), "capitalize"),
    **dict.fromkeys(("strftime", "date_format", "datetime", "format_date", "dateformat", "todate"), "date"),
    **dict.fromkeys(("timeformat", "format_time", "time_format"), "time"),
    **dict.fromkeys(("number_format", "format_number", "decimal", "intcomma", "comma"), "number"),
    **dict.fromkeys(("or", "ifempty", "default_if_none", "otherwise"), "fallback"),
    **dict.fromkeys(("strip", "rtrim", "ltrim"), "trim"),
    **dict.fromkeys(("newline_to_br", "linebreaks", "linebreaksbr"), "nl2br"),
    **dict.fromkeys(("strip_html", "strip_tags"), "striptags"),
    **dict.fromkeys(("url_encode", "urlencoded", "escape_url"), "urlencode"),
    **dict.fromkeys(("size", "len"), "length"),
}
"""Names in other programs for filters that exist."""
_OPERATORS: Final = (
    (r"&&", " and "),
    (r"\|\|", " or "),
    (r"<>", " != "),
    (r"!(?=[\w(])", "not "),
    (r"(?<![=!<>])=(?!=)", "=="),
    (r"===", "=="),
    (r"!==", "!="),
    (r"\bAND\b", "and"),
    (r"\bOR\b", "or"),
    (r"\bNOT\b", "not"),
    (r"\bIS\b", "is"),
    (r"\bIN\b", "in"),
)
"""Operators of other languages, and Jinja2's."""
_OTHER_TAGS: Final = (
    (r"\{%([-+]?)\s*(?:else\s*if|elseif|elsif|elsei)\b", r"{%\1 elif"),
    (r"\{%([-+]?)\s*end\s+(\w+)", r"{%\1 end\2"),
    (r"\{%(.*?)[:;]\s*%\}\Z", r"{%\1%}"),
    (r"\{\{\s*#?\s*(if|for|elif|set)\s+(.*?)\s*\}\}\Z", r"{% \1 \2 %}"),
    (r"\{\{\s*#unless\s+(.*?)\s*\}\}\Z", r"{% if not (\1) %}"),
    (r"\{\{\s*[~^]?\s*else\s*\}\}\Z", "{% else %}"),
    (r"\{\{\s*/\s*(?:if|unless)\s*\}\}\Z", "{% endif %}"),
    (r"\{\{\s*(end(?:if|for))\s*\}\}\Z", r"{% \1 %}"),
    (r"\{\{\s*[.$@=]\s*", "{{ "),
    (r"\s*[;,.]\s*\}\}\Z", " }}"),
    (r"\|\s*(\w+)\s*:\s*([^|}]+?)\s*(?=\||\}\})", r"|\1(\2)"),
    (r"\{%\s*([^%]+?)\s*%\}\Z", r"{{ \1 }}"),
)
"""Tags of other programs, and Jinja2's."""
_BRACKETED: Final = lazy_re(r"\{\{\s*[\[«<“„‘]\s*([^\[\]«»<>,|“”„‘’]+?)\s*[\]»>”“’]\s*\}\}")


class Mistake(Struct, frozen=True):
    """A tag that does not express what was intended."""

    line: int
    """Line and column where it begins, from 1."""
    word: str
    """The text to underline."""
    message: str
    hint: str | None
    code: str = "T101"


class _TemplateTag(Struct, frozen=True):
    start: int
    end: int
    text: str
    whole: bool = True


class Mistakes:
    """Finds mistakes in the templates of one environment."""

    def __init__(self, environment: Environment, columns: Columns, known: Iterable[str]) -> None:
        self._environment = environment
        self._known = set(known)
        pairs = sorted(zip(columns.headings, columns.names, strict=True), key=lambda pair: -len(pair[0]))
        self._spelt = {
            heading: expression(name, heading)
            for heading, name in pairs
            if heading.strip() and heading.casefold() not in _KEYWORDS
        }
        self._values = {
            heading: spelt
            for heading, spelt in self._spelt.items()
            if heading.lstrip("-+ ")[:1].isdigit() or heading in _CONSTANTS or heading.endswith(",")
        }
        """Headings that read as a number, a constant of Jinja or, with a comma, a list of one value."""

    # --- templates that cannot be read --------------------------------------------------------------

    def find(self, source: str) -> tuple[list[Mistake], str]:
        """Return what is wrong with the tags of *source*, and *source* with all of them repaired."""
        found: list[Mistake] = []
        pieces: list[str] = []
        open_tags: list[tuple[str, _TemplateTag]] = []
        at = 0
        for tag in self._tags(source):
            line = source.count("\n", 0, tag.start) + 1
            meant, mistake = self._looked_at(tag, line, [word for word, _ in open_tags])
            found += [mistake] if mistake else []
            if mistake is None and meant.startswith("{%"):
                closed, mistake = self._close(meant, line, open_tags, source, found)
                meant = closed + (meant if mistake is None else "")
                found += [mistake] if mistake else []
            elif meant.startswith("{%"):
                closed, _ = self._close(meant, line, open_tags, source, [])
                meant = closed + meant
            if (word := _word(meant)) in _END_WORDS and not (word == "set" and "=" in meant):
                open_tags.append((word, tag))
            lost = tag.text.count("\n") - meant.count("\n")
            pieces += (source[at : tag.start], meant, "\n" * max(0, lost))
            at = tag.end
        found += [_unclosed(word, tag, source) for word, tag in open_tags]
        pieces += (source[at:], *(f"{{% end{word} %}}" for word, _ in reversed(open_tags)))
        return sorted(found, key=lambda mistake: mistake.line), "".join(pieces)

    def _looked_at(self, tag: _TemplateTag, line: int, inside: list[str]) -> tuple[str, Mistake | None]:
        """Return the repaired tag, and what is wrong with it."""
        first = tag.text.strip().partition("\n")[0]
        if tag.text == "{#":
            return "", Mistake(
                line, "{#", "template syntax: the comment that {# begins does not end", _IN_CSS
            )
        if _RAW.fullmatch(tag.text):
            return "", Mistake(
                line, first, f"template syntax: `{first}` is never closed", "write {% endraw %} where it ends"
            )
        if not tag.whole:
            meant = self._completed(tag.text)
            message = f"template syntax: the tag `{_one_line(tag.text)}` does not end"
            return meant, Mistake(line, first, message, f"write {meant}" if meant else "close it with }}")
        problem = self._problem(tag.text)
        if problem is None:
            return tag.text, None
        if inside and re.fullmatch(r"\{%[-+]?\s*end\s*[-+]?%\}", tag.text):
            return f"{{% end{inside[-1]} %}}", Mistake(line, first, problem, f"write {{% end{inside[-1]} %}}")
        meant, mistake = self._explained(tag.text, problem, line)
        if not meant and (word := _word(tag.text)) in _END_WORDS:
            meant = {"if": "{% if 1 %}", "with": "{% with %}"}.get(word, "")
        return meant, mistake

    def _explained(self, text: str, problem: str, line: int) -> tuple[str, Mistake]:
        """Return what is wrong with a tag, and what was intended if that is known."""
        from mailmerge.designs.editors import damage

        first = text.strip().partition("\n")[0]
        meant, heading = self.meant(text)
        if meant and self._spelt.get(heading, heading) != heading:
            return meant, self._column_mistake(line, first, heading, meant)
        hint = damage(text) or (f"write {_one_line(meant)}" if meant else self._near(text))
        return meant, Mistake(line, first, problem, hint)

    def _column_mistake(self, line: int, first: str, heading: str, meant: str) -> Mistake:
        message = f'the column "{heading}" is written `{self._spelt[heading]}` in a template'
        return Mistake(line, first, message, f"write {_one_line(meant)}", "T160")

    def _close(
        self,
        text: str,
        line: int,
        open_tags: list[tuple[str, _TemplateTag]],
        source: str,
        found: list[Mistake],
    ) -> tuple[str, Mistake | None]:
        """Remove the block that *text* ends from *open_tags*; return the ends that were missing before it."""
        word = _word(text)
        owners = [opened for opened, _ in open_tags]
        closes = (
            word.removeprefix("end")
            if word in _END_WORDS.values()
            else next((owner for owner in reversed(owners) if owner in {"if", "for"}), "if")
            if word in _MIDDLE
            else ""
        )
        if not closes:
            return "", None
        if closes not in owners:
            shown = _one_line(text)
            what = "closes nothing" if word not in _MIDDLE else "belongs to no {% if %}"
            hint = f"remove it, or write {{% {closes} ... %}} before it"
            return "", Mistake(line, text.partition("\n")[0], f"template syntax: `{shown}` {what}", hint)
        missing = ""
        while open_tags[-1][0] != closes:
            opened, tag = open_tags.pop()
            found.append(_unclosed(opened, tag, source))
            missing += f"{{% end{opened} %}}"
        if word not in _MIDDLE:
            open_tags.pop()
        return missing, None

    # --- expressions outside tags ------------------------------------------------------------------

    def expression(self, text: str) -> str | None:
        """Hint at what was intended by an expression that is not in a tag."""
        if braces := re.fullmatch(r"\s*\{\{(.*)\}\}\s*", text, re.DOTALL):
            inner = f"{{{{{braces[1]}}}}}"
            return f"write {_one_line(braces[1])}" if self._problem(inner) is None else None
        tag = f"{{{{ {text} }}}}"
        mistakes, repaired = self.find(tag)
        if not mistakes:
            unknown = self._names(tag) - self._known
            mistakes = [mistake for mistake, _ in self.of_names(tag, unknown)]
            repaired = self.meant(tag)[0] if mistakes else ""
        if (
            mistakes
            and repaired
            and self._problem(repaired) is None
            and not self._names(repaired) - self._known
        ):
            return f"write {_one_line(repaired[2:-2])}"
        return None

    # --- tags --------------------------------------------------------------------------------------

    def _tags(self, source: str) -> Iterator[_TemplateTag]:
        """Yield the tags of a template as a person would see them, without complete comments."""
        at = 0
        while opening := _OPENING.search(source, at):
            start = opening.start()
            if opening[0] == "{#":
                end = source.find("#}", start + 2) + 2
                if end < 2:
                    yield _TemplateTag(start, start + 2, "{#")
                at = end if end >= 2 else start + 2
            elif raw := _RAW.match(source, start):
                end_of_raw = _END_OF_RAW.search(source, raw.end())
                if end_of_raw is None:
                    yield _TemplateTag(start, raw.end(), raw[0])
                at = (end_of_raw or raw).end()
            else:
                tag = self._tag(source, start)
                yield tag
                at = tag.end

    def _tag(self, source: str, start: int) -> _TemplateTag:
        """Find the end of a tag: the first one with which it can be read, else the first one."""
        sign = "}}" if source.startswith("{{", start) else "%}"
        ends: list[int] = []
        at = start + 2
        while len(ends) < _MOST_ENDS and (end := source.find(sign, at) + 2) > 1:
            ends.append(end)
            at = end
        for end in ends:
            if self._problem(source[start:end]) is None:
                return _TemplateTag(start, end, source[start:end])
        first = _SIGNS.search(source, start + (3 if source.startswith("{{{", start) else 2))
        if first and first[0] == sign:
            end = first.end()
            end += source.startswith("{{{", start) and source.startswith("}", end)
            return _TemplateTag(start, end, source[start:end])
        if first and first[0] in {"}}", "%}"}:  # the other one
            return _TemplateTag(start, first.end(), source[start : first.end()], whole=False)
        line_end = source.find("\n", start)
        limit = min(
            (place for place in (line_end, first.start() if first else -1) if place >= 0), default=len(source)
        )
        single = re.match(r"\{[{%][^{}%\n]*[%}]", source[start:limit])
        end = start + (single.end() if single else len(source[start:limit].rstrip()))
        return _TemplateTag(start, max(end, start + 2), source[start : max(end, start + 2)], whole=False)

    def _completed(self, text: str) -> str:
        """Return a tag that does not end, or ends with the wrong characters, with its end; empty: unknown."""
        inner = text[2:].rstrip("%}").strip()
        close = " }}" if text.startswith("{{") else " %}"
        for tried in (inner, *re.findall(r"\A\w+", inner)):
            made = f"{text[:2]} {tried}{close}"
            if tried and self._problem(made) is None:
                return made
        return ""

    def _problem(self, text: str) -> str | None:
        """Return why Jinja2 cannot read a tag; None: it can."""
        try:
            self._environment.parse(_alone(text))
        except TemplateSyntaxError as error:
            return plainly(error)
        except (RecursionError, ValueError, OverflowError, MemoryError):
            return None  # reported when the whole is compiled
        return None

    # --- what was intended ------------------------------------------------------------------------------

    def meant(self, text: str) -> tuple[str, str]:
        """Return the tag that was intended by one that cannot be read, and the heading in it.

        Both are empty if it is not known.
        """
        from mailmerge.designs.editors import alone, mend

        mended = alone(mend(text).text) if text[2:3] != "{" else text
        three = re.sub(r"\A\{\{\{\s*(.*?)\s*\}?\}\}\Z", r"{{ \1 }}", text, flags=re.DOTALL)
        bare = _BRACKETED.sub(r"{{ \1 }}", text)
        for candidate in dict.fromkeys((bare, mended, three)):
            for tried in (candidate, *_of_other_programs(candidate)):
                spelt, heading = self._with_columns(tried)
                if tried != text and self._reads(tried):
                    columns_too = heading and self._names(tried) - self._known and self._reads(spelt)
                    return spelt if columns_too else tried, ""
                if heading and self._reads(spelt):
                    return spelt, heading
        return "", ""

    def _reads(self, text: str) -> bool:
        """Return whether Jinja2 reads a tag; a lone word in it must be a known name."""
        if self._problem(text) is not None:
            return False
        lone = re.fullmatch(r"\{\{\s*(\w+)\s*\}\}", text)
        return lone is None or lone[1] in self._known

    def _with_columns(self, text: str) -> tuple[str, str]:
        """Replace headings in a tag with the columns' names in templates; return one of the headings too."""
        found = ""
        pieces = _STRING.split(normalize("NFC", text))  # as headings are written
        for at in range(0, len(pieces), 2):
            for heading, spelt in self._spelt.items():
                made = _heading_pattern(heading).sub(lambda _: f"\0{spelt}\0", pieces[at])  # noqa: B023
                if made != pieces[at]:
                    taken = _heading_pattern(heading).search(pieces[at])
                    found = found or (heading if taken and taken[0] != spelt else "")
                    pieces[at] = made
        return ("".join(pieces).replace("\0", ""), found) if found else (text, "")

    def _near(self, text: str) -> str | None:
        """Hint at what was probably intended by unknown words."""
        word = _word(text)
        if text.startswith("{%") and word not in _WORDS_OF_BLOCKS:
            return did_you_mean(word, _WORDS_OF_BLOCKS)
        words = re.search(r"[^\W\d]\w*(?:[ \t-]+\w+)+", _STRING.sub("", text[2:-2]).partition("|")[0])
        if words is None or text.startswith("{%"):
            return None
        hint = did_you_mean(words[0], [name for name in self._known if not name.startswith("_")])
        return hint or f"a name contains no spaces: {', '.join(list(self._spelt.values())[:12])}"

    # --- tags that can be read, but mean something else ---------------------------------------------

    def of_names(self, source: str, unknown: set[str]) -> Iterator[tuple[Mistake, set[str]]]:
        """Yield the tags in which *unknown* names are parts of a heading, with those names."""
        for tag in self._tags(source):
            names = self._names(tag.text) & unknown
            if not names:
                continue
            meant, heading = self.meant(tag.text)
            if not meant or self._names(meant) & unknown:
                continue
            line = source.count("\n", 0, tag.start) + 1
            first = tag.text.partition("\n")[0]
            if heading:
                yield self._column_mistake(line, first, heading, meant), names
            else:
                message = f"`{_one_line(tag.text)}` is not a value"
                yield Mistake(line, first, message, f"write {_one_line(meant)}"), names

    def of_values(self, source: str) -> Iterator[Mistake]:
        """Yield the tags that are headings of a column and print something else: ``{{ 2024 }}``."""
        for tag in self._tags(source) if self._values else ():
            said = normalize("NFC", tag.text[2:-2].partition("|")[0].strip())
            heading = said if said in self._values else said.strip("-+ \t\n")  # a sign may be the tag's
            if not tag.text.startswith("{{") or heading not in self._values:
                continue
            if self._names(tag.text) <= {self._values[heading]}:
                line = source.count("\n", 0, tag.start) + 1
                meant = tag.text.replace(heading, self._values[heading], 1)
                yield self._column_mistake(line, tag.text.partition("\n")[0], heading, meant)

    def _names(self, text: str) -> set[str]:
        try:
            tree = self._environment.parse(_alone(text))
        except (TemplateSyntaxError, RecursionError, ValueError, OverflowError, MemoryError):
            return set()
        return {name.name for name in tree.find_all(nodes.Name) if name.ctx == "load"}

    def of_filters(self, tree: nodes.Template) -> Iterator[Mistake]:
        """Yield what is wrong with filters and tests, and replace in *tree* those that do not exist."""
        if any(test.name in {"filter", "test"} for test in tree.find_all(nodes.Test)):
            return  # it tests whether they exist
        tables: tuple[tuple[Any, str, Any, str], ...] = (
            (nodes.Filter, "filter", self._environment.filters, "string"),
            (nodes.Test, "test", self._environment.tests, "defined"),
        )
        for kind, what, table, stand_in in tables:
            for node in tree.find_all(kind):
                if node.name not in table:
                    message = f"template syntax: no {what} named '{node.name}'"
                    yield Mistake(node.lineno, node.name, message, nearest(what, node.name, table))
                    node.name, node.args, node.kwargs = stand_in, [], []
                    node.dyn_args = node.dyn_kwargs = None
                elif what == "filter" and (wrong := _wrong_call(node, table[node.name])):
                    yield wrong


def plainly(error: TemplateSyntaxError) -> str:
    """Return Jinja2's message about a template without its internal terms."""
    message = (error.message or "syntax error").rstrip(".")
    message = re.sub(r"(unexpected char ['\"].*['\"]) at \d+\Z", r"\1", message, flags=re.DOTALL)
    if message in {"unexpected char '\"'", 'unexpected char "\'"'}:
        message = "a quotation mark is not closed"
    elif re.fullmatch(r"unexpected 'end of .*'", message):
        message = "something is missing at its end"
    if got := re.search(r"\Aexpected token '.*', got '(.*)'\Z", message, re.DOTALL):
        kinds = {"integer": "a number", "float": "a number", "string": "a quoted string"}
        message = f"{kinds.get(got[1], f'`{got[1]}`')} is not expected here"
        if got[1] in {"end of template", "end of statement block", "end of print statement"}:
            message = "something is missing before the end of the tag"
    return f"template syntax: {message[:1].lower()}{message[1:]}"


def nearest(what: str, name: str, known: Iterable[str]) -> str:
    """List the existing filters or tests, the most similar names first."""
    from difflib import SequenceMatcher

    names = [other for other in known if other[:1].isalpha()]
    meant = _OTHER_FILTERS.get(name.casefold())
    likely = [meant] if meant in names else list(near(name, names))
    if not likely:  # a slip in another program's word
        words = near(name, _OTHER_FILTERS, strict=True)
        likely = [found for found in dict.fromkeys(_OTHER_FILTERS[word] for word in words) if found in names]
    ranked = sorted(
        names, key=lambda other: (other not in likely, -SequenceMatcher(None, name, other).ratio())
    )
    hint = f"did you mean {' or '.join(f'`{other}`' for other in likely)}? " if likely else ""
    return f"{hint}{what}s: {', '.join(ranked)}"


def _wrong_call(node: nodes.Filter, function: Any) -> Mistake | None:
    """Report a wrong call of one of our filters: found before a row makes it fail."""
    method = getattr(function, "method", None)
    if method is None or node.dyn_args is not None or node.dyn_kwargs is not None:
        return None
    named: dict[str, Any] = {str(pair.key): None for pair in node.kwargs if pair.key != "default"}
    try:
        inspect.signature(method).bind(None, *node.args, **named)
    except TypeError as error:
        message, hint = f"`{node.name}` cannot be called like this: {error}", None
        if node.name == "money" and not node.args and "currency" not in named:
            message, hint = "`money` needs the currency", 'write |money("EUR"), with your currency'
        return Mistake(node.lineno, node.name, message, hint, "T161")
    return None


def _unclosed(word: str, tag: _TemplateTag, source: str) -> Mistake:
    line = source.count("\n", 0, tag.start) + 1
    message = f"template syntax: `{_one_line(tag.text)}` is never closed"
    hint = f"write {{% end{word} %}} where it should end"
    return Mistake(line, tag.text.partition("\n")[0], message, hint)


def _alone(text: str) -> str:
    """Return a template with this one tag."""
    word = _word(text)
    if word in _MIDDLE:
        return f"{{% if 1 %}}{text}{{% endif %}}"
    if word in _BEFORE_END:
        return _BEFORE_END[word] + text
    if word == "endblock":
        name = re.search(r"endblock\s+(\w+)", text)
        return f"{{% block {name[1] if name else 'm'} %}}{text}"
    if word in _END_WORDS and not (word == "set" and "=" in _STRING.sub("", text)):
        return f"{text}{{% end{word} %}}"
    return text


def _of_other_programs(text: str) -> Iterator[str]:
    """Yield Jinja2's forms of a tag that is written as in another language."""
    for pattern, replacement in _OTHER_TAGS:
        made = re.sub(pattern, replacement, text, flags=re.DOTALL)
        if made != text:
            yield made
            if (other := _with_operators(made)) != made:
                yield other
    if (made := _with_operators(text)) != text:
        yield made


def _with_operators(text: str) -> str:
    if _word(text) == "set":
        return text
    pieces = _STRING.split(text[2:-2])
    for at in range(0, len(pieces), 2):
        for pattern, replacement in _OPERATORS:
            pieces[at] = (
                re.sub(rf"[ \t]*{pattern}[ \t]*", f" {replacement.strip()} ", pieces[at])
                if (re.search(pattern, pieces[at]))
                else pieces[at]
            )
    return text[:2] + "".join(pieces) + text[-2:]


def _word(text: str) -> str:
    word = _WORD.match(text)
    return word[1] if word else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())


@cache
def _heading_pattern(heading: str) -> re.Pattern[str]:
    """Return a pattern for a heading in a tag, with any spaces, hyphens or case, or as ``row.Heading``."""
    words = r"[\s\u00a0_-]+".join(re.escape(word) for word in re.split(r"[\s\u00a0_]+", heading.strip()))
    left = r"(?<![\w\0])" if heading.strip()[0].isalnum() else r"(?<!\0)"
    right = r"(?![\w\0])" if heading.strip()[-1].isalnum() else r"(?!\0)"
    return re.compile(
        rf"(?:\brow\s*\.\s*{words}|\brow\s*\[\s*{words}\s*\]|{left}{words}){right}", re.IGNORECASE
    )
