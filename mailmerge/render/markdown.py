"""Markdown bodies: CommonMark with tables, made into an HTML template once, before the first row.

The tags of Jinja are marks while Markdown is read (`mailmerge.render.tags`), so that a cell is never read as
Markdown: it is printed into finished HTML. The content between the tags of one ``if`` or ``for`` must then be
whole elements. Tags within a line stay where they are. Tags that have a line to themselves, or that begin or
end a line of a list or table, belong between blocks: Markdown is read without them (so the items of a loop
are one list, and its rows one table), and they are reinserted where their lines were.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from linkify_it import LinkifyIt
from markdown_it import MarkdownIt
from markdown_it.token import Token
from msgspec import Struct, field

from mailmerge.errors import TemplateError
from mailmerge.model import Place
from mailmerge.render.tags import CLOSE, MARK, OPEN, Tags

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_MARKS = f"(?:{MARK.pattern})".replace("([0-9]+)", "[0-9]+")
_HEAD: Final = re.compile(rf"([ \t]*)((?:{_MARKS}[ \t]*)+)(.*)", re.DOTALL)
_TAIL: Final = re.compile(rf"(.*?)((?:[ \t]*{_MARKS})+)[ \t]*", re.DOTALL)
_BLOCK: Final = re.compile(r"[-*+][ \t]|[0-9]{1,9}[.)][ \t]|#{1,6}[ \t]|>|\||```|~~~")
_SHOWN: Final = re.compile(rf"<({_MARKS})>")
_LEAVES: Final = frozenset({"inline", "fence", "code_block", "html_block", "hr"})
_LISTS: Final = frozenset({"bullet_list_open", "ordered_list_open", "tbody_open"})
_CONTAINERS: Final = _LISTS | {"", "blockquote_open", "list_item_open", "table_open"}


class Markdown(Struct, frozen=True):
    """The result of converting a Markdown template; both texts still contain marks for tags."""

    html: str
    text: str
    """The template itself, without lines that contained only tags."""


class _TagGroup(Struct):
    """Tags that belong together, such as ``if``, ``else`` and ``endif``, and the groups between them."""

    numbers: list[int]
    inner: list[_TagGroup] = field(default_factory=list)

    def every(self) -> Iterator[int]:
        """Yield its tags and those of the groups in it."""
        yield from self.numbers
        for group in self.inner:
            yield from group.every()


def convert(source: str, tags: Tags, name: str = "") -> Markdown:
    """Convert a Markdown template whose tags were taken out to HTML.

    Args:
        source: the template.
        tags: its tags.
        name: its name; paragraphs then record where they were written.

    Raises:
        TemplateError: tags that belong together are in different paragraphs.

    """
    return _MarkdownConversion(source, tags, name).run()


def as_html(source: str, name: str, tags: Tags) -> str:
    """Convert a Markdown template that others include to an HTML one; its tags stay in their lines.

    Raises:
        TemplateError: tags that belong together are in different paragraphs.
        TemplateSyntaxError: a tag does not end.

    """
    pieces = re.split(r"(<pre\b.*?</pre>)", convert(tags.take_out(source, name), tags).html, flags=re.DOTALL)
    pieces[::2] = [piece.replace("\n", " ") for piece in pieces[::2]]
    return tags.put_back_in_lines("".join(pieces))


class _MarkdownConversion:
    """The conversion of one template."""

    def __init__(self, source: str, tags: Tags, name: str) -> None:
        self._tags = tags
        self._name = name
        self._source = source
        self._lines = source.split("\n")
        self._offsets = [0, *accumulate(len(text) + 1 for text in self._lines)]
        self._markdown = _parser(tags)
        self._groups = _grouped([n for n in tags.numbers(source) if tags[n].word], tags)
        self._where = _places_of(self._lines)
        self._apart = self._standing_apart(source)
        self._kept: set[int] = set()
        """Tags between blocks, but in the middle of one piece: code, HTML, a paragraph."""
        self._parting: set[int] = set()
        """Tags that end a paragraph."""

    def run(self) -> Markdown:
        self._settle()
        reduced, positions = self._reduced()
        tokens = self._markdown.parse(reduced)
        starts: dict[int, list[str]] = {}
        self._place_all(tokens, positions, starts)
        made: list[Token] = []
        for at in range(len(tokens) + 1):
            made += [Token("jinja", "", 0, content=mark) for mark in starts.get(at, ())]
            if self._name and at < len(tokens) and (written := self._written(tokens[at])):
                made.append(Token("jinja", "", 0, content=written))
            made += tokens[at : at + 1]
        self._refuse_torn(made)
        self._bare_definitions(made)
        html = self._markdown.renderer.render(made, self._markdown.options, {})
        return Markdown(html, self._text())

    def _written(self, token: Token) -> str:
        """Return a mark that records where a block was written."""
        if token.map is None or token.hidden or token.type == "inline":
            return ""
        line = self._origins[min(token.map[0], len(self._origins) - 1)]
        of = self._tags.line_of(self._name, self._source, self._offsets[line])
        return self._tags.anchor(self._name, of, by_line=False)

    # --- which tags belong between blocks ------------------------------------------------------------

    def _standing_apart(self, source: str) -> set[int]:
        found: set[int] = set()
        for group in _every(self._groups):
            kinds = [self._where[number][1] for number in group.numbers]
            first, others = kinds[0], kinds[1:]
            word = self._tags[group.numbers[0]].word
            if word == "if" and len(kinds) == 2 and self._is_paragraph(*group.numbers):
                first = "head"
            if first in {"alone", "head"} and all(kind != "within" for kind in others):
                found.update(group.numbers)
            elif first == "tail" and others and all(kind != "within" for kind in others):
                begin, end = (source.index(f"{OPEN}{group.numbers[at]}") for at in (0, -1))
                if re.search(r"\n[ \t]*\n", source[begin:end]):
                    found.update(group.numbers)
        return found

    def _is_paragraph(self, begin: int, end: int) -> bool:
        """Return whether two tags are the first and the last of a paragraph."""
        first, last = self._where[begin][0], self._where[end][0]
        starts = self._lines[first].lstrip().startswith(self._mark(begin))
        ends = self._lines[last].rstrip().endswith(self._mark(end))
        lines = ["", *self._lines, ""]
        around = lines[first].strip() or lines[last + 2].strip()
        return starts and ends and not around and all(line.strip() for line in lines[first + 1 : last + 2])

    def _settle(self) -> None:
        """Find tags in the middle of what Markdown reads as one piece without them."""
        reduced, positions = self._reduced()
        leaves = [token for token in self._markdown.parse(reduced) if token.type in _LEAVES and token.map]
        around = {
            number: next((leaf for leaf in leaves if leaf.map[0] < line < leaf.map[1]), None)  # type: ignore[index]
            for number, line in positions.items()
        }
        for group in _every(self._groups):
            inside = [around.get(number) for number in group.numbers]
            pieces = [piece for piece in inside if piece is not None]
            if not pieces:
                continue
            end = (pieces[0].map or (0, 0))[1]
            all_within = inside[0] is pieces[0] and all(positions[n] <= end for n in group.numbers)
            if pieces[0].type != "inline" or (
                all_within and any(self._tags[number].trims for number in group.numbers)
            ):
                self._kept.update(group.numbers)
            else:
                self._parting.update(n for n, piece in zip(group.numbers, inside, strict=True) if piece)

    def _reduced(self) -> tuple[str, dict[int, int]]:
        """Return the source without the tags between blocks, and the line before which each of them was."""
        lines: list[str] = []
        positions: dict[int, int] = {}
        self._origins: list[int] = []
        """By line of the result: the original line."""
        taken = self._apart - self._kept
        for at, text in enumerate(self._lines):
            left = text
            head = _HEAD.fullmatch(text)
            before: list[int] = []
            after: list[int] = []
            if head and (numbers := self._tags.numbers(head[2])) and taken.issuperset(numbers):
                before, left = numbers, head[1] + head[3]
            tail = _TAIL.fullmatch(left)
            if tail and (numbers := self._trailing(tail[2], taken)):
                after = numbers
                left = left[: left.index(f"{OPEN}{numbers[0]}")].rstrip(" \t")
            for number in before:
                self._part(lines, number)
                positions[number] = len(lines)
            if left.strip() or not (before or after):
                lines.append(left)
            for number in after:
                self._part(lines, number)
                positions[number] = len(lines)
            self._origins += [at] * (len(lines) - len(self._origins))
        return "\n".join(lines), positions

    def _part(self, lines: list[str], number: int) -> None:
        if number in self._parting and lines and lines[-1]:
            lines.append("")

    def _trailing(self, marks: str, taken: set[int]) -> list[int]:
        """Return the tags between blocks at the end of a line: those after the last other tag."""
        numbers = self._tags.numbers(marks)
        while numbers and not taken.issuperset(numbers):
            numbers = numbers[1:]
        return numbers

    # --- where they are reinserted -------------------------------------------------------------------------

    def _place_all(
        self, tokens: Sequence[Token], positions: dict[int, int], starts: dict[int, list[str]]
    ) -> None:
        gaps = _Gaps(tokens)
        self._place(self._groups, gaps, positions, (0, len(tokens)), starts)

    def _place(
        self,
        groups: Iterable[_TagGroup],
        gaps: _Gaps,
        positions: dict[int, int],
        bounds: tuple[int, int],
        starts: dict[int, list[str]],
    ) -> None:
        low, high = bounds
        for group in groups:
            numbers = [number for number in group.numbers if number in positions]
            if not numbers:
                self._place(group.inner, gaps, positions, (low, high), starts)
                continue
            loop = self._tags[numbers[0]].word == "for"
            chosen = gaps.choose([positions[number] for number in numbers], (low, high), loop=loop)
            if chosen is None:
                raise self._torn(group)
            first, second = chosen[0], chosen[1] if len(chosen) > 1 else high
            whole = gaps.one_list(first, second) if loop else None
            starts.setdefault(chosen[0], []).append(self._mark(numbers[0]))
            inner_bounds = (chosen[0], chosen[-1])
            if whole:
                tag = self._tags[numbers[0]]
                opened = self._condition("loop.first", tag.name, tag.line)
                closed = self._condition("loop.last", tag.name, tag.line)
                starts.setdefault(whole[0], []).append(opened[0])
                starts.setdefault(whole[0] + 1, []).insert(0, opened[1])
                starts.setdefault(whole[1], []).append(closed[0])
                inner_bounds = (whole[0] + 1, whole[1])
            if group.inner:
                between: dict[int, list[str]] = {}
                self._place(group.inner, gaps, positions, inner_bounds, between)
                for at, marks in between.items():
                    old = starts.setdefault(at, [])
                    if whole and at == whole[1]:
                        old[:] = [*marks, *old]
                    else:
                        old += marks
            if whole:
                starts.setdefault(whole[1] + 1, []).insert(0, closed[1])
            for number, gap in zip(numbers[1:], chosen[1:], strict=True):
                starts.setdefault(gap, []).append(self._mark(number))
            low = chosen[-1]

    def _condition(self, what: str, name: str, line: int) -> tuple[str, str]:
        return (
            self._tags.add(f"{{% if {what} %}}", name, line),
            self._tags.add("{% endif %}", name, line),
        )

    def _mark(self, number: int) -> str:
        return f"{OPEN}{number}{CLOSE}"

    def _refuse_torn(self, tokens: Sequence[Token]) -> None:
        """Refuse tags that belong together but are in pieces of text that do not."""
        where: dict[int, int] = {}
        for at, token in enumerate(tokens):
            if token.type == "html_block":
                at = -2  # noqa: PLW2901  what its author writes as HTML may be cut by blank lines
            if token.type != "jinja":
                where |= dict.fromkeys(self._tags.numbers(token.content), at)
        for group in _every(self._groups):
            places = {where.get(number, -1) for number in group.numbers}
            if len(places) > 1:
                raise self._torn(group)

    def _bare_definitions(self, tokens: Sequence[Token]) -> None:
        """Keep definitions, and what they define, from becoming paragraphs."""
        for at, token in enumerate(tokens):
            marks = MARK.findall(token.content) if token.type == "inline" else []
            words = [self._tags[int(mark)].word for mark in (*marks[:1], *marks[-1:])]
            whole = token.content.startswith(OPEN) and token.content.endswith(CLOSE)
            if whole and words in (["macro", "endmacro"], ["set", "endset"], ["set", "set"]):
                tokens[at - 1].hidden = tokens[at + 1].hidden = True

    def _torn(self, group: _TagGroup) -> TemplateError:
        first, last = self._tags[group.numbers[0]], self._tags[group.numbers[-1]]
        return TemplateError(
            f"`{first.word}` begins in one paragraph and ends in another, in line {last.line}",
            code="T110",
            hint="write each of its tags on a line of its own",
            place=Place(path=first.name, line=first.line),
        )

    # --- the text part --------------------------------------------------------------------------------

    def _text(self) -> str:
        """Return the source; lines of tags alone take their line breaks with them, except separators."""
        pieces: list[str] = []
        for text in self._lines:
            numbers = self._tags.numbers(text)
            alone = numbers and not MARK.sub("", text).strip()
            plain = all(
                self._tags[n].word not in {"", "include"} and not self._tags[n].trims for n in numbers
            )
            if alone and plain and self._parting.isdisjoint(numbers):
                tag = self._tags[numbers[-1]]
                end = re.search(r"[-+]?%\}$", tag.source)
                assert end is not None
                swallowing = f"{tag.source[: end.start()]}\n{end[0]}"
                last = self._tags.add(swallowing, tag.name, tag.line)
                pieces.append("".join((*map(self._mark, numbers[:-1]), last)))
            else:
                pieces.append(f"{text}\n")
        return "".join(pieces).removesuffix("\n")


class _Gaps:
    """The gaps between the tokens of a document, and the elements around each of them."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._leaves = [at for at, token in enumerate(tokens) if token.type in _LEAVES and token.map]
        self._starts = list(accumulate(((tokens[at].map or [0])[0] for at in self._leaves), max))
        self._parents: list[int] = []
        """By gap: the token that opened its element; -1: the document."""
        open_: list[int] = []
        for at, token in enumerate(tokens):
            if token.nesting < 0:
                self._parents.append(open_[-1])
                open_.pop()
                continue
            self._parents.append(open_[-1] if open_ else -1)
            if token.nesting > 0:
                open_.append(at)
        self._parents.append(-1)

    def choose(self, lines: Sequence[int], bounds: tuple[int, int], *, loop: bool) -> list[int] | None:
        """Find a gap for each of the tags that were before *lines*, all of them in the same element."""
        found = [self._by_parent(line, bounds) for line in lines]
        common = [parent for parent in found[0] if all(parent in others for others in found)]
        if not common:
            return None
        outer = min(common)  # the one opened first contains the others
        chosen = [gaps[outer] for gaps in found]
        if loop and not (len(chosen) > 1 and self.one_list(chosen[0], chosen[1])):
            items = [parent for parent in common if self._type(parent) in _LISTS]
            if items:
                chosen = [gaps[items[0]] for gaps in found]
        return chosen

    def one_list(self, begin: int, end: int) -> tuple[int, int] | None:
        """Return the opening and closing tokens of a list if it is all that is between two gaps."""
        if end - begin < 2 or self._type(begin) not in _LISTS - {"tbody_open"}:
            return None
        inside = self._parents[begin + 1 : end]
        if begin in inside and end - 1 == self._closing(begin):
            return begin, end - 1
        return None

    def _closing(self, opening: int) -> int:
        return len(self._parents) - 1 - self._parents[::-1].index(opening)

    def _by_parent(self, line: int, bounds: tuple[int, int]) -> dict[int, int]:
        """Return the gaps for a tag that was before *line*, by their element."""
        low, high = bounds
        behind = bisect_left(self._starts, line)  # the first leaf that is not before the line
        if behind:
            low = max(low, self._leaves[behind - 1] + 1)
        if behind < len(self._leaves):
            high = min(high, self._leaves[behind])
        return {
            self._parents[gap]: gap
            for gap in range(low, high + 1)
            if self._type(self._parents[gap]) in _CONTAINERS
        }

    def _type(self, at: int) -> str:
        return self._tokens[at].type if 0 <= at < len(self._tokens) else ""


