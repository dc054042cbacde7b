"""``mailmerge completion``: what the shell needs to complete commands and options."""

from __future__ import annotations

import click


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, *, shell: str) -> int:
    """Print the completion script for SHELL.

    bash: eval "$(mailmerge completion bash)" in ~/.bashrc; zsh: the same in ~/.zshrc; fish: mailmerge
    completion fish | source in ~/.config/fish/config.fish.
    """
    from click.shell_completion import get_completion_class

    complete = get_completion_class(shell)
    assert complete is not None
    root = context.find_root()
    click.echo(complete(root.command, {}, "mailmerge", "_MAILMERGE_COMPLETE").source())
    return 0
