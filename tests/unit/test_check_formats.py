"""Problems as other programs read them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from mailmerge.check.collector import Problems
from mailmerge.check.formats import concise, github, sarif
from mailmerge.cli.check import command
from mailmerge.model import Diagnostic, Place, Severity

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def problems() -> Problems:
    """One problem of a template in two rows, one of a cell, one of nothing in particular."""
    found = Problems()
    place = Place("a b/body.html", 9, 14, 5, "  <p>plan: {{ amout }}</p>")
    found.add(
        Diagnostic("T102", "unknown name `amout`", "did you mean 100%?", place=place, row=r) for r in (2, 3)
    )
    found.add(
        [Diagnostic("D110", "no address", place=Place("l.csv", cell="column email"), row=4, address="x@y.z")]
    )
    found.add([Diagnostic("M202", "there is no text part", severity=Severity.WARNING)])
    return found


def test_concise_is_one_line_a_problem(problems: Problems) -> None:
    """Place first, as compilers write it, so that editors find the line."""
    assert list(concise(problems)) == [
        "a b/body.html:9:14: error[T102] unknown name `amout`  (2 rows: 2, 3)",
        "l.csv (column email): error[D110] no address  (row 4, x@y.z)",
        "warning[M202] there is no text part",
    ]


def test_github_annotations_are_escaped(problems: Problems) -> None:
    """Per cent signs and line breaks would end a workflow command."""
    assert list(github(problems)) == [
        (
            "::error file=a b/body.html,line=9,col=14,title=T102::unknown name `amout`  (2 rows: 2, 3)"
            "%0Ahint: did you mean 100%25?"
        ),
        "::error file=l.csv,title=D110::no address (column email)  (row 4, x@y.z)",
        "::warning title=M202::there is no text part",
    ]


def test_sarif_has_rules_results_and_regions(problems: Problems) -> None:
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
def campaign(tmp_path: Path) -> Path:
    """A campaign with a warning and an invalid row."""
    (tmp_path / "list.csv").write_text("email,first\na@x.org,Ann\nbad,Bo\n")
    (tmp_path / "body.txt").write_text("Hi {{ first }}, TODO\n")
    (tmp_path / "campaign.toml").write_text(
        'name = "c"\n[data]\nsource = "list.csv"\n[message]\nfrom = "me@x.org"\nsubject = "s"\n'
        'text = "body.txt"\n'
    )
    return tmp_path


def check(folder: Path, *options: str) -> tuple[int, str]:
    """Run the command and give its exit code and what it printed to stdout."""
    environ = {"MAILMERGE_STATE_DIR": str(folder / "state"), "MAILMERGE_CONFIG": str(folder / "none.toml")}
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
