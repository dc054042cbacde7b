"""The lint of a campaign: runs every rule over its messages, one after the other, in bounded memory.

Errors make the row ``invalid`` (or stop the campaign if the template itself is wrong); warnings never
block a message. ``[check] ignore`` silences any of them.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from mailmerge.addresses import mail_domains
from mailmerge.check import rules
from mailmerge.check.message_view import (
    Construct,
    Finding,
    ListTally,
    MessageLayout,
    MessageView,
    SourceLocator,
    diagnostic,
)
from mailmerge.model import Diagnostic, Place  # noqa: TC001  layouts are decoded into them

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mailmerge.check.html_document import HtmlDocument
    from mailmerge.check.rules import MessageRule
    from mailmerge.check.shapes import Shape
    from mailmerge.model import FrozenMessage, Rendered

MOST_LAYOUTS = 24
"""How many different layouts of one campaign are checked."""


class SeenLayout(Struct, frozen=True, array_like=True):
    """What was found in the first message that has a layout."""

    digest: bytes
    findings: tuple[Diagnostic, ...]
    constructs: tuple[tuple[str, Place | None, int], ...]
    """Constructs that not all mail programs support: name, first place, how often."""


class KnownLayout(Struct, frozen=True, array_like=True):
    """A layout of the list's messages, and the first row that has it."""

    digest: bytes
    row: int
    constructs: tuple[tuple[str, Place | None, int], ...] = ()


class RowCounts(Struct, array_like=True):
    """What some rows add to the tally of the whole list."""

    rows: int = 0
    programs: dict[str, int] = field(default_factory=dict)
    unsubscribe_values: dict[str, int] = field(default_factory=dict)


