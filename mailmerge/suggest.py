r"""Commands that are suggested to a person: one function writes them all, to be pasted as they are.

Quoting follows the rules of the shells themselves. POSIX shells: the Open Group's "Shell Command Language",
2.2.2 (single quotes keep everything but themselves). Windows: a word is written in the one form that means
itself in cmd *and* in PowerShell, because a program cannot tell which of them its user types into:

- double quotes; inside them cmd reads only ``%`` (and ``!``, where somebody turned delayed expansion on),
- PowerShell reads ``$``, the backtick and double quotes, the typographic ones too (about_Quoting_Rules),
- the C runtime, which cuts the line into arguments, reads ``\"`` ("Parsing C command-line arguments"), and
  PowerShell before 7.3 does not write it for us (about_Parsing, PSNativeCommandArgumentPassing).

What cannot be written like this is described in words instead: never a command that means something else.
"""

from __future__ import annotations

import enum
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from msgspec import Struct, convert, field, to_builtins
from msgspec.structs import replace

from mailmerge.options import MESSAGE_COMMANDS, every_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mailmerge.option_types import Option

_PROGRAM: Final = "mailmerge"
_REPEATED_BY_SEND: Final = frozenset({"rows", "limit", "wait"})
"""Given to a run and not part of the campaign: what continues the run needs them, too."""
_PLAIN: Final = {
    "posix": re.compile(r"[\w@+:,./-][\w@%+=:,./-]*"),
    "windows": re.compile(r"[\w./\\:+-]+"),
}
"""Letters and digits of any script mean themselves in every shell; their spaces and marks may not."""
_NOT_ON_WINDOWS: Final = frozenset('"$`“”„')


class Shell(enum.Enum):
    """Whose rules of quoting apply."""

    POSIX = "posix"
    WINDOWS = "windows"


class CannotQuoteError(ValueError):
    """The text cannot be written as a word of this shell."""


def users_shell(system: str | None = None, environ: Mapping[str, str] | None = None) -> Shell:
    """Return the shell to write for: on Windows a POSIX one (Git Bash, MSYS2, Cygwin) sets ``SHELL``."""
    windows = (system or os.name) == "nt"
    return Shell.WINDOWS if windows and "SHELL" not in (environ or os.environ) else Shell.POSIX


def quote(text: str, shell: Shell) -> str:
    """Write *text* as one word of a command line, on one line and with visible characters only.

    Raises:
        CannotQuoteError: the shell has no such word.

    """
    if _PLAIN[shell.value].fullmatch(text):
        return text
    return _posix(text) if shell is Shell.POSIX else _windows(text)


def word(text: str) -> str:
    """Return *text* as one word of a command in a hint, or a remark if that is not possible."""
    try:
        return quote(text, users_shell())
    except CannotQuoteError:
        return "(a name that cannot be written in this shell)"


def _posix(text: str) -> str:
    if text.isprintable():
        return "'" + text.replace("'", r"'\''") + "'"
    if "\0" in text or text.endswith("\n"):  # "$( )" takes line ends off
        raise CannotQuoteError
    try:
        return '"$(printf ' + "'" + "".join(map(_printf, text)) + "')\""
    except UnicodeEncodeError:
        raise CannotQuoteError from None


def _printf(char: str) -> str:
    """Write one character of a format of POSIX's printf; what cannot be seen, in octal."""
    if char in "%\\":
        return char * 2
    if char.isprintable() and char != "'":
        return char
    return "".join(f"\\{octet:03o}" for octet in char.encode("utf-8", "surrogateescape"))


def _windows(text: str) -> str:
    if not text or not text.isprintable() or _NOT_ON_WINDOWS & {*text} or text.endswith("\\"):
        raise CannotQuoteError
    return f'"{text}"'


# --- which run is meant -----------------------------------------------------------------------------------


class Invocation(Struct, frozen=True):
    """The command line by which a campaign was named; the ledger keeps that of a run as JSON."""

    command: str
    campaign: str | None = None
    """The folder or file as it was given; None: none was."""
    given: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The values of the options that were given, by parameter; none for a switch that is on."""
    folder: str = ""
    """The working directory, where relative paths begin."""
    unsaid: bool = False
    """The messages come from a program, not from a command line: only the ledger can be named by one."""

    @property
    def typed(self) -> bool:
        """Whether a person typed it: messages use options' flags, otherwise their names."""
        return bool(self.command)

    @classmethod
    def parsed(cls, command: str, parameters: Mapping[str, Any]) -> Self:
        """Keep those of a command's *parameters*, by name, that a suggestion may have to repeat."""
        values = {option.parameter: parameters.get(option.parameter) for option in _REPEATABLE}
        given = {name: _texts(value) for name, value in values.items() if _is_given(value)}
        campaign = parameters.get("campaign")
        return cls(command, None if campaign is None else str(campaign), given, str(Path.cwd()))

    @classmethod
    def programmed(cls, campaign: Path | None, options: Mapping[str, Any], **more: Any) -> Self:
        """Return a program's settings as a command line: *options* by name, *more* by parameter.

        A key without a flag cannot be given there; then only the program can make the messages.
        """
        values = {name: value for name, value in options.items() if _is_given(value)}
        flags = {option.name for option in every_option() if option.flag}
        unsaid = any(name not in flags or hasattr(value, "keys") for name, value in values.items())
        parameters = {name.replace(".", "_"): value for name, value in values.items()}
        made = cls.parsed("", {"campaign": campaign, **parameters, **more})
        return replace(made, unsaid=unsaid)

    @classmethod
    def recorded(cls, text: str) -> Self | None:
        """Read what `record` wrote; None: nothing was kept."""
        return convert(json.loads(text), cls) if text else None

    def record(self) -> str:
        """Write it for the ledger; names of files that are not UTF-8 stay what they are."""
        return json.dumps(to_builtins(self))

    def continuing(self, earlier: Invocation | None) -> Invocation:
        """Return what continues a run: this one, with what an *earlier* run was given and this cannot be.

        A command that makes messages was given everything itself. One that only reads the ledger has no
        ``--where``: without what the last run was given, `send` would write to other people.
        """
        if earlier is None or self.command in MESSAGE_COMMANDS:
            return self
        moved = earlier.folder != self.folder
        before = {name: _moved(name, earlier) if moved else values for name, values in earlier.given.items()}
        return replace(self, given={**before, **self.given}, unsaid=earlier.unsaid)

    def having(self, **given: str | int | None) -> Invocation:
        """Return the same with these options instead; without those that are None."""
        kept = {name: values for name, values in self.given.items() if name not in given}
        more = {name: (str(value),) for name, value in given.items() if value is not None}
        return replace(self, given={**kept, **more})

    def one(self, name: str) -> str | None:
        """Return the value of an option that can be given once; None: it was not."""
        return next(iter(self.given.get(name, ())), None)


