"""The two bodies of a campaign: Markdown, MJML, layouts, preheaders and styles, made into templates once.

Whatever an author writes becomes one text template and one HTML template before the first row. A row then
costs what it would cost if these had been written directly. Styles are moved, or the text is made, for each
row only if the result would differ from row to row (a tag inside a ``style``, an include).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from jinja2 import TemplateSyntaxError
from msgspec import Struct
from msgspec.structs import replace

from mailmerge.errors import TemplateError
from mailmerge.lazy_re import lazy_re
from mailmerge.model import Diagnostic, Place, Severity
from mailmerge.render.environments import MARKDOWN
from mailmerge.render.failures import UNCOMPILABLE, uncompilable
from mailmerge.render.tags import CLOSE, MARK, OPEN, Tag, Tags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mailmerge.render.compiler import Compiled, Compiler
    from mailmerge.render.markdown import Markdown
    from mailmerge.render.sources import MessageTemplates, TemplateSource

MJML: Final = (".mjml",)
_ELEMENT: Final = lazy_re(r"<(/?[\w-]+)")
_ROOT: Final = lazy_re(r"<mjml\b.*</mjml\s*>", re.DOTALL)
_TEXTS: Final = frozenset(
    """mj-accordion-text mj-accordion-title mj-button mj-navbar-link mj-preview mj-raw mj-social-element
    mj-style mj-table mj-text mj-title""".split()  # noqa: SIM905
)
"""MJML components that contain text or HTML."""
_SAID: Final = ("button", "button_url", "footer")
"""Values for a layout that people read."""
_BODY: Final = lazy_re(r"<!--.*?-->|<body\b(?:\"[^\"]*\"|'[^']*'|[^'\">])*>", re.IGNORECASE | re.DOTALL)
_WEB_FONTS: Final = ("Open Sans", "Droid Sans", "Lato", "Roboto", "Ubuntu")
"""Fonts that MJML can load."""
_PREHEADER: Final = (
    '<div style="display:none;max-height:0;max-width:0;opacity:0;mso-hide:all">{text}{padding}</div>'
)
_PADDING: Final = "&#847;&zwnj;&nbsp;" * 60
"""Invisible padding: without it inboxes append the beginning of the letter to the preheader."""


class Bodies(Struct):
    """The compiled bodies of a campaign."""

    text: Compiled | None = None
    html: Compiled | None = None
    inline: bool = False
    """Whether styles are moved into the elements of each row's HTML."""
    text_of_html: bool = False
    """Whether the text part is made from each row's HTML."""
    optional_text: bool = False
    """Whether the text part was made from the HTML, which may show no text."""
    warnings: tuple[Diagnostic, ...] = ()
    """Diagnostics that concern all rows."""


def is_markdown(part: TemplateSource | None) -> bool:
    """Whether a body is Markdown."""
    if part is None or part.path is None:
        return part is not None and part.markdown
    return part.path.suffix.lower() in MARKDOWN


def is_mjml(part: TemplateSource | None) -> bool:
    """Whether a body is an MJML file."""
    return part is not None and part.path is not None and part.path.suffix.lower() in MJML


def compile_bodies(compiler: Compiler, templates: MessageTemplates) -> Bodies:
    """Compile both bodies; problems are recorded by the *compiler*."""
    try:
        return _Maker(compiler, templates).make()
    except TemplateSyntaxError as error:
        if error.name or not compiler.problems:  # else it is of a template reported already
            compiler.note_syntax(error)
    except TemplateError as error:
        compiler.note(*(_placed(problem, compiler) for problem in error.diagnostics))
    return Bodies()


def _placed(problem: Diagnostic, compiler: Compiler) -> Diagnostic:
    """Return a problem with its place in the user's terms."""
    place = problem.place
    if place is None or place.path not in compiler.sources.texts:
        return problem
    return replace(problem, place=compiler.sources.place(place.path, place.line or 1))