class Lint:
    """Checks the messages of one campaign with every rule.

    Rows may be checked by several lints, in any order, as long as one of them is given, in the list's order,
    what the others have found: `admit` and `add_counts`.

    Args:
        sources: the templates, so that findings can name their lines.
        ignore: codes that the author silenced.
        unsubscribe: the template of the List-Unsubscribe header, and its place.

    """

    def __init__(
        self,
        sources: SourceLocator | None = None,
        *,
        ignore: Iterable[str] = (),
        unsubscribe: tuple[str, Place | None] | None = None,
    ) -> None:
        self._sources = sources or SourceLocator()
        self._ignore = frozenset(ignore)
        self._tally = ListTally(self._sources, unsubscribe)
        self._examined: set[tuple[str, ...]] = set()
        self._shapes: set[tuple[Shape | None, Shape | None]] = set()
        """Those of messages whose layout has been seen."""
        self._known: dict[bytes, KnownLayout] = {}

    @cached_property
    def _message_rules(self) -> tuple[MessageRule, ...]:
        """The rules for every message: the modules of rules are imported for the first one."""
        rules.load()
        return tuple(rules.EACH_MESSAGE)

    @cached_property
    def _rules_without_files(self) -> tuple[MessageRule, ...]:
        """Those for a message without files."""
        return tuple(rule for rule in self._message_rules if rule not in rules.ABOUT_FILES)

    def look(self, rendered: Rendered, message: FrozenMessage) -> list[Diagnostic]:
        """Return what is found in one row's message; call it in the list's order."""
        found, layout = self.examine(rendered, message)
        return found if layout is None else [*found, *self.admit(layout, rendered.recipient.row)]

    def examine(
        self, rendered: Rendered, message: FrozenMessage
    ) -> tuple[list[Diagnostic], SeenLayout | None]:
        """Return what is found in a row's message, and in its layout if this lint has not seen it before."""
        view = self.view(rendered, message)
        every = self._message_rules if message.files else self._rules_without_files
        row = [finding for rule in every for finding in rule(view)]
        found = [_placed(finding, view) for finding in self._chosen(dict.fromkeys(row))] if row else []
        if rendered.warnings:
            told = [warning for warning in rendered.warnings if warning.code not in self._ignore]
            found += [replace(warning, address=view.address) for warning in told]
        self._count(view)
        shapes = view.text_shape, view.html_shape
        if max(len(self._examined), len(self._known)) >= MOST_LAYOUTS or shapes in self._shapes:
            return found, None
        if (rendered.text is None or shapes[0]) and (rendered.html is None or shapes[1]):
            self._shapes.add(shapes)
        chunks = (*(rendered.text or ()), "\0", *(rendered.html or ()))
        layout = tuple(filter(self._sources.fixed.__contains__, chunks))
        if layout in self._examined:
            return found, None
        self._examined.add(layout)
        digest = hashlib.sha256("\0".join(layout).encode("utf-8", "surrogatepass")).digest()
        return found, None if digest in self._known else self._new_layout(digest, view)

    def view(self, rendered: Rendered, message: FrozenMessage) -> MessageView:
        """Return a message as the rules see it: all of them need its shapes, which are found once."""
        sources, text, html = self._sources, rendered.text, rendered.html
        text_shape = None if text is None else sources.shape(text)
        html_shape = None if html is None else sources.shape(html)
        shape, chunks = (html_shape, html or ()) if text is None else (text_shape, text)
        values = "" if shape is None else shape.joined(chunks)
        return MessageView(rendered, message, sources, text_shape, html_shape, shape, values)

    def admit(self, layout: SeenLayout, row: int) -> tuple[Diagnostic, ...]:
        """Return what was found in the layout of a row, if it is one of the list's first few layouts."""
        if layout.digest in self._known or len(self._known) >= MOST_LAYOUTS:
            return ()
        self.recall([KnownLayout(layout.digest, row, layout.constructs)])
        return layout.findings

    def recall(self, layouts: Iterable[KnownLayout]) -> None:
        """Add layouts that are known already, from an earlier pass or another process."""
        self._known.update((layout.digest, layout) for layout in layouts)

    def another(self) -> Lint:
        """Return a lint for some of the rows that are left: what this one has learnt, it need not learn."""
        lint = Lint(self._sources, ignore=self._ignore, unsubscribe=self._tally.unsubscribe)
        lint.recall(self.layouts)
        return lint

    @property
    def layouts(self) -> tuple[KnownLayout, ...]:
        """The known layouts, in the list's order."""
        return tuple(sorted(self._known.values(), key=lambda layout: layout.row))

    @property
    def unsubscribe_values(self) -> dict[str, int]:
        """The first two different values of the List-Unsubscribe header, and the first row of each."""
        return self._tally.unsubscribe_values

    def count_unseen(self, domain: str) -> None:
        """Count a message to *domain* that was checked in an earlier pass."""
        self._tally.rows += 1
        mailbox = mail_domains().get(domain)
        if mailbox and mailbox.mail_program:
            self._tally.programs[mailbox.mail_program] += 1

    def take_counts(self) -> RowCounts:
        """Return the counts of the rows that were checked since the last call, and reset them."""
        tally, self._tally = self._tally, ListTally(self._sources, self._tally.unsubscribe)
        return RowCounts(tally.rows, dict(tally.programs), tally.unsubscribe_values)

    def add_counts(self, counts: RowCounts) -> None:
        """Add the counts of rows that another lint has checked; call it in the list's order."""
        self._tally.rows += counts.rows
        self._tally.programs.update(counts.programs)
        for value, row in counts.unsubscribe_values.items():
            if len(self._tally.unsubscribe_values) < 2:
                self._tally.unsubscribe_values.setdefault(value, row)

    def finish(self) -> list[Diagnostic]:
        """Return what only the whole list shows; call it after the last row."""
        rules.load()
        for layout in self.layouts:
            for slug, place, count in layout.constructs:
                construct = self._tally.constructs.setdefault(slug, Construct(place))
                construct.count = max(construct.count, count)
        found = [finding for rule in rules.WHOLE_LIST for finding in rule(self._tally)]
        return [diagnostic(finding) for finding in sorted(self._chosen(found), key=_code)]

    def _chosen(self, found: Iterable[Finding]) -> list[Finding]:
        """Return the findings that the author has not silenced."""
        return [finding for finding in found if finding.code not in self._ignore]

    def _new_layout(self, digest: bytes, view: MessageView) -> SeenLayout:
        """Check the first message that has this layout."""
        from mailmerge.check.html_document import HtmlDocument

        chunks = [str.__str__(chunk) for chunk in view.rendered.html or ()]
        document = HtmlDocument.parse(chunks) if chunks else None
        constructs = () if document is None else tuple(self._constructs(document))
        return SeenLayout(digest, tuple(self._of_layout(view, document)), constructs)

    def _of_layout(self, view: MessageView, document: HtmlDocument | None) -> Iterator[Diagnostic]:
        bulk = any(name.lower() == "list-unsubscribe" for name, _ in view.rendered.headers)
        layout = MessageLayout(view, document, bulk)
        found = [finding for rule in rules.EACH_LAYOUT for finding in rule(layout)]
        if document is not None:
            found += [finding for rule in rules.EACH_DOCUMENT for finding in rule(document)]
        for finding in sorted(self._chosen(found), key=_code):
            if document is None or finding.offset is None:
                yield diagnostic(finding)  # the same in every row
            else:
                place = self._sources.at(document.chunks, finding.offset, finding.width)
                yield _placed(replace(finding, place=place), view)

    def _count(self, view: MessageView) -> None:
        tally, rendered = self._tally, view.rendered
        tally.rows += 1
        mailbox = mail_domains().get(rendered.to[0].address.domain)
        if mailbox and mailbox.mail_program:
            tally.programs[mailbox.mail_program] += 1
        if len(tally.unsubscribe_values) < 2:
            for name, value in rendered.headers:
                if name.lower() == "list-unsubscribe":
                    tally.unsubscribe_values.setdefault(value, rendered.recipient.row)

    def _constructs(self, document: HtmlDocument) -> Iterator[tuple[str, Place | None, int]]:
        from mailmerge.check.clients import MJML_OWN, used

        counts: dict[str, int] = {}
        places: dict[str, Place | None] = {}
        is_mjml = any(name.lower().endswith(".mjml") for name in self._sources.texts)
        for use in used(document, MJML_OWN if is_mjml else ()):
            counts[use.slug] = counts.get(use.slug, 0) + 1
            if use.slug not in places:
                offset, width = document.spot(use.element)
                places[use.slug] = (
                    self._sources.at(document.chunks, offset, width) if offset is not None else None
                )
        return ((slug, places[slug], count) for slug, count in counts.items())


def _code(finding: Finding) -> str:
    """Return the code, by which findings are sorted: not by the modules of their rules."""
    return finding.code


def _placed(finding: Finding, view: MessageView) -> Diagnostic:
    """Return a finding as a diagnostic of the template if its line is known, otherwise of the row."""
    place = finding.place
    if place is not None and place.cell is None:
        return diagnostic(finding)
    return diagnostic(finding, row=view.rendered.recipient.row, address=view.address)
