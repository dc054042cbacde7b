"""Diagnostics: collected in bounded memory, and written for people and for other programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from mailmerge.check.diagnostics import (
    FIRST_ROWS,
    GROUPS_PER_CODE,
    DiagnosticCollector,
    concise,
    diagnostic_lines,
    found,
    github,
    listing,
    sarif,
)
from mailmerge.cli.check import check as command
from mailmerge.model import Diagnostic, Place, Severity

if TYPE_CHECKING:
    from pathlib import Path

    from campaigns import CampaignFactory


def test_the_same_problem_in_many_rows_is_kept_once() -> None:
    """A problem that every row has is one group with a count and the first rows."""
    problems = DiagnosticCollector()
    place = Place(path="body.txt", line=3, column=7)
    problems.add(Diagnostic("T102", "`amout` is unknown", place=place, row=row) for row in range(2, 1002))
    (group,) = problems
    assert group.count == 1000
    assert group.rows == list(range(2, 2 + FIRST_ROWS))


def test_different_places_are_different_problems() -> None:
    """The same words at another line are another problem."""
    problems = DiagnosticCollector()
    for line in (1, 2):
        problems.add([Diagnostic("T102", "`x` is unknown", place=Place(path="a.txt", line=line))])
    assert len(list(problems)) == 2


def test_errors_come_before_warnings() -> None:
    """What stops the run is read first, however late it was found."""
    problems = DiagnosticCollector()
    problems.add([Diagnostic("D204", "greets nobody", severity=Severity.WARNING, row=2)])
    problems.add([Diagnostic("D110", "no address", row=3)])
    assert [group.first.code for group in problems] == ["D110", "D204"]


def test_ignored_codes_silence_warnings_but_never_errors() -> None:
    """A campaign may not silence what makes rows invalid."""
    problems = DiagnosticCollector(ignore=["D204", "D110"])
    problems.add([Diagnostic("D204", "greets nobody", severity=Severity.WARNING), Diagnostic("D110", "bad")])
    assert [group.first.code for group in problems] == ["D110"]


def test_memory_stays_bounded_when_every_row_has_its_own_problem() -> None:
    """Past the limit of groups the rest is only counted, and the count is shown."""
    problems = DiagnosticCollector()
    problems.add(Diagnostic("D110", f"not an address: {row}", row=row) for row in range(2, 5002))
    assert len(list(problems)) == GROUPS_PER_CODE
    assert problems.uncounted == {"D110": 5000 - GROUPS_PER_CODE}
    assert list(listing(problems, most=2))[-1].startswith("... and 4,998 more of D110")
    assert found(problems) == "5,000 errors"


def test_counted_problems_keep_their_severity() -> None:
    """A warning is counted as one, whatever its code, also where it was not kept."""
    problems = DiagnosticCollector()
    problems.add(
        Diagnostic("D128", f"left out: {row}", severity=Severity.WARNING)
        for row in range(GROUPS_PER_CODE + 5)
    )
    assert found(problems) == f"{GROUPS_PER_CODE + 5} warnings"


def test_row_problems_do_not_stop_the_campaign_but_template_problems_do() -> None:
    """Only what is not a row's own fault stops everything."""
    problems = DiagnosticCollector()
    problems.add([Diagnostic("D110", "no address", row=3)])
    assert problems.campaign_errors == []
    problems.add([Diagnostic("T106", "division by zero", row=3)])
    assert [group.first.code for group in problems.campaign_errors] == ["T106"]


def test_a_template_problem_is_shown_with_its_line_and_a_caret() -> None:
    """The caret is under the name that is wrong."""
    place = Place(path="body.html", line=9, column=14, width=5, source="  <p>plan: {{ amout }}</p>")
    shown = list(
        diagnostic_lines(Diagnostic("T102", "`amout` is no column", "did you mean `amount`?", place=place))
    )
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
    shown = list(diagnostic_lines(Diagnostic("T102", "unknown", place=place)))
    assert shown[3] == "    | " + " " * 8 + "^^^^"


def test_a_very_long_line_is_cut_around_the_fault() -> None:
    """A minified template does not flood the terminal, and the caret is still right."""
    source = "x" * 5000 + "{{ bad }}" + "y" * 5000
    place = Place(path="a.html", line=1, column=5004, width=3, source=source)
    shown = list(diagnostic_lines(Diagnostic("T102", "unknown", place=place)))
    caret = shown[3].index("^")
    assert len(shown[2]) < 200
    assert shown[2][caret : caret + 3] == "bad"


def test_one_row_is_named_with_its_address_and_many_with_their_count() -> None:
    """The reader learns where to look."""
    one = Diagnostic("D110", "no address", row=12, address="bo@x.org")
    assert next(diagnostic_lines(one)) == "error[D110]: no address  (row 12, bo@x.org)"
    assert (
        next(diagnostic_lines(one, count=3, rows=[12, 15, 19]))
        == "error[D110]: no address  (3 rows: 12, 15, 19)"
    )
    assert next(diagnostic_lines(one, count=9, rows=[12, 15])).endswith("(9 rows: 12, 15, ...)")


