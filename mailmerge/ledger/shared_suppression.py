"""Who must not be written to, as a table that all workers of a fleet look at.

A worker has no suppression files: the command that sends copies their entries into this table, and what is
added to them while it runs. The table is checked when a row is claimed and once more when it is promised, so
an opt-out that was committed before the promise counts.

An entry is an address in its normalised form, a domain as ``@example.org``, or ``sha256:`` and the hash of an
address, as in the user's own store. Entries of campaign 0 apply to all campaigns of the database.
"""

# ruff: noqa: S608  every piece of SQL here is a constant of this module

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from mailmerge.postgres import NOW, TableGroup
from mailmerge.recipients.address_column import HASH

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mailmerge.postgres import PostgresDatabase

EVERY_CAMPAIGN: Final = 0
"""The number that means all campaigns of the database."""
_CARRIED = "carried"
_AT_ONCE = 5000

TABLES: Final = TableGroup(
    "opt_out",
    1,
    """
CREATE TABLE mailmerge.opt_out (
    campaign BIGINT NOT NULL,
    entry TEXT NOT NULL,
    since REAL NOT NULL,
    source TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (campaign, entry)
);
""",
)


def covered(campaign: str, addresses: str) -> str:
    """Return the SQL condition that one of *addresses* has opted out of *campaign*, both SQL expressions.

    It costs nothing while nobody has, and else a look into the primary key for each entry that would cover
    one of them, whatever the length of the table and however little the server knows of it.
    """
    of = f"campaign = ANY(ARRAY[{EVERY_CAMPAIGN}, {campaign}]::bigint[])"
    domain, digest = "substring(lower(oa) FROM '@[^@]*$')", "sha256(convert_to(lower(oa), 'UTF8'))"
    entries = f"lower(oa), {domain}, '{HASH}' || encode({digest}, 'hex')"
    return (
        f"(EXISTS (SELECT 1 FROM mailmerge.opt_out WHERE {of}) AND EXISTS (SELECT 1 FROM mailmerge.opt_out "
        f"WHERE {of} AND entry = ANY(ARRAY(SELECT unnest(ARRAY[{entries}]) FROM unnest({addresses}) oa))))"
    )


_COVERS = f"""
SELECT a FROM unnest(?1::text[]) AS asked(a) WHERE {covered("?2", "ARRAY[a]")}
"""
_ADD = f"""
INSERT INTO mailmerge.opt_out (campaign, entry, since, source)
SELECT ?1, entry, {NOW}, ?3 FROM unnest(?2::text[]) AS added(entry) ON CONFLICT DO NOTHING
"""
_REMOVE = """
DELETE FROM mailmerge.opt_out WHERE campaign = ?1 AND entry = ANY(?2::text[]) RETURNING entry
"""
_NOT_CARRIED_ANY_MORE = f"""
DELETE FROM mailmerge.opt_out WHERE campaign = ?1 AND source = '{_CARRIED}' AND NOT entry = ANY(?2::text[])
"""


class SharedEntry(Struct, frozen=True):
    """One entry of the table."""

    entry: str
    since: float
    """When it was added: seconds of the server's clock since 1970."""
    source: str
    campaign: int


class OptOutTable:
    """The table of opt-outs, for reading and changing.

    Args:
        db: a connection to the ledger.
        campaign: its entries apply in addition to those for all campaigns.

    """

    def __init__(self, db: PostgresDatabase, campaign: int = EVERY_CAMPAIGN) -> None:
        self._db = db
        self._campaign = campaign

    def covers(self, address: str) -> bool:
        """Return whether nothing may be sent to *address*, given in its normalised form."""
        return bool(self.covered([address]))

    def covered(self, addresses: Sequence[str]) -> set[str]:
        """Return which of *addresses*, in their normalised form, nothing may be sent to."""
        return {address for (address,) in self._db.rows(_COVERS, (list(addresses), self._campaign))}

    def add(self, entries: Iterable[str], *, source: str = "") -> int:
        """Add normalised entries, for the campaign or for all; return how many are new.

        Raises:
            LedgerError: they cannot be added: some may be.

        """
        new, rest = 0, iter(entries)
        while page := list(islice(rest, _AT_ONCE)):
            new += self._db.execute(_ADD, (self._campaign, page, source)).rowcount
        return new

    def remove(self, entries: Iterable[str]) -> set[str]:
        """Remove entries; return those that were there."""
        return {entry for (entry,) in self._db.rows(_REMOVE, (self._campaign, list(entries)))}

    def entries(self) -> Iterator[SharedEntry]:
        """Return all entries, sorted."""
        query = "SELECT entry, since, source, campaign FROM mailmerge.opt_out ORDER BY entry, campaign"
        for row in self._db.stream(query):
            yield SharedEntry(*row)


class Carrier:
    """Copies the entries of the files and the user's store into the table, for one campaign.

    Args:
        campaign: its number.

    """

    def __init__(self, campaign: int) -> None:
        self._campaign = campaign
        self._carried: set[str] | None = None

    def carry(self, db: PostgresDatabase, entries: Iterable[str]) -> int:
        """Add what is not there yet; return how many are new.

        The first time, what an earlier command carried and no file has any more is removed; from then on
        entries are only added, as a run never forgets an opt-out.

        Raises:
            LedgerError: it could not be written. Nothing is lost: it is done again with the next call.

        """
        wanted = set(entries)
        table = OptOutTable(db, self._campaign)
        if self._carried is None:
            with db.transaction():
                db.execute(_NOT_CARRIED_ANY_MORE, (self._campaign, sorted(wanted)))
                new = table.add(sorted(wanted), source=_CARRIED)
        else:
            new = table.add(sorted(wanted - self._carried), source=_CARRIED)
        self._carried = wanted | (self._carried or set())
        return new
