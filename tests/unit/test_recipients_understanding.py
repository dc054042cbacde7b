"""How a list was understood, and how a person is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailmerge.recipients import from_rows, open_list
from mailmerge.recipients.understanding import ColumnsSeen, Understanding

if TYPE_CHECKING:
    from pathlib import Path

    from campaigns import CampaignFactory
    from mailmerge import RecipientList


def understood(recipients: RecipientList) -> Understanding:
    """Read a list to its end, and say how it was understood."""
    seen = ColumnsSeen(recipients.columns)
    for _ in recipients.watched(seen):
        pass
    return recipients.understood(seen)


def test_what_a_person_is_told(tmp_path: Path) -> None:
    """Kind, headings, rows and three examples of each column are listed in aligned columns."""
    path = tmp_path / "members.csv"
    path.write_text(
        "Email;姓名;Joined\na@x.org;张伟;\n;;\nb@x.org;王芳;\nc@x.org;李\u202e娜;\nd@x.org;Dö;\n", "utf-8"
    )
    told = "\n".join(understood(open_list(path, types={"Joined": "date"})).lines())
    assert told == (
        "read as    CSV, UTF-8, semicolon\n"
        "headings   row 1\n"
        "addresses  in the column Email\n"
        "rows       4 recipients, 1 blank row skipped\n"
        "columns    Email   text: a@x.org | b@x.org | c@x.org\n"
        "           姓名    text: 张伟 | 王芳 | 李\\u202e娜\n"
        "           Joined  empty"
    )


def test_types_of_all_rows_are_told() -> None:
    """A cell of another type is told however far down it is, after thousands of blank or like ones."""
    rows = [{"email": f"a{n}@x.org", "n": 1, "note": ""} for n in range(3000)]
    rows += [{"email": "b@x.org", "n": "many", "note": "late"}, {"email": "b@x.org", "n": True, "note": ""}]
    columns = understood(from_rows(rows)).columns
    assert [column.types for column in columns] == [("text",), ("number", "text", "yes or no"), ("text",)]


def test_a_plan_that_is_read_again_says_the_same(campaign_factory: CampaignFactory) -> None:
    """What was understood is kept in the plan, and not found out again."""
    spring = campaign_factory()
    first, again = spring.plan(), spring.plan()
    assert again.planned is not None
    assert again.understanding == first.understanding
    assert [column.examples for column in again.understanding.columns] == [
        ("ana@example.com", "bo@example.net", "cy@example.org"),
        ("Ana", "Bo", "Cy"),
    ]
