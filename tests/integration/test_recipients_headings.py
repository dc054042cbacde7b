"""Which row of a table has the headings: measured on generated tables, and by examples of each kind."""

from __future__ import annotations

from collections import Counter

import pytest

from mailmerge.recipients.heading_row import FoundHeadings, find_headings
from tables import UNKNOWN, generated

SEED = 2026
COUNT = 1200


def found(*rows: str) -> FoundHeadings:
    """Find the headings of rows written with bars between the cells; blank ones keep their numbers."""
    cells = [(number, row.split("|")) for number, row in enumerate(rows, 1) if row.strip("|")]
    return find_headings(cells)


def test_no_generated_table_is_read_wrongly_in_silence() -> None:
    """On tables in 25 languages the right row is found or asked about; asking stays rare."""
    counts: Counter[str] = Counter()
    wrong = []
    for table in generated(SEED, COUNT):
        result = find_headings(table.rows)
        if result.likely:
            counts["asked"] += not table.must_ask
            counts["asked about a known language"] += not table.must_ask and table.language not in UNKNOWN
            surely = table.must_ask
        else:
            surely = result.row == table.headings or table.is_refused(result.row)
        if not (surely or result.likely) or (table.as_before and result != FoundHeadings(1)):
            wrong.append((table, result))
    assert wrong == [], f"seed {SEED}"
    assert counts["asked"] <= 0.015 * COUNT, (counts, f"seed {SEED}")
    assert counts["asked about a known language"] <= 0.01 * COUNT, (counts, f"seed {SEED}")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (("Table 1||", "Name|E-mail|City", "Ann|a@x.org|Rome"), FoundHeadings(2, (1,))),
        (("Choir 2026", "", "email", "a@x.org"), FoundHeadings(3, (1,))),
        (("|Contact||", "Name|Email|Phone|City", "Ann|a@x.org|1|Rome"), FoundHeadings(2, (1,))),
        (("Name|City||", "||Email|Phone", "Ann|Rome|a@x.org|1"), FoundHeadings(2, (1,), upper=1)),
        (("Liste||", "Jina|Simu|Barua", "Ann|1|-", "Bo|2|b@x.org"), FoundHeadings(2, (1,))),
        (("# made by psql", "email", "a@x.org"), FoundHeadings(2, (1,))),
        (("From|office@x.org", "Name|Email", "Ann|a@x.org", "Bo|b@x.org"), FoundHeadings(2, (1,))),
    ],
)
def test_what_stands_above_the_headings(rows: tuple[str, ...], expected: FoundHeadings) -> None:
    """Titles, groups, comments and facts are not the headings, and headings may be in two rows."""
    assert found(*rows) == expected


@pytest.mark.parametrize(
    "rows",
    [
        ("a", "b@x.org"),
        ("Kontaktdaten", "-", "b@x.org"),
        ("2024|2025|%|who", "1|2|3|", "1|2|3|b@x.org"),
        ("to|cc", "|", "unknown|b@x.org", "c@x.org|d@x.org"),
        ("Name|Email", "Ann|", "Email Jones|", "Bo|b@x.org"),
        ("login|name", "ann|Ann", "bo|Bo"),
        ("Email|Name|Email", "a@x.org|Ann|"),
        ("Members of the club (e-mail)|Names of them", "a@x.org|Ann", "b@x.org|Bo"),
        ("only",),
    ],
)
def test_lists_that_begin_with_their_headings(rows: tuple[str, ...]) -> None:
    """Whatever they are called, headings in the first row that cover all columns stay what they are."""
    assert found(*rows) == FoundHeadings(1)


@pytest.mark.parametrize(
    ("rows", "likely"),
    [
        (("Nom|Courriel", "Name|E-mail", "Ann|a@x.org"), (1, 2)),
        (("Team|Place", "Name|Email", "Ann|a@x.org"), (1, 2)),
        (("2026-03-05|Adresse", "Ann|Bitte per E-Mail an: uns", "Ann|x", "Bo|b@x.org"), (1, 2)),
    ],
)
def test_what_no_program_can_know_is_asked(rows: tuple[str, ...], likely: tuple[int, ...]) -> None:
    """Two rows that both may be the headings are both named."""
    assert found(*rows).likely == likely