def test_text_from_outside_cannot_steer_the_terminal() -> None:
    """Escape sequences and bidi overrides are shown, not obeyed."""
    shown = "\n".join(
        diagnostic_lines(Diagnostic("D110", "bad \x1b[2J", "hint \x07", place=Place(cell="A\x1b1")))
    )
    assert "\x1b" not in shown
    assert "\x07" not in shown


# --- other programs -------------------------------------------------------------------------------------


@pytest.fixture
def problems() -> DiagnosticCollector:
    """One problem of a template in two rows, one of a cell, one of nothing in particular."""
    collected = DiagnosticCollector()
    place = Place("a b/body.html", 9, 14, 5, "  <p>plan: {{ amout }}</p>")
    collected.add(
        Diagnostic("T102", "unknown name `amout`", "did you mean 100%?", place=place, row=r) for r in (2, 3)
    )
    collected.add(
        [Diagnostic("D110", "no address", place=Place("l.csv", cell="column email"), row=4, address="x@y.z")]
    )
    collected.add([Diagnostic("M202", "there is no text part", severity=Severity.WARNING)])
    return collected


def test_concise_is_one_line_a_problem(problems: DiagnosticCollector) -> None:
    """Place first, as compilers write it, so that editors find the line."""
    assert list(concise(problems)) == [
        "a b/body.html:9:14: error[T102] unknown name `amout`  (2 rows: 2, 3)",
        "l.csv (column email): error[D110] no address  (row 4, x@y.z)",
        "warning[M202] there is no text part",
    ]


def test_github_annotations_are_escaped(problems: DiagnosticCollector) -> None:
    """Per cent signs and line breaks would end a workflow command."""
    assert list(github(problems)) == [
        (
            "::error file=a b/body.html,line=9,col=14,title=T102::unknown name `amout`  (2 rows: 2, 3)"
            "%0Ahint: did you mean 100%25?"
        ),
        "::error file=l.csv,title=D110::no address (column email)  (row 4, x@y.z)",
        "::warning title=M202::there is no text part",
    ]


def test_sarif_has_rules_results_and_regions(problems: DiagnosticCollector) -> None:
    """The log names each rule once and points at lines and columns."""
    (run,) = json.loads(sarif(problems, "1.2"))["runs"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["D110", "M202", "T102"]
    first, second, third = run["results"]
    assert (first["ruleId"], first["level"], first["occurrenceCount"]) == ("T102", "error", 2)
    assert first["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "a%20b/body.html"},
        "region": {"startLine": 9, "startColumn": 14, "endColumn": 19},
    }
    assert second["locations"][0]["logicalLocations"][0]["name"] == "row 4, column email"
    assert (third["level"], "locations" in third) == ("warning", False)


@pytest.fixture
def campaign(campaign_factory: CampaignFactory) -> Path:
    """A campaign with a warning and an invalid row."""
    campaign_factory({"body.txt": "Hi {{ name }}, TODO\n"}, rows=["a@x.org,Ann", "bad,Bo"])
    return campaign_factory.folder


def check(folder: Path, *options: str) -> tuple[int, str]:
    """Run the command and give its exit code and what it printed to stdout."""
    environ = {
        "MAILMERGE_STATE_DIR": str(folder.parent / "state"),
        "MAILMERGE_CONFIG": str(folder.parent / "none.toml"),
    }
    done = CliRunner().invoke(command, [str(folder), *options], env=environ, standalone_mode=False)
    if done.exception:
        raise done.exception
    return done.return_value, done.stdout


def test_the_json_format_is_the_json_option(campaign: Path) -> None:
    """Both print a line a problem and one for the whole."""
    code, printed = check(campaign, "--output-format", "json")
    assert (code, printed) == check(campaign, "--json")
    assert code == 3
    problems = [json.loads(line) for line in printed.splitlines()]
    assert [(p["type"], p.get("code")) for p in problems] == [
        ("problem", "D110"),
        ("problem", "M210"),
        ("check", None),
    ]


@pytest.mark.parametrize(
    ("form", "start"), [("concise", "{}"), ("github", "::error "), ("sarif", "{"), ("json", '{"v": 1')]
)
def test_templates_that_do_not_compile_are_told_in_every_format(
    campaign: Path, form: str, start: str
) -> None:
    """Also what stops the check before the first row is written as the reader wants it."""
    (campaign / "body.txt").write_text("Hi {{ frist }}\n")
    code, printed = check(campaign, "--output-format", form)
    assert code == 2
    assert "T102" in printed
    assert printed.startswith(str(campaign) if form == "concise" else start)


def test_sarif_alone_is_on_stdout(campaign: Path) -> None:
    """What a program reads has no line for people in it."""
    _, printed = check(campaign, "--output-format", "sarif")
    assert json.loads(printed)["version"] == "2.1.0"