class _Maker:
    """Builds the bodies of one campaign."""

    def __init__(self, compiler: Compiler, templates: MessageTemplates) -> None:
        self._compiler = compiler
        self._templates = templates
        self._tags = Tags(compiler.environment("html"))

    def make(self) -> Bodies:
        """Build both bodies."""
        bodies = Bodies()
        text, html = self._templates.text, self._templates.html
        if text is not None:
            bodies.text = (
                self._markdown_text(text) if is_markdown(text) else self._compiler.body(text, "text")
            )
        if html is None:
            return bodies
        if any(problem.code == "T101" for problem in self._compiler.problems):
            self._compiler.look_over(html, "html")
            return bodies
        plain = not (is_markdown(html) or is_mjml(html) or self._templates.layout)
        if plain and not (self._templates.preheader or self._templates.inline_css):
            bodies.html = self._compiler.body(html, "html")
            made = None
        else:
            made = self._html(html)
            bodies.html = self._compile(made, html, bodies)
        if text is None:
            self._make_text(bodies, html, made)
        return bodies

    # --- the text part --------------------------------------------------------------------------------

    def _markdown_text(self, part: TemplateSource) -> Compiled:
        name, source = self._load(part)
        tags = Tags(self._compiler.environment("text"))
        made = self._converted(source, name, tags).text
        said = "\n\n".join(self._around_text(tags)) if part == self._templates.html else ""
        if said:
            body = made.rstrip("\n")
            last = tags.numbers(body)[-1:] if body.endswith(CLOSE) else []
            in_line = last and tags[last[0]].word  # the text before it ended its line
            made = body + ("\n" if in_line else "\n\n") + said
        return self._compiler.derived(f"{name} (text)", tags.put_back(made), "text")

    def _around_text(self, tags: Tags) -> Iterator[str]:
        """Return the text of the layout around the body: the text part must not contain less."""
        told = self._templates.layout.variables if self._templates.layout else {}
        values = {key: tags.take_out(told.get(key, ""), f"message.layout_vars.{key}") for key in _SAID}
        if values["button"] and values["button_url"]:
            yield f"{values['button']}: {values['button_url']}"
        if values["footer"]:
            yield values["footer"]

    def _make_text(self, bodies: Bodies, part: TemplateSource, made: str | None) -> None:
        """Make the text part from the HTML: once if the template contains all of it, else for each row."""
        from mailmerge.render.plain_text import in_sight, text_of

        bodies.optional_text = True
        name, source = self._compiler.load(part)
        html, tags = (
            (made, self._tags) if made is not None else (self._tags.take_out(source, name), self._tags)
        )
        if in_sight(html, tags):
            derived = tags.put_back(text_of(html, tags))
            bodies.text = self._compiler.derived(f"{name} (text)", derived, "text")
        else:
            bodies.text_of_html = True

    # --- the HTML part --------------------------------------------------------------------------------

    def _html(self, part: TemplateSource) -> str:
        """Return a body and what surrounds it as HTML; its tags are still taken out."""
        name, source = self._load(part)
        if is_markdown(part):
            html = self._converted(source, name, self._tags).html
        elif is_mjml(part):
            html = self._compiled_mjml(self._tags.take_out(source, name, by_line=False), name)
        else:
            html = self._tags.anchor(name, 1) + self._tags.take_out(source, name)
        if self._templates.layout is not None:
            html = self._surrounded(html)
        return self._with_preheader(html)

    def _load(self, part: TemplateSource) -> tuple[str, str]:
        """Return name and source of a body whose tags are complete: others would end in what surrounds it.

        Raises:
            TemplateSyntaxError: a tag is not complete.
            TemplateError: they are nested too deeply.

        """
        name, source = self._compiler.load(part)
        try:
            self._compiler.environment("html").parse(source, name)
        except UNCOMPILABLE as error:
            code, reason, hint = uncompilable(error)
            raise TemplateError(
                f"the template cannot be used: {reason}", code=code, hint=hint, place=Place(path=name, line=1)
            ) from None
        return name, source

    def _converted(self, source: str, name: str, tags: Tags) -> Markdown:
        from mailmerge.render.markdown import convert

        return convert(tags.take_out(source, name, by_line=False), tags, name)

    def _surrounded(self, html: str) -> str:
        from mailmerge.render.layouts import surround

        layout = self._templates.layout
        assert layout is not None
        name, source = self._compiler.load(layout.source)
        self._compiler.sources.layout = name
        for key, value in layout.variables.items():
            self._compiler.sources.add(f"message.layout_vars.{key}", value)
        return surround(
            html,
            source,
            name,
            layout.variables,
            self._tags,
            subject=self._templates.subject,
            locale=self._templates.locale,
        )

    def _with_preheader(self, html: str) -> str:
        preheader = self._templates.preheader
        if not preheader:
            return html
        self._compiler.sources.add("message.preheader", preheader)
        text = self._tags.take_out(preheader, "message.preheader").replace("&", "&amp;").replace("<", "&lt;")
        line = _PREHEADER.format(text=text, padding=_PADDING)
        begin = next((found.end() for found in _BODY.finditer(html) if not found[0].startswith("<!")), 0)
        return f"{html[:begin]}{line}{html[begin:]}"

    def _compiled_mjml(self, source: str, name: str) -> str:
        from mailmerge.extras import require

        require("mjml", "MJML templates", place=Place(path=name))
        from mjml import mjml2html

        root = _ROOT.search(source)
        before, after = (source[: root.start()], source[root.end() :]) if root else ("", "")
        words, back = _as_words(root[0] if root else source, self._tags)
        try:
            made = str(mjml2html(words, fonts=_fonts(words)))
        except ValueError as error:
            found = re.search(r"position (\d+):", str(error))
            offset = len(words.encode()[: int(found[1])].decode(errors="ignore")) if found else 0
            line = self._tags.line_of(name, source, len(before) + len(back(words[:offset])))
            reason = re.sub(r" (?:in|at) .*", "", str(error))
            raise TemplateError(
                f"the MJML cannot be compiled: {reason}",
                code="T114",
                hint="close every <mj-...>, and use only MJML's own components",
                place=Place(path=name, line=line),
            ) from None
        html = "".join((*_marks(before), back(made), *_marks(after)))  # {% set %} may be outside
        self._refuse_lost(source, html)
        return html

    def _refuse_lost(self, source: str, html: str) -> None:
        """Refuse tags where MJML accepts no text: it drops them, but perhaps not their ends."""
        lost = set(self._tags.numbers(source)) - set(self._tags.numbers(html))
        if lost:
            raise _lost(self._tags[min(lost)])

    def _compile(self, html: str, part: TemplateSource, bodies: Bodies) -> Compiled:
        name = part.name
        if self._templates.inline_css:
            from mailmerge.render.style_sheets import inlined, obstacle

            hindrance = obstacle(html, self._tags)
            if hindrance is None:
                html = inlined(html, self._tags.skip)
            else:
                bodies.inline = True
                tag = self._tags[hindrance.number]
                warning = Diagnostic(
                    code="H240",
                    severity=Severity.WARNING,
                    message=f"styles are moved into the elements for each row: {hindrance.reason}",
                    hint="planning takes longer, with the same result",
                    place=self._compiler.sources.place(tag.name, tag.line),
                )
                bodies.warnings = (warning,)
        return self._compiler.derived(f"{name} (HTML)", self._tags.put_back(html), "html")


