"""The help of the commands, and the manual pages that are made of it."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from mailmerge.cli import cli
from servers.programs import require

if TYPE_CHECKING:
    from collections.abc import Iterator

_EXAMPLES = re.compile(r"\x08\nExamples?\b.*:\n((?: .*\n?)+)")

_COMMAND = re.compile(r"""mailmerge (?:[^|)>"]|"[^"]*")*""")
"""A command line, without what a shell does with its output."""


def commands(group: click.Group = cli, *names: str) -> Iterator[tuple[str, click.Command]]:
    """Yield every command and group with the words that call it."""
    yield " ".join(("mailmerge", *names)), group
    with click.Context(group) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if isinstance(command, click.Group):
                yield from commands(command, *names, name)
            elif command is not None:
                yield " ".join(("mailmerge", *names, name)), command


COMMANDS = dict(commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_an_example_that_would_run(name: str) -> None:
    """Its lines begin with the command itself, and name no option or command that there is not."""
    found = _EXAMPLES.search(inspect.cleandoc(COMMANDS[name].help or ""))
    assert found, name
    for line in found[1].splitlines():
        (typed,) = _COMMAND.findall(line)
        assert typed.startswith(name)
        words = shlex.split(typed)[1:]
        if words[0] == "COMMAND":
            continue
        command: click.Command = cli
        while isinstance(command, click.Group):
            with click.Context(command) as context:
                called = command.get_command(context, words.pop(0))
            assert called is not None, line
            command = called
        command.make_context(name, words)  # click.UsageError: it would not run


ROOT = Path(__file__).parents[2]
MANUAL = ROOT / "docs" / "man"


@pytest.mark.skipif("sys.platform == 'win32'")
def test_man_can_read_the_manual_pages() -> None:
    """Mandoc finds no mistake in them, and shows what the help says, with hyphens that can be pasted."""
    mandoc = require("mandoc")
    names = sorted(MANUAL.glob("*.1"))
    done = subprocess.run(
        [mandoc, "-Tlint", "-W", "warning", *names], capture_output=True, text=True, check=False
    )
    said = (done.stdout + done.stderr).splitlines()
    assert [line for line in said if "missing date" not in line] == []
    shown = subprocess.run(
        [mandoc, "-Tutf8", "-Owidth=100", MANUAL / "mailmerge-bounces.1"],
        capture_output=True,
        encoding="utf-8",
        check=True,
    ).stdout
    text = re.sub(r".\x08", "", shown)  # bold is overstruck
    assert "mailmerge bounces spring --maildir ~/Maildir\n" in text
    assert re.search(r"--mbox FILE\n +Read this mbox\.", text)
