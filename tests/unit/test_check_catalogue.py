"""The catalogue of codes: complete, current, and readable."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from mailmerge.check.catalogue import AREAS, Entry, as_markdown, catalogue, page
from mailmerge.cli.reference import explain as command
from mailmerge.cli.terminal import fitted
from mailmerge.model import Severity
from mailmerge.text import width

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"""["'\[]([A-Z]\d{3})["'\]]""")

needs_checkout = pytest.mark.skipif(not (ROOT / "mailmerge").is_dir(), reason="needs the source tree")


@needs_checkout
def test_every_code_that_is_raised_has_a_page_and_every_page_a_code() -> None:
    """Nothing is shown that cannot be explained, and nothing is explained that is never shown."""
    sources = [path.read_text("utf-8") for path in (ROOT / "mailmerge").rglob("*.py")]
    raised = {code for source in sources for code in CODE.findall(source) if code[0] in AREAS}
    raised -= {"S256"}  # a way to check codes of OAuth
    assert raised - set(catalogue()) == set()
    assert set(catalogue()) - raised == set()


@needs_checkout
def test_the_document_of_all_checks_is_current() -> None:
    """``docs/checks.md`` is what ``scripts/write-checks-page`` would write."""
    assert (ROOT / "docs" / "checks.md").read_text("utf-8") == as_markdown()


@pytest.mark.parametrize("entry", catalogue().values(), ids=lambda entry: entry.code)
def test_a_page_says_what_why_and_what_to_do(entry: Entry) -> None:
    """Each page is complete and short enough to be read."""
    assert entry.code[0] in AREAS
    for text in (entry.what, entry.why, entry.do):
        assert text[:1].strip()
        assert text.count("`") % 2 == 0
    assert entry.what.endswith(".")
    assert len("\n".join(page(entry)).split()) < 130
    lines = [line for line in page(entry) if not entry.example or line[6:] not in entry.example]
    assert max(width(line) for whole in lines for line in fitted(whole, 88)) <= 88


def test_severity_follows_the_number_but_for_a_few() -> None:
    """Warnings are numbered from 200 in each area; the other warnings are marked."""
    marked = {e.code for e in catalogue().values() if e.severity is Severity.WARNING and e.code[1] != "2"}
    assert marked == {"C413", "D128"}
    assert all(e.severity is Severity.WARNING for e in catalogue().values() if e.code[1] == "2")


def test_explain_prints_the_page_of_a_code_however_it_is_written() -> None:
    """The code may be in lower case; several may be asked for together."""
    done = CliRunner().invoke(command, ["d112", "T102"])
    assert done.exit_code == 0
    assert done.output.startswith(
        "D112  error  (The list and its cells)\n\nA value in one of your own headers"
    )
    assert "\nT102  error  (Templates)\n" in done.output


def test_explain_without_a_code_lists_all() -> None:
    """The list has a line a code."""
    done = CliRunner().invoke(command, [])
    assert [line[:4] for line in done.output.splitlines()] == list(catalogue())


def test_explain_suggests_codes_for_one_that_does_not_exist() -> None:
    """A mistyped code is a usage error with a guess."""
    done = CliRunner().invoke(command, ["D11O"])
    assert done.exit_code == 2
    assert "Unknown code 'D11O'. Did you mean" in done.output