_REPEATABLE: Final = tuple(
    option
    for option in every_option()
    if option.identifies
    or (option.flag and option.section == "send")
    or (option.section is None and option.key in _REPEATED_BY_SEND)
)


def _is_given(value: object) -> bool:
    """Return whether an option was given; one that may be repeated and was not given is empty."""
    return value is not None and value is not False and value not in ((), [])


def _texts(value: Any) -> tuple[str, ...]:
    if value is True:
        return ()
    return tuple(map(str, value)) if isinstance(value, list | tuple) else (str(value),)


def _moved(name: str, earlier: Invocation) -> tuple[str, ...]:
    """Return the values of an option as they are to be written in another working directory."""
    values = earlier.given[name]
    schemas = (option.type.schema for option in every_option() if option.parameter == name)
    is_path = name == "attach" or any("format" in _first(schema) for schema in schemas)
    if not is_path:
        return values
    return tuple(value if value.startswith("~") else str(Path(earlier.folder, value)) for value in values)


def _first(schema: Mapping[str, Any]) -> Mapping[str, object]:
    """Return the schema of one value."""
    one: Mapping[str, object] = schema.get("anyOf", [schema])[0]
    return one


# --- the suggestion ---------------------------------------------------------------------------------------


class Suggestion(Struct, frozen=True):
    """A command line to be pasted; or, if that is not possible, what to do in words."""

    text: str
    runs: bool = True
    """Whether it is a command line."""

    def __str__(self) -> str:
        return self.text


def login_command(account: str = "") -> str:
    """Return the command that signs in with an account; without a name: one that asks which."""
    return f"mailmerge login {word(account)}".rstrip() if account else "mailmerge login"


def suggested(invocation: Invocation, command: str, *words: str, shell: Shell | None = None) -> Suggestion:
    """Return the command for this run's campaign, rows and account, with *words* added.

    Repeated, each as it was given: the campaign's folder or file, and every option that identifies the run
    and that *command* has. ``send`` after a run also gets what shaped that run: ``--rows``, ``--limit``,
    ``--wait``, and pace (``--rate``, ``--pipeline``, ``--max-rejected``); remove rows and limit with
    `Invocation.having` if all the rest is meant. Never repeated: answers to questions in advance (``--yes``,
    ``--skip-invalid``, ``--accept-changes``, ``--accept-repeats``) and what only concerns the output.
    """
    shell = shell or users_shell()
    if invocation.unsaid and command in MESSAGE_COMMANDS:
        return Suggestion("the program that made this campaign has to be run again", runs=False)
    line = [_PROGRAM, *command.split(), *_campaign(invocation.campaign, command)]
    for option in _REPEATABLE:
        values = invocation.given.get(option.parameter)
        if values is not None:
            line += _flags(option, values, command)
    try:
        text = " ".join(quote(word, shell) for word in (*line, *words))
    except CannotQuoteError:
        text = ""
    # Two of them are the ends of a variable's name to cmd, quoted or not.
    if text and not (shell is Shell.WINDOWS and text.count("%") > 1):
        return Suggestion(text)
    extra = f" and {' '.join(words)}" if words else ""
    return Suggestion(
        f"the command {command} with the campaign and the options that you gave{extra} "
        "(one of them cannot be quoted for every shell of this system)",
        runs=False,
    )


def _campaign(given: str | None, command: str) -> list[str]:
    if given is None or (given == "." and command != "init"):  # init makes a folder of another name
        return []
    return [f"./{given}" if given.startswith("-") else given]


def _flags(option: Option, values: tuple[str, ...], command: str) -> Iterator[str]:
    """Yield the words that give *command* the option again."""
    if command in option.commands and (option.identifies or command in {"send", "drafts"}):
        if not values:
            yield option.long_flag
        for value in values:
            dashed = value.startswith("-") or not value
            yield from (f"{option.long_flag}={value}",) if dashed else (option.long_flag, value)
    elif option.section and command in MESSAGE_COMMANDS and option.identifies and option.flag:
        # `test` has a --to of its own.
        yield from ("--set", f"{option.name}={json.dumps(values, ensure_ascii=False)}")
