"""The command line: argv in, terminal and exit codes out; the only package that prints.

A command's module, and with it whatever it needs, is imported when it runs.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click.shell_completion import CompletionItem

    from mailmerge.errors import MailmergeError

COMMANDS = {
    "Start": ("init", "providers", "login", "logout"),
    "Look": ("check", "preview"),
    "Send": ("rehearse", "test", "send", "drafts"),
    "Fleet": ("worker", "fleet", "pause", "resume", "cancel"),
    "After": ("status", "report", "bounces", "resolve", "requeue", "purge", "ledger"),
    "Tools": ("sandbox", "suppress", "convert", "explain", "schema", "completion"),
}
_MODULES = {
    **dict.fromkeys(("rehearse", "test", "drafts"), "send"),
    **dict.fromkeys((name for name in COMMANDS["After"] if name != "bounces"), "after"),
    **dict.fromkeys(COMMANDS["Fleet"], "fleet"),
    "logout": "login",
    **dict.fromkeys(("providers", "explain", "schema"), "reference"),
}
"""The modules of commands that do not have one of their own name."""
SUMMARIES = {
    "init": "Create a campaign folder from your list and its columns.",
    "providers": "Show mail providers: servers, limits, and how to sign in.",
    "login": "Set up an account: sign in, and store the secret.",
    "logout": "Remove the secrets that login stored.",
    "check": "Check every row and list all problems; nothing is sent.",
    "preview": "Show every message as it would be sent, on one page.",
    "rehearse": "Simulate the whole run with a built-in server; nothing leaves this machine.",
    "test": "Send the messages of chosen rows to yourself only.",
    "send": "Show the plan, ask, send, and report; run again to continue.",
    "drafts": "Put the messages into your Drafts folder instead of sending them.",
    "worker": "Send a fleet's messages, on any machine, until it is stopped.",
    "fleet": "Show the workers of a ledger, and what each of them is doing.",
    "pause": "Stop a fleet from sending a campaign; its rows stay loaded.",
    "resume": "Let a fleet continue with a paused campaign.",
    "cancel": "Withdraw a campaign from a fleet; unsent rows stay pending.",
    "status": "Show the status of every row.",
    "report": "Write the report page and the result files again.",
    "bounces": "Read the mail that came back, and record which rows bounced.",
    "resolve": "Decide what to do with rows in doubt.",
    "requeue": "Requeue rejected or expired rows.",
    "purge": "Remove personal data from the ledger and the out folder.",
    "ledger": "Accept a copied or moved ledger, or start over without a lost one.",
    "sandbox": "Run the built-in server, to practise `send`; nothing leaves this machine.",
    "suppress": "Keep the list of people whom no campaign of yours may write to.",
    "convert": "Write a campaign folder from another program's files.",
    "explain": "Explain what a problem's code means and what to do about it.",
    "schema": "Print the JSON Schema of campaign.toml, for editors.",
    "completion": "Print a completion script for your shell.",
}


OTHER_NAMES = {
    **dict.fromkeys(("validate", "verify", "lint", "test-list"), "check"),
    **dict.fromkeys(("dry-run", "dryrun", "simulate", "simulation", "rehearsal", "practice"), "rehearse"),
    **dict.fromkeys(("continue", "run", "start", "go", "mail", "send-all", "retry", "merge"), "send"),
    **dict.fromkeys(("sent", "state", "progress", "log", "list", "ls", "history", "info"), "status"),
    **dict.fromkeys(("new", "create", "make", "setup", "begin", "quickstart", "import"), "init"),
    **dict.fromkeys(("show", "view", "open", "render", "display", "watch"), "preview"),
    **dict.fromkeys(("auth", "signin", "sign-in", "account", "accounts", "config", "configure"), "login"),
    **dict.fromkeys(("signout", "sign-out"), "logout"),
    **dict.fromkeys(("try", "send-test", "sendtest", "test-send"), "test"),
    **dict.fromkeys(("results", "result", "export", "stats"), "report"),
    **dict.fromkeys(("draft", "save"), "drafts"),
    **dict.fromkeys(("bounced", "bounce", "returned"), "bounces"),
    **dict.fromkeys(("unsubscribe", "optout", "opt-out", "suppressed", "blocklist"), "suppress"),
    **dict.fromkeys(("resend", "redo"), "requeue"),
    **dict.fromkeys(("forget", "clean", "delete", "erase"), "purge"),
    **dict.fromkeys(("what", "why", "code"), "explain"),
}
"""What other programs, and people, call the commands."""


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is used."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order in which they are used."""
        return [name for names in COMMANDS.values() for name in names]

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module and return its command."""
        if cmd_name not in SUMMARIES:
            return None
        module = import_module(f"mailmerge.cli.{_MODULES.get(cmd_name, cmd_name)}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest a command for a mistyped name, and for a file in the place of one."""
        if args and args[0] == "help" and len(args) <= 2:
            if len(args) == 2:
                return super().resolve_command(ctx, [args[1], "--help"])
            click.echo(ctx.get_help())
            ctx.exit()
        if args and args[0] not in SUMMARIES and not args[0].startswith("-"):
            import difflib

            if os.path.isfile(args[0]):  # noqa: PTH113
                from pathlib import Path

                from mailmerge.config.campaign_file import refuse_file

                refuse_file(Path(args[0]), "command")
            near = OTHER_NAMES.get(args[0].lower().replace("_", "-"))
            near = near or next(iter(difflib.get_close_matches(args[0].lower(), SUMMARIES, n=1)), None)
            hint = f" Did you mean {near!r}? {SUMMARIES[near]}" if near else " mailmerge --help lists them."
            raise click.UsageError(f"Unknown command {args[0]!r}.{hint}", ctx=ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the names of commands without importing them."""
        from click.shell_completion import CompletionItem

        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        found = [CompletionItem(name, help=SUMMARIES[name]) for name in names]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands under their headings, without importing them."""
        for heading, names in COMMANDS.items():
            with formatter.section(heading):
                formatter.write_dl([(name, SUMMARIES[name]) for name in names])


_WIDEST_HELP = 110
"""Columns: longer lines are hard to read."""
EXIT_CODES = {
    "0": "done",
    "2": "nothing sent (usage, campaign, list, template)",
    "3": "some rows rejected or invalid",
    "4": "some rows in doubt",
    "5": "stopped early: run again",
    "6": "sign-in, TLS or sender refused",
    "7": "in use",
    "8": "ledger",
    "129/130/143": "interrupted",
    "1": "a bug in mailmerge",
}
ENDS_WITH = {
    **dict.fromkeys(("rehearse", "test", "send", "drafts"), "345678"),
    "bounces": "35678",
    "worker": "5678",
    "check": "35678",
    "login": "56",
    **dict.fromkeys(("resolve", "requeue", "purge", "ledger", "report", "preview", "status"), "78"),
    **dict.fromkeys(("fleet", "pause", "resume", "cancel", "suppress"), "78"),
}
"""The exit codes of each command besides 0, 1, 2 and those of an interruption."""
EPILOG = f"""\
Recommended order: preview one row, check all rows, rehearse, send a test to yourself, send one message
(--limit 1), send the rest.

"accepted" means that the server answered 250; it is not proof of delivery. No row is sent twice unless
you ask for it: a row whose reply was lost is "in doubt" until you resolve it.

Exit codes: {", ".join(map(" ".join, EXIT_CODES.items()))}.
"""


def _show_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    """Print the distribution's name, too: another distribution installs the same command."""
    if not wanted:
        return
    from mailmerge.version import program_version

    click.echo(f"mailmerge-kit {program_version()}")
    ctx.exit()


@click.group(
    cls=LazyGroup,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": _WIDEST_HELP},
    invoke_without_command=True,
    no_args_is_help=False,
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.pass_context
def cli(context: click.Context) -> int | None:
    """Mail merge you can trust with your name: one checked message per row, and a record of each.

    `mailmerge` alone, in a terminal, guides you from your list to sent letters, step by step.

    \b
    Examples:
      mailmerge init spring --list people.xlsx
      mailmerge check spring
      mailmerge COMMAND --help
    """  # noqa: D301  click's own mark
    if context.invoked_subcommand is not None:
        return None
    from mailmerge.cli.output import interactive

    if not interactive():
        raise click.exceptions.NoArgsIsHelpError(context)
    from mailmerge.cli.guide import guide

    return guide(run)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; only a bug of ours shows a traceback."""
    _use_utf8()
    code = 0
    before = _end_on_signals()
    try:
        if _is_from_elsewhere(arguments):
            from mailmerge.cli.elsewhere import translated

            arguments = translated(arguments)
        if "_MAILMERGE_COMPLETE" in os.environ:
            import_module("mailmerge.cli.completion")  # which supports one shell more than click
        result: Any = cli.main(
            list(arguments), prog_name="mailmerge", standalone_mode=False, terminal_width=_help_width()
        )
        code = result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.ClickException as error:
        code = _show_usage(error)
    except _expected() as error:
        code = _show(error)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        code = 130
    except BrokenPipeError:
        # The reader of our output has gone; keep Python from complaining again at exit.
        from mailmerge.streams import point_nowhere

        point_nowhere(sys.stdout.fileno())
    except Exception as error:  # noqa: BLE001  our bug: shown whole, but for what must never be shown
        from mailmerge.cli.output import traceback_of

        sys.stderr.write(traceback_of(error))
        code = 1
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code


_OLD_OPTIONS = frozenset(
    """--sample --dry-run --no-dry-run --no-limit --limit --resume --template --database --config
    --output-format --no-color""".split()  # noqa: SIM905
)
"""What command lines of awdeorio's mailmerge begin with: it has no commands."""


def _is_from_elsewhere(arguments: Sequence[str]) -> bool:
    """Return whether a command line begins with a folder, a template or an option of awdeorio's mailmerge."""
    if not arguments:
        here = os.path.isfile  # not Path: every command comes by here
        return here("mailmerge_template.txt") and not here("campaign.toml")
    first = arguments[0]
    if first.startswith("-"):
        return first.partition("=")[0] in _OLD_OPTIONS
    if first in SUMMARIES or not os.path.isfile(first):  # noqa: PTH113
        return first not in SUMMARIES and os.path.isdir(first)  # noqa: PTH112
    from pathlib import Path

    from mailmerge.convert.awdeorio import find_template

    return find_template(Path(first)) is not None


def _end_on_signals() -> dict[int, Any]:
    """Turn SIGTERM and a closed terminal into an exception, so that temporary files are removed.

    Returns the previous handlers. A signal that was ignored remains ignored (`nohup`).
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                before[number] = signal.signal(number, _end)
    return before


def _end(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _use_utf8() -> None:
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="backslashreplace")


def _expected() -> type[MailmergeError]:
    """Return the class of our errors when there is one to compare: its import is a third of ``--help``."""
    from mailmerge.errors import MailmergeError

    return MailmergeError


def _help_width() -> int | None:
    """Return how wide help is in this terminal: click alone makes it no narrower than 50 columns."""
    if not sys.stdout.isatty():
        return None
    from mailmerge.cli.terminal import columns

    return min(columns(sys.stdout) or _WIDEST_HELP, _WIDEST_HELP)


def _show_usage(error: click.ClickException) -> int:
    """Show what is wrong with a command line, wrapped as everything is."""
    import io

    from mailmerge.cli.output import note

    said = io.StringIO()
    error.show(said)
    for line in said.getvalue().splitlines():
        note(line)
    return 2


def _show(error: MailmergeError) -> int:
    from mailmerge.cli.output import show_diagnostics

    show_diagnostics(error.diagnostics)
    return error.exit_code
