"""What a careful reader would notice in the messages of a campaign, without any network.

Rules are small functions that yield findings. Those in ``EACH_ROW`` see every message; those in
``EACH_SHAPE`` see the first message of each structure, taken apart, since what comes from the templates alone
is the same in all rows. Errors make the row ``invalid`` (or stop the campaign, where the template itself is
to blame); warnings only speak. ``[check] ignore`` overrules any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from mailmerge.check.clients import used
from mailmerge.check.html_document import Page
from mailmerge.check.message_view import Finding, Look, Shape, diagnostic
from mailmerge.check.rules import accessibility, body, campaign, deliverability, headers, html, links
from mailmerge.check.source_locator import Origin

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mailmerge.model import Diagnostic, Message, Place, Rendered

RowRule = Callable[[Look], Iterator[Finding]]
EACH_ROW: tuple[RowRule, ...] = (
    body.leftover_markup,
    body.replacement_character,
    headers.subject,
    headers.names,
    deliverability.blocked_attachment,
    deliverability.size,
)
EACH_SHAPE: tuple[Callable[[Shape], Iterator[Finding]], ...] = (
    body.no_text_part,
    body.text_part_differs,
    body.placeholder,
    headers.reply_to,
    headers.own_headers,
    deliverability.ways_out,
    links.disguised,
    links.many,
    html.active_content,
    html.external_styles,
    html.charset,
    html.pictures,
    html.preheader,
    accessibility.language,
    accessibility.alternative_texts,
    accessibility.table_roles,
    accessibility.low_contrast,
    accessibility.link_texts,
    accessibility.heading_order,
)
MOST_SHAPES = 24
"""How many different structures of one campaign are taken apart."""


class Lint:
    """Looks at the messages of one campaign, one after the other, in bounded memory.

    Args:
        origin: the templates, so that findings can name their lines.
        ignore: codes that the author overruled.
        unsubscribe: the template of the List-Unsubscribe header, and its place.

    """

    def __init__(
        self,
        origin: Origin | None = None,
        *,
        ignore: Iterable[str] = (),
        unsubscribe: tuple[str, Place | None] | None = None,
    ) -> None:
        self._origin = origin or Origin()
        self._ignore = frozenset(ignore)
        self._unsubscribe = unsubscribe
        own: tuple[RowRule, ...] = (body.Greeting(self._origin), links.Links(self._origin))
        self._each_row = EACH_ROW + own
        self._tally = campaign.Tally()
        self._shapes: set[tuple[str, ...]] = set()

    def look(self, rendered: Rendered, message: Message) -> list[Diagnostic]:
        """Give what is found in one row's message."""
        look = Look(rendered, message)
        row = [finding for rule in self._each_row for finding in rule(look)]
        found = [
            self._placed(finding, look) for finding in dict.fromkeys(row) if finding.code not in self._ignore
        ]
        chunks = (*(rendered.text or ()), "\0", *(rendered.html or ()))
        fixed = self._origin.fixed
        shape = tuple(chunk for chunk in chunks if chunk in fixed)
        if shape not in self._shapes and len(self._shapes) < MOST_SHAPES:
            self._shapes.add(shape)
            found += self._take_apart(look)
        self._tally.count(look)
        return found

    def finish(self) -> list[Diagnostic]:
        """Give what only the whole list shows; call it after the last row."""
        found = [
            *html.template_risks(self._origin),
            *(campaign.same_unsubscribe_link(self._tally, *self._unsubscribe) if self._unsubscribe else ()),
            *campaign.bulk_rules(self._tally),
            *campaign.client_support(self._tally),
        ]
        return [diagnostic(finding) for finding in found if finding.code not in self._ignore]

    def _take_apart(self, look: Look) -> list[Diagnostic]:
        chunks = [str.__str__(chunk) for chunk in look.rendered.html or ()]
        page = Page.parse(chunks) if chunks else None
        bulk = any(name.lower() == "list-unsubscribe" for name, _ in look.rendered.headers)
        shape = Shape(look, page, bulk)
        found = []
        for rule in EACH_SHAPE:
            for finding in rule(shape):
                if finding.code in self._ignore:
                    continue
                if page is None or finding.offset is None:
                    found.append(diagnostic(finding))  # it is so in every row
                    continue
                place = self._origin.at(page.chunks, finding.offset, finding.width)
                found.append(self._placed(finding._replace(place=place), look))
        if page is not None:
            self._count_constructs(page)
        return found

    def _count_constructs(self, page: Page) -> None:
        counts: dict[str, int] = {}
        for use in used(page):
            counts[use.slug] = counts.get(use.slug, 0) + 1
            if use.slug not in self._tally.constructs:
                offset, width = page.spot(use.element)
                place = self._origin.at(page.chunks, offset, width) if offset is not None else None
                self._tally.constructs[use.slug] = campaign.Construct(place)
        for slug, count in counts.items():
            construct = self._tally.constructs[slug]
            construct.count = max(construct.count, count)

    @staticmethod
    def _placed(finding: Finding, look: Look) -> Diagnostic:
        """Make it the template's where its line is known, else the row's."""
        place = finding.place
        if place is not None and place.cell is None:
            return diagnostic(finding)
        return diagnostic(finding, row=look.rendered.recipient.row, address=look.address)
