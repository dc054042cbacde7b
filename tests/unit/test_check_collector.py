"""Collecting and wording diagnostics."""

from __future__ import annotations

from mailmerge.check.collector import FIRST_ROWS, GROUPS_PER_CODE, Problems
from mailmerge.check.diagnostics_text import found, lines, listing
from mailmerge.model import Diagnostic, Place, Severity


def test_the_same_problem_in_many_rows_is_kept_once() -> None:
    """A problem that every row has is one group with a count and the first rows."""
    problems = Problems()
    place = Place(path="body.txt", line=3, column=7)
    problems.add(Diagnostic("T102", "`amout` is unknown", place=place, row=row) for row in range(2, 1002))
    (group,) = problems
    assert group.count == 1000
    assert group.rows == list(range(2, 2 + FIRST_ROWS))


def test_different_places_are_different_problems() -> None:
    """The same words at another line are another problem."""
    problems = Problems()
    for line in (1, 2):
        problems.add([Diagnostic("T102", "`x` is unknown", place=Place(path="a.txt", line=line))])
    assert len(list(problems)) == 2


def test_errors_come_before_warnings() -> None:
    """What stops the run is read first, however late it was found."""
    problems = Problems()
    problems.add([Diagnostic("D204", "greets nobody", severity=Severity.WARNING, row=2)])
    problems.add([Diagnostic("D110", "no address", row=3)])
    assert [group.first.code for group in problems] == ["D110", "D204"]


def test_ignored_codes_silence_warnings_but_never_errors() -> None:
    """A campaign may not silence what makes rows invalid."""
    problems = Problems(ignore=["D204", "D110"])
    problems.add([Diagnostic("D204", "greets nobody", severity=Severity.WARNING), Diagnostic("D110", "bad")])
    assert [group.first.code for group in problems] == ["D110"]


def test_memory_stays_bounded_when_every_row_has_its_own_problem() -> None:
    """Past the limit of groups the rest is only counted, and the count is shown."""
    problems = Problems()
    problems.add(Diagnostic("D110", f"not an address: {row}", row=row) for row in range(2, 5002))
    assert len(list(problems)) == GROUPS_PER_CODE
    assert problems.uncounted == {"D110": 5000 - GROUPS_PER_CODE}
    assert list(listing(problems, most=2))[-1].startswith("... and 4,998 more of D110")
    assert found(problems) == "5,000 errors"


def test_row_problems_do_not_stop_the_campaign_but_template_problems_do() -> None:
    """Only what is not a row's own fault stops everything."""
    problems = Problems()
    problems.add([Diagnostic("D110", "no address", row=3)])
    assert problems.campaign_errors == []
    problems.add([Diagnostic("T106", "division by zero", row=3)])
    assert [group.first.code for group in problems.campaign_errors] == ["T106"]


def test_a_template_problem_is_shown_with_its_line_and_a_caret() -> None:
    """The caret stands under the name that is wrong."""
    place = Place(path="body.html", line=9, column=14, width=5, source="  <p>plan: {{ amout }}</p>")
    shown = list(lines(Diagnostic("T102", "`amout` is no column", "did you mean `amount`?", place=place)))
    assert shown == [
        "error[T102]: `amout` is no column",
        "  --> body.html:9:14",
        "  9 |   <p>plan: {{ amout }}</p>",
        "    |              ^^^^^",
        "   = hint: did you mean `amount`?",
    ]


def test_the_caret_counts_wide_characters_as_two_cells() -> None:
    """Chinese text before the fault does not push the caret off."""
    place = Place(path="通知.txt", line=1, column=6, width=2, source="亲爱的{{姓名}}")
    shown = list(lines(Diagnostic("T102", "unknown", place=place)))
    assert shown[3] == "    | " + " " * 8 + "^^^^"


def test_a_very_long_line_is_cut_around_the_fault() -> None:
    """A minified template does not flood the terminal, and the caret is still right."""
    source = "x" * 5000 + "{{ bad }}" + "y" * 5000
    place = Place(path="a.html", line=1, column=5004, width=3, source=source)
    shown = list(lines(Diagnostic("T102", "unknown", place=place)))
    caret = shown[3].index("^")
    assert len(shown[2]) < 200
    assert shown[2][caret : caret + 3] == "bad"


def test_one_row_is_named_with_its_address_and_many_with_their_count() -> None:
    """The reader learns where to look."""
    one = Diagnostic("D110", "no address", row=12, address="bo@x.org")
    assert next(lines(one)) == "error[D110]: no address  (row 12, bo@x.org)"
    assert next(lines(one, count=3, rows=[12, 15, 19])) == "error[D110]: no address  (3 rows: 12, 15, 19)"
    assert next(lines(one, count=9, rows=[12, 15])).endswith("(9 rows: 12, 15, ...)")


def test_text_from_outside_cannot_steer_the_terminal() -> None:
    """Escape sequences and bidi overrides are shown, not obeyed."""
    shown = "\n".join(lines(Diagnostic("D110", "bad \x1b[2J", "hint \x07", place=Place(cell="A\x1b1"))))
    assert "\x1b" not in shown
    assert "\x07" not in shown
