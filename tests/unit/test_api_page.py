"""docs/api.md: the reference of the library, made from its docstrings."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import mailmerge
from servers.programs import unmeasured

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "api.md"


def section(name: str) -> str:
    """Return what the page says about a name."""
    text = PAGE.read_text("utf-8")
    return text.partition(f"\n### {name}\n")[2].partition("\n### ")[0]


def test_the_page_is_up_to_date() -> None:
    """``docs/api.md`` is what ``scripts/write-api-page`` would write."""
    command = [sys.executable, str(ROOT / "scripts" / "write-api-page"), "--print"]
    page = subprocess.run(command, env=unmeasured(), check=True, capture_output=True, encoding="utf-8").stdout
    assert PAGE.read_text("utf-8") == page


def test_every_public_name_is_described() -> None:
    """Each has a heading and at least one sentence."""
    assert sorted(re.findall(r"^### (\w+)$", PAGE.read_text("utf-8"), re.MULTILINE)) == mailmerge.__all__
    silent = [name for name in mailmerge.__all__ if not re.search(r"```\n\n[A-Z`]", section(name))]
    assert silent == []


def test_arguments_results_and_errors_are_lists() -> None:
    """What a docstring says of an argument over several lines is one item; options have their help."""
    send = section("Campaign").partition("#### Campaign.send\n")[2].partition("\n#### ")[0]
    assert "    plan: Plan | None = None,\n" in send
    assert re.search(r"^- `plan`: .*\n  .*\n  now, made if necessary\.$", send, re.MULTILINE)
    assert "\n**Raises**\n\n- `ValueError`: the `plan` is another campaign's.\n" in send
    assert re.search(r"^- `host: .*`: \w", section("Account"), re.MULTILINE)
    assert '- `ACCEPTED = "accepted"`' in section("Status")
    assert "::" not in re.sub(r"```.*?```", "", PAGE.read_text("utf-8"), flags=re.DOTALL)
