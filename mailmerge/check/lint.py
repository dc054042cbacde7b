"""The lint of a campaign: runs every rule over its messages, one after the other, in bounded memory.

Errors make the row ``invalid`` (or stop the campaign, where the template itself is to blame); warnings never
block a message. ``[check] ignore`` overrules any of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailmerge.addresses import mail_domains
from mailmerge.check import rules
from mailmerge.check.clients import used
from mailmerge.check.html_document import HtmlDocument
from mailmerge.check.message_view import (
    Construct,
    Finding,
    Layout,
    ListTally,
    MessageView,
    SourceLocator,
    diagnostic,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mailmerge.model import Diagnostic, FrozenMessage, Place, Rendered

MOST_LAYOUTS = 24
"""How many different layouts of one campaign are taken apart."""


class Lint:
    """Looks at the messages of one campaign.

    Args:
        sources: the templates, so that findings can name their lines.
        ignore: codes that the author overruled.
        unsubscribe: the template of the List-Unsubscribe header, and its place.

    """

    def __init__(
        self,
        sources: SourceLocator | None = None,
        *,
        ignore: Iterable[str] = (),
        unsubscribe: tuple[str, Place | None] | None = None,
    ) -> None:
        rules.load()
        self._sources = sources or SourceLocator()
        self._ignore = frozenset(ignore)
        self._message_rules = tuple(rules.EACH_MESSAGE)
        self._tally = ListTally(self._sources, unsubscribe)
        self._layouts: set[tuple[str, ...]] = set()

    def look(self, rendered: Rendered, message: FrozenMessage) -> list[Diagnostic]:
        """Return what is found in one row's message."""
        view = MessageView(rendered, message, self._sources)
        row = [finding for rule in self._message_rules for finding in rule(view)]
        found = [_placed(finding, view) for finding in self._chosen(dict.fromkeys(row))]
        if rendered.warnings:
            found += [warning for warning in rendered.warnings if warning.code not in self._ignore]
        chunks = (*(rendered.text or ()), "\0", *(rendered.html or ()))
        layout = tuple(filter(self._sources.fixed.__contains__, chunks))
        if layout not in self._layouts and len(self._layouts) < MOST_LAYOUTS:
            self._layouts.add(layout)
            found += self._new_layout(view)
        self._count(view)
        return found

    def finish(self) -> list[Diagnostic]:
        """Return what only the whole list shows; call it after the last row."""
        found = [finding for rule in rules.WHOLE_LIST for finding in rule(self._tally)]
        return [diagnostic(finding) for finding in sorted(self._chosen(found), key=_code)]

    def _chosen(self, found: Iterable[Finding]) -> list[Finding]:
        """Leave out what the author overruled."""
        return [finding for finding in found if finding.code not in self._ignore]

    def _new_layout(self, view: MessageView) -> Iterator[Diagnostic]:
        """Take the first message of its kind apart."""
        chunks = [str.__str__(chunk) for chunk in view.rendered.html or ()]
        document = HtmlDocument.parse(chunks) if chunks else None
        bulk = any(name.lower() == "list-unsubscribe" for name, _ in view.rendered.headers)
        layout = Layout(view, document, bulk)
        found = [finding for rule in rules.EACH_LAYOUT for finding in rule(layout)]
        if document is not None:
            found += [finding for rule in rules.EACH_DOCUMENT for finding in rule(document)]
            self._count_constructs(document)
        for finding in sorted(self._chosen(found), key=_code):
            if document is None or finding.offset is None:
                yield diagnostic(finding)  # it is so in every row
            else:
                place = self._sources.at(document.chunks, finding.offset, finding.width)
                yield _placed(finding._replace(place=place), view)

    def _count(self, view: MessageView) -> None:
        tally, rendered = self._tally, view.rendered
        tally.rows += 1
        mailbox = mail_domains().get(rendered.to[0].address.domain)
        if mailbox and mailbox.mail_program:
            tally.programs[mailbox.mail_program] += 1
        if len(tally.unsubscribe_values) < 2:
            for name, value in rendered.headers:
                if name.lower() == "list-unsubscribe":
                    tally.unsubscribe_values.add(value)

    def _count_constructs(self, document: HtmlDocument) -> None:
        counts: dict[str, int] = {}
        for use in used(document):
            counts[use.slug] = counts.get(use.slug, 0) + 1
            if use.slug not in self._tally.constructs:
                offset, width = document.spot(use.element)
                place = self._sources.at(document.chunks, offset, width) if offset is not None else None
                self._tally.constructs[use.slug] = Construct(place)
        for slug, count in counts.items():
            construct = self._tally.constructs[slug]
            construct.count = max(construct.count, count)


def _code(finding: Finding) -> str:
    """Order findings by their code, not by the names of the modules that their rules are in."""
    return finding.code


def _placed(finding: Finding, view: MessageView) -> Diagnostic:
    """Make it the template's where its line is known, else the row's."""
    place = finding.place
    if place is not None and place.cell is None:
        return diagnostic(finding)
    return diagnostic(finding, row=view.rendered.recipient.row, address=view.address)
