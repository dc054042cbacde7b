"""The recipes of CONTRIBUTING.md, followed to the letter and used.

Each recipe is a heading ``### What: N files`` under ``## Recipes`` with ``diff`` blocks, which change a copy
of this checkout, and ``console`` blocks, which use the changed copy. A recipe is added there; here only its
name and number are promised in `WANTED`. A diff names its file (``--- mailmerge/options.py``, or
``+++ mailmerge/new.py`` for a new one) and has no line numbers: its unchanged and removed lines must occur in
the file exactly once, and ``@@`` is between two places. In a console, lines beginning with ``$`` are commands
for a shell, in a folder with the copy and a campaign ``spring``; the lines below each command must be parts
of lines of its output, in that order.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mailmerge
from faultd import FaultServer, say

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PACKAGE = Path(mailmerge.__file__).parent
WANTED = {
    "A key of campaign.toml": 2,
    "A flag for a key": 1,
    "A flag of one command": 2,
    "A command": 2,
    "A provider": 1,
    "A lint rule": 2,
    "A reply rule": 1,
    "A template filter": 1,
    "A sign-in mechanism": 1,
    "A column of the results": 1,
    "A list format": 3,
}
"""The recipes that there must be, and how many files of the package each of them may touch."""
CAMPAIGN = """\
name = "spring"
account = "test"
[data]
source = "people.csv"
[message]
from = "Me <me@example.org>"
subject = "Hello {{ name }}"
text = "body.txt"
"""
CONFIG = """\
[accounts.test]
host = "127.0.0.1"
port = {port}
tls = "none"
user = "me@example.org"
auth = "token"
"""


@dataclass(frozen=True)
class Recipe:
    """One recipe as it is written."""

    title: str
    files: int
    diffs: tuple[str, ...]
    consoles: tuple[str, ...]


def recipes() -> Iterator[Recipe]:
    """Yield what is written under ``## Recipes``."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    chapter = text.partition("\n## Recipes\n")[2].partition("\n## ")[0]
    for title, number, body in re.findall(
        r"^### ([^\n:]+): (\d+) files?\b[^\n]*\n(.*?)(?=^### |\Z)", chapter, re.DOTALL | re.MULTILINE
    ):
        blocks = re.findall(r"^```(\w+)\n(.*?)^```", body, re.DOTALL | re.MULTILINE)
        yield Recipe(
            title,
            int(number),
            tuple(block for language, block in blocks if language == "diff"),
            tuple(block for language, block in blocks if language == "console"),
        )


RECIPES = list(recipes())


class Copy:
    """A copy of package and tests, with a small campaign beside it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        ignore = shutil.ignore_patterns("__pycache__", "templates")
        shutil.copytree(PACKAGE, folder / "mailmerge", ignore=ignore)
        shutil.copytree(
            ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__", "node_modules")
        )
        shutil.copy(ROOT / "pyproject.toml", folder)
        self.touched: set[str] = set()
        self._write("spring/campaign.toml", CAMPAIGN)
        self._write("spring/people.csv", "email,name\nana@example.com,Ana Lima\nbo@example.net,Bo\n")
        self._write("spring/body.txt", "Dear {{ name }},\n\nwelcome.\n")
        self._write("home/config.toml", CONFIG.format(port=port))
        for name in ("mailmerge", "pytest"):
            self._write(f"bin/{name}", f'#!/bin/sh\nexec "{sys.executable}" -P -m {name} "$@"\n')
            (folder / "bin" / name).chmod(0o755)
        self._environ = {
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(folder / "home"),
            "MAILMERGE_CONFIG": str(folder / "home" / "config.toml"),
            "MAILMERGE_STATE_DIR": str(folder / "home" / "state"),
            "MAILMERGE_CACHE_DIR": str(folder / "home" / "cache"),
            "LC_ALL": "C.UTF-8",
            "COLUMNS": "200",
        }

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")

    def change(self, diff: str) -> None:
        """Do what a diff block says."""
        kind, name = "", ""
        hunks: list[list[str]] = []
        for line in diff.splitlines():
            if line.startswith(("--- ", "+++ ")):
                kind, name, hunks = line[:3], line[4:], [[]]
            elif line.startswith("@@"):
                hunks.append([])
            else:
                hunks[-1].append(line or " ")
        assert name, diff
        self.touched.add(name)
        path = self.folder / name
        text = "" if kind == "+++" else path.read_text("utf-8")
        for hunk in filter(None, hunks):
            old = "".join(f"{line[1:]}\n" for line in hunk if line[0] in " -")
            new = "".join(f"{line[1:]}\n" for line in hunk if line[0] in " +")
            assert kind == "+++" or text.count(old) == 1, (
                f"{name} has these lines {text.count(old)} times:\n{old}"
            )
            text = text.replace(old, new) if old else new
        path.write_text(text, "utf-8")

    def use(self, console: str) -> list[str]:
        """Run a console block; return the lines that did not come, with the output in their place."""
        missing: list[str] = []
        for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
            command, *expected = part.splitlines()
            done = subprocess.run(
                ["/bin/sh", "-c", command],
                cwd=self.folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=120,
            )
            lines = iter(done.stdout.splitlines())
            missing += [
                f"{line!r} is not in the output of {command}:\n{done.stdout}"
                for line in expected
                if line.strip() and not any(line.strip() in shown for shown in lines)
            ]
        return missing


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Copy]:
    """A copy of this checkout, whose account is a server that knows one way to sign in only."""
    accept = {"AUTH": say("235 2.7.0 welcome")}
    with FaultServer(accept, extensions=("AUTH X-HOUSE",)) as server:
        yield Copy(tmp_path, server.port)


def test_there_is_a_recipe_for_every_everyday_change() -> None:
    """Each promised recipe is there, says how many files it touches, and shows changes and their use."""
    assert {recipe.title: recipe.files for recipe in RECIPES} == WANTED
    assert [recipe.title for recipe in RECIPES if not (recipe.diffs and recipe.consoles)] == []


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.title)
def test_a_recipe_does_what_it_says(copy: Copy, recipe: Recipe) -> None:
    """Followed to the letter, a recipe touches so many files of the package, and its change can be used."""
    for diff in recipe.diffs:
        copy.change(diff)

    touched = {name for name in copy.touched if name.startswith("mailmerge/")}

    assert len(touched) == recipe.files, touched
    assert copy.touched - touched <= {"tests/unit/test_smtp_replies.py"}
    assert [missing for console in recipe.consoles for missing in copy.use(console)] == []


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.title)
def test_a_recipe_shows_what_was_not_there_before(copy: Copy, recipe: Recipe) -> None:
    """Without its changes the output of a recipe does not come."""
    assert [missing for console in recipe.consoles for missing in copy.use(console)] != []
