"""The help of the commands: an example each, which is a command line that would run."""

from __future__ import annotations

import inspect
import re
import shlex
from typing import TYPE_CHECKING

import click
import pytest

from mailmerge.cli import cli

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