def _as_words(source: str, tags: Tags) -> tuple[str, Callable[[str], str]]:
    """Return the source with marks in a form that MJML keeps: words, or comments between its elements.

    Raises:
        TemplateError: a value would be shown where MJML has no text.

    """
    word = "mailmergetag"
    while word in source:
        word += "x"
    pieces: list[str] = []
    text = ""
    for piece in re.split(r"(<!--.*?-->|<[^<>]*>)", source, flags=re.DOTALL):
        name = _ELEMENT.match(piece)
        if name and name[1] == text:
            text = ""
        elif name and name[1] in _TEXTS and not piece.endswith("/>"):
            text = f"/{name[1]}"
        between = not (name or text)
        pieces.append(MARK.sub(rf"<!--{word}\1z-->" if between else rf"{word}\1z", piece))
        for number in tags.numbers(piece) if between else ():
            if not tags[number].word:
                raise _lost(tags[number])
    written = re.compile(rf"<!--{word}([0-9]+)z-->|{word}([0-9]+)z")

    def back(text: str) -> str:
        return written.sub(lambda found: f"{OPEN}{found[1] or found[2]}{CLOSE}", text)

    return "".join(pieces), back


def _fonts(source: str) -> dict[str, str]:
    """Return the fonts that MJML may load: those that are requested, not its own default."""
    return {
        name: f"https://fonts.googleapis.com/css?family={name.replace(' ', '+')}:300,400,500,700"
        for name in _WEB_FONTS
        if re.search(rf"font-family[^<>]*{name}", source, re.IGNORECASE)
    }


def _marks(text: str) -> Iterator[str]:
    """Yield the marks in *text* alone."""
    yield from (mark[0] for mark in MARK.finditer(text))


def _lost(tag: Tag) -> TemplateError:
    return TemplateError(
        f"MJML drops `{tag.source}`",
        code="T115",
        hint="put it inside <mj-text> or <mj-raw>, into an attribute, or before <mjml>",
        place=Place(path=tag.name, line=tag.line),
    )
