"""Rows around a list that are not recipients are named and left out, and nobody else is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mailmerge import ListError
from mailmerge.recipients import open_list

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "name,email,city,fee\n"
ANN = "Ann,ann@x.org,Rome,3\n"
BO = "Bo,bo@x.org,Oslo,4\n"


def read(tmp_path: Path, text: str) -> tuple[list[int], dict[int, str]]:
    """Read a list: the numbers of its rows, and of those left out what was said of each."""
    path = tmp_path / "list.csv"
    path.write_text(text, "utf-8")
    recipients = open_list(path)
    for _ in range(2):  # read again, it says the same once
        rows = [recipient.row for recipient in recipients]
    told = [warning for warning in recipients.warnings if warning.code == "D202"]
    assert [warning.place.line for warning in told if warning.place] == [warning.row for warning in told]
    return rows, {
        warning.row or 0: warning.message.partition(" is ")[2].partition(",")[0] for warning in told
    }


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        *((f"{word},,,7", "a total") for word in ("Total", "Summe:", "Total général", "合计", "Итого", "Σ")),
        ("Totale,,2,7", "a total"),
        (",,Subtotal North,7", "a total"),
        ("2 members,,,", "a note"),
        ("(2 rows)", "a note"),
        ("* not paid yet", "a note"),
        ("Quelle: Verein", "a note"),
        ("Page 1 of 3", "a note"),
        ("Name,Email,City,Fee", "the headings again"),
        ("Nom,Courriel,Ville,Prix", "the headings again"),
        ("----,-----,----,---", "a line"),
    ],
)
def test_rows_that_are_no_recipients(tmp_path: Path, row: str, kind: str) -> None:
    """Totals, notes, headings that come again and lines are named, wherever they are, also if too short."""
    assert read(tmp_path, f"{HEAD}{ANN}{row}\n{BO}") == ([2, 4], {3: kind})
    assert read(tmp_path, f"{HEAD}{ANN}{BO}\n{row}\n") == ([2, 3], {5: kind})


@pytest.mark.parametrize(
    "row",
    [
        "Total Recall,,Rome,EUR",
        "Ann,,,",
        "Total,total@x.org,,",
        "Note,n＠x.org,,",
        "Summe,x at y,Rome,see note",
        "Bob,mail to bob@x.org,City,Fee",
    ],
)
def test_people_without_an_address_stay(tmp_path: Path, row: str) -> None:
    """Who might be a person stays a row, whatever becomes of it."""
    assert read(tmp_path, f"{HEAD}{row}\n{BO}") == ([2, 3], {})


def test_units_below_the_headings(tmp_path: Path) -> None:
    """A row of units is one only right below the headings."""
    assert read(tmp_path, f"{HEAD},,,(EUR)\n{ANN},,,(EUR)\n") == ([3, 4], {2: "a row of units"})


def test_a_list_without_addresses_has_recipients_only(tmp_path: Path) -> None:
    """Where the template makes the addresses, nothing tells a total from a person."""
    assert read(tmp_path, "login,name\nann,Ann\nTotal,\n") == ([2, 3], {})


def test_a_second_list_below_the_first(tmp_path: Path) -> None:
    """Headings that come again below another title are an error, below the same one or a page's not."""
    with pytest.raises(ListError, match=r"recur in row 7 .* below \"Former members\" in row 6") as caught:
        read(tmp_path, f"Members,,,\n{HEAD}{ANN}{BO}\nFormer members,,,\n{HEAD}{ANN}")
    assert (caught.value.code, caught.value.row) == ("D203", 7)
    assert read(tmp_path, f"Members,,,\n{HEAD}{ANN}Page 2,,,\nMembers,,,\n{HEAD}{BO}")[0] == [3, 5, 7]