def _places_of(lines: Sequence[str]) -> dict[int, tuple[int, str]]:
    """Return for each mark its line, and its place in it: ``alone``, ``head``, ``tail`` or ``within``."""
    found: dict[int, tuple[int, str]] = {}
    for at, text in enumerate(lines):
        head, tail = _HEAD.fullmatch(text), _TAIL.fullmatch(text)
        alone = not MARK.sub("", text).strip()
        for mark in MARK.finditer(text):
            kind = "within"
            if alone:
                kind = "alone"
            elif head and mark.start() < head.start(3) and _BLOCK.match(head[3]):
                kind = "head"
            elif tail and mark.start() >= tail.start(2):
                kind = "tail"
            found[int(mark[1])] = at, kind
    return found


def _grouped(numbers: Iterable[int], tags: Tags) -> list[_TagGroup]:
    """Group the tags that belong together; a tag without an end is a group by itself."""
    open_: list[_TagGroup] = []
    done: list[_TagGroup] = []

    def close() -> None:
        group = open_.pop()
        (open_[-1].inner if open_ else done).append(group)

    for number in numbers:
        word = tags[number].word
        if word in {"else", "elif"} and open_:
            while len(open_) > 1 and tags[open_[-1].numbers[0]].word not in {"if", "for"}:
                _dissolve(open_, done)
            open_[-1].numbers.append(number)
        elif word.startswith("end") and any(tags[g.numbers[0]].word == word[3:] for g in open_):
            while tags[open_[-1].numbers[0]].word != word[3:]:
                _dissolve(open_, done)
            open_[-1].numbers.append(number)
            close()
        else:
            open_.append(_TagGroup([number]))
    while open_:
        _dissolve(open_, done)
    return done


