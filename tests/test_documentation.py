"""What the documents say is so: commands, options, keys, states, exit codes, public names."""

from __future__ import annotations

import re
import runpy
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest

from mailmerge.cli import COMMANDS, ENDS_WITH, EXIT_CODES, SUMMARIES, cli
from mailmerge.config import campaign_file
from mailmerge.config.accounts import resolve_account
from mailmerge.config.environment import Environment
from mailmerge.model import Status
from mailmerge.options import CAMPAIGN as SECTIONS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
ACCOUNTS, CAMPAIGN_FILE, RESULTS = (
    (ROOT / "docs" / f"{name}.md").read_text("utf-8") for name in ("accounts", "campaign-file", "results")
)
BLOCKS = [
    textwrap.dedent(block)
    for page in (CAMPAIGN_FILE, ACCOUNTS)
    for block in re.findall(r"^ *```toml\n(.*?)^ *```", page, re.DOTALL | re.MULTILINE)
]
CAMPAIGN = next(block for block in BLOCKS if "[message]" in block)


def script(monkeypatch: pytest.MonkeyPatch, name: str) -> dict[str, Any]:
    """Return what a script of this project defines."""
    monkeypatch.setattr(sys, "path", [*sys.path])  # scripts add the checkout, which processes would inherit
    return runpy.run_path(str(ROOT / "scripts" / name))


def test_every_command_has_help() -> None:
    """No command is hidden from who asks for help."""
    grouped = [name for names in COMMANDS.values() for name in names]
    assert sorted(grouped) == sorted(SUMMARIES)
    with click.Context(cli) as context:
        for name in grouped:
            command = cli.get_command(context, name)
            assert command is not None
            assert command.help, name
            assert command.name == name
            options = [param for param in command.params if isinstance(param, click.Option)]
            assert [option.name for option in options if not option.help] == []


def test_the_commands_page_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """``docs/commands.md`` is what the script would write: each command and option with its help."""
    made = script(monkeypatch, "write-commands-page")["as_markdown"]()
    assert (ROOT / "docs" / "commands.md").read_text("utf-8") == made, "run scripts/write-commands-page"
    headings = re.findall(r"^### mailmerge (.+)$", made, re.MULTILINE)
    assert headings == list(SUMMARIES)
    with click.Context(cli) as context:
        for name, part in zip(headings, re.split(r"^### .+$", made, flags=re.MULTILINE)[1:], strict=True):
            command = cli.get_command(context, name)
            assert command is not None
            flags = {flag for parameter in command.params for flag in parameter.opts if flag.startswith("-")}
            assert {flag for flag in flags if flag not in part} == set(), name
            assert part.count("```text") >= 2, f"{name} has a synopsis and an example"


def test_the_manual_pages_are_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """``docs/man`` is what ``scripts/write-man-pages`` would write: a page for each command, and one more."""
    made = dict(script(monkeypatch, "write-man-pages")["pages"]())
    kept = {path.name: path.read_text("utf-8") for path in (ROOT / "docs" / "man").iterdir()}
    assert sorted(kept) == sorted(["mailmerge.1", *(f"mailmerge-{name}.1" for name in SUMMARIES)])
    assert [name for name in made if kept[name] != made[name]] == [], "run scripts/write-man-pages"


def test_every_option_that_the_pages_show_exists() -> None:
    """Commands of the README and of the pages that were a part of it can be typed as they are printed."""
    with click.Context(cli) as context:
        known = {"--version", "--help"}
        for name in SUMMARIES:
            command = cli.get_command(context, name)
            assert command is not None
            known |= {opt for param in command.params for opt in param.opts}
    shown = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", README + ACCOUNTS + CAMPAIGN_FILE + RESULTS))
    assert shown - known == set()


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.partition("\n")[0])
def test_every_file_of_the_pages_loads(block: str, tmp_path: Path) -> None:
    """Each TOML example is a file that this version reads without a complaint: a campaign, or accounts."""
    accounts = tomllib.loads(block).get("accounts")
    path = tmp_path / ("config.toml" if accounts else "campaign.toml")
    path.write_text(block, encoding="utf-8")
    if accounts is None:
        assert campaign_file.load(path).name
    for name in accounts or ():
        account = resolve_account(name, environment=Environment({}), config_path=path)
        assert (account.name, account.source) == (name, "config")


def test_the_pages_show_a_campaign_and_an_account() -> None:
    """Both kinds of files are there to be copied."""
    documents = [tomllib.loads(block) for block in BLOCKS]
    assert [document["name"] for document in documents if "name" in document] == ["spring-invoices"]
    assert [list(document["accounts"]) for document in documents if "accounts" in document] == [["work"]]


def test_every_key_of_the_campaign_file_is_on_its_page() -> None:
    """A key that exists is documented."""
    document = tomllib.loads(CAMPAIGN)
    told = {("", key) for key in document} | {
        (section, key) for section in ("data", "message", "send", "check") for key in document[section]
    }
    told |= {("attach", key) for table in document["attach"] for key in table}
    missing = [
        f"{section}.{key}" for section, keys in SECTIONS.items() for key in keys if (section, key) not in told
    ]
    assert [name for name in missing if f"`{name.rpartition('.')[2]}" not in CAMPAIGN_FILE] == []


def test_every_state_and_exit_code_is_on_the_page_of_results() -> None:
    """What results.csv and the shell can show is explained."""
    assert [status for status in Status if status != "handing_over" and f"`{status}`" not in RESULTS] == []
    rows = re.findall(r"^\| ([\d, ]+) \|", RESULTS, re.MULTILINE)
    codes = {int(number) for row in rows for number in row.split(",")}
    assert codes == {int(number) for code in EXIT_CODES for number in code.split("/")}
    assert codes == {0, 1, 2, 3, 4, 5, 6, 7, 8, 129, 130, 143}
    assert set(ENDS_WITH) - set(SUMMARIES) == set()
    assert {code for ends in ENDS_WITH.values() for code in ends} == set("345678")