def _dissolve(open_: list[_TagGroup], done: list[_TagGroup]) -> None:
    """Treat the innermost open group as a tag without an end: what follows it is not in it."""
    single = open_.pop()
    outer = open_[-1].inner if open_ else done
    inner, single.inner = single.inner, []
    outer += [single, *inner]


def _every(groups: Iterable[_TagGroup]) -> Iterator[_TagGroup]:
    for group in groups:
        yield group
        yield from _every(group.inner)


# --- the parser -----------------------------------------------------------------------------------------


def _parser(tags: Tags) -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"html": True, "linkify": True, "xhtmlOut": False})
    markdown.enable(["table", "strikethrough", "linkify"])
    markdown.linkify = LinkifyIt(options={"fuzzy_link": False, "fuzzy_email": False, "fuzzy_ip": False})
    normalise = markdown.normalizeLink

    def link(url: str) -> str:
        pieces = re.split(f"({_MARKS})", url)
        return "".join(piece if MARK.fullmatch(piece) else normalise(piece) for piece in pieces)

    def address(state: Any, silent: bool) -> bool:
        """Read ``<{{ url }}>``: a link that shows its target."""
        found = _SHOWN.match(state.src, state.pos, state.posMax)
        if not found or tags[tags.numbers(found[1])[0]].word:
            return False
        if not silent:
            tag = tags[tags.numbers(found[1])[0]]
            test = f'"@" in ({tag.expression})|string and ":" not in ({tag.expression})|string'
            scheme = tags.add(f"{{% if {test} %}}", tag.name, tag.line)
            end = tags.add("{% endif %}", tag.name, tag.line)
            state.push("link_open", "a", 1).attrs = {"href": f"{scheme}mailto:{end}{found[1]}"}
            state.push("text", "", 0).content = found[1]
            state.push("link_close", "a", -1)
        state.pos = found.end()
        return True

    markdown.normalizeLink = link  # type: ignore[method-assign]
    markdown.inline.ruler.before("autolink", "value_link", address)
    markdown.add_render_rule("jinja", _jinja)
    return markdown


def _jinja(_renderer: Any, tokens: Sequence[Token], at: int, _options: Any, _env: Any) -> str:
    return tokens[at].content
