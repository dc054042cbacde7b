"""The command as its users run it: a subprocess with home, configuration and state folder of its own."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import jsonschema
import pytest

from campaigns import TO_PEOPLE, campaign_toml, write_campaign
from mailmerge.cli import ENDS_WITH, EXIT_CODES, SUMMARIES
from mailmerge.cli.json_lines import output_schema
from servers.forkserver import ForkServer, possible
from servers.mail import Received

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import IO, NoReturn

    from mailmerge.sandbox import ReceivedMessage

SAMPLES = Path(__file__).parents[2] / "samples"
CAMPAIGN = campaign_toml(top='account = "test"', message=TO_PEOPLE)
EVERYBODY = {"ana@example.com": "Hello Ana", "bo@example.net": "Hello Bo", "cy@example.org": "Hello Cy"}
"""Who gets which subject, if all goes well."""

EXIT_CODES_OF_SIGNALS = next(codes for codes in EXIT_CODES if codes.startswith("129")).split("/")

INTERRUPT = "\x03"
"""Ctrl-C, to be typed."""

# What a command needs of the surroundings; all else, SMTP_* first of all, stays outside.
_INHERITED = ("PATH", "SYSTEMROOT", "PYTHONSAFEPATH", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")

_fork_servers: list[ForkServer] = []


def fork_server() -> ForkServer | None:
    """Return one of two in turn: what one command writes, the next reads under another seed of hashes."""
    if not _fork_servers and possible():
        _fork_servers.extend(ForkServer(_surroundings()) for _ in range(2))
    _fork_servers.reverse()
    return _fork_servers[0] if _fork_servers else None


def stop_fork_servers() -> None:
    """End what `fork_server` started."""
    while _fork_servers:
        _fork_servers.pop().stop()


def _surroundings() -> dict[str, str]:
    return {name: os.environ[name] for name in _INHERITED if name in os.environ} | {"LC_ALL": "C.UTF-8"}


class Server(Protocol):
    """What the test servers have in common; `account` looks for user, password, TLS mode and authority."""

    @property
    def port(self) -> int:
        """The port it listens on."""


@cache
def _shapes() -> dict[str, jsonschema.Draft202012Validator]:
    """Return what checks each type of line; a field that is not described is a mistake here."""
    schema = output_schema()
    for part in schema["$defs"].values():
        part["additionalProperties"] = False
    names = {
        part["properties"]["type"]["enum"][0]: name
        for name, part in schema["$defs"].items()
        if "type" in part["properties"]
    }
    return {
        kind: jsonschema.Draft202012Validator({"$defs": schema["$defs"], "$ref": f"#/$defs/{name}"})
        for kind, name in names.items()
    }


def valid_line(line: dict[str, Any]) -> None:
    """Fail for a line of ``--json`` that has not the shape which is documented."""
    assert [error.message for error in _shapes()[line["type"]].iter_errors(line)] == []


@dataclass(frozen=True)
class Done:
    """What one run of the command came to; *code* is its exit code."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The JSON lines of the output, each of a shape that docs/json.md has."""
        lines = [json.loads(line) for line in self.out.splitlines()]
        for line in lines:
            valid_line(line)
        return lines

    def __repr__(self) -> str:
        return f"exit code {self.code}\n--- out\n{self.out}\n--- err\n{self.err}"


class Mailmerge:
    """Runs ``mailmerge`` in *folder*, and writes what it works on there.

    A call takes the command line; ``MAILMERGE_SMTP_PASSWORD`` and other variables are keyword arguments.
    """

    def __init__(self, folder: Path, *, patience: float = 60) -> None:
        self.folder = folder
        self.patience = patience
        """Seconds that a command may take."""
        self.config = folder / "home" / "config.toml"
        self.config.parent.mkdir(parents=True)
        self.environ = {
            **_surroundings(),
            "HOME": str(folder / "home"),
            "MAILMERGE_CONFIG": str(self.config),
            "MAILMERGE_STATE_DIR": str(folder / "home" / "state"),
            "MAILMERGE_CACHE_DIR": str(folder / "home" / "cache"),
        }

    def __call__(self, *arguments: str | Path, cwd: Path | None = None, **environ: str) -> Done:
        """Run to the end, without a terminal, in a child of a fork server where that is the same."""
        with Path(os.devnull).open("rb") as nothing:
            return self._forked(nothing, arguments, cwd or self.folder, environ)

    def fresh(self, *arguments: str | Path) -> Done:
        """Run to the end in a new process."""
        return self.finish(self.start(*arguments), self.patience)

    def piped(self, content: bytes, *arguments: str | Path) -> Done:
        """Run to the end, with this on standard input."""
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.seek(0)
            return self._forked(file, arguments, self.folder, {})

    def _forked(
        self, stdin: IO[bytes], arguments: Sequence[str | Path], cwd: Path, environ: dict[str, str]
    ) -> Done:
        server = fork_server()
        whole = {**self.environ, **environ}
        if server is None or not server.serves(whole):
            return self.finish(self.start(*arguments, cwd=cwd, stdin=stdin, **environ), self.patience)
        words = [str(argument) for argument in arguments]
        try:
            code, out, err = server.run(
                words, cwd=cwd, environ=whole, stdin=stdin.fileno(), timeout=self.patience
            )
        except subprocess.TimeoutExpired as error:
            _did_not_end(words, error.output or b"", error.stderr or b"")
        return _done(code, out, err, words)

    def start(
        self,
        *arguments: str | Path,
        cwd: Path | None = None,
        stdin: IO[bytes] | int = subprocess.DEVNULL,
        **environ: str,
    ) -> subprocess.Popen[bytes]:
        """Start the command and leave it running; `finish` has to be called."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=cwd or self.folder,
            env={**self.environ, **environ},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    @staticmethod
    def command(*arguments: str | Path) -> list[str]:
        """Return the command line."""
        return [sys.executable, "-P", "-m", "mailmerge", *map(str, arguments)]

    @staticmethod
    def finish(process: subprocess.Popen[bytes], timeout: float = 60) -> Done:
        """Wait for a started command; a traceback fails the test whatever the exit code."""
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            _did_not_end(process.args, *process.communicate())
        assert isinstance(process.args, list)
        return _done(process.returncode, out, err, process.args[4:])

    def account(self, server: Server, name: str = "test", /, **values: object) -> None:
        """Make *server* the account *name*, with TLS and sign-in as far as the server has them."""
        table: dict[str, object] = {"host": "127.0.0.1", "port": server.port, "any_from": True}
        if user := getattr(server, "user", None):
            table |= {"user": user, "tls": getattr(server, "tls", "starttls"), "ca_file": str(server.ca_file)}  # type: ignore[attr-defined]
            self.environ["MAILMERGE_SMTP_PASSWORD"] = server.password  # type: ignore[attr-defined]
        else:
            table |= {"tls": "none", "auth": "none"}
        table |= values
        lines = [f"{key} = {_toml(value)}\n" for key, value in table.items() if value is not None]
        self.config.write_text(f"[accounts.{name}]\n{''.join(lines)}", "utf-8")

    def campaign(self, folder: str = "spring", **files: str) -> Path:
        """Write a small campaign of three rows; *files* replace or add files (``people_csv="..."``)."""
        named = {name.replace("_", "."): text for name, text in files.items()}
        return write_campaign(self.folder / folder, {"campaign.toml": CAMPAIGN, **named})


def _did_not_end(command: object, out: bytes, err: bytes) -> NoReturn:
    pytest.fail(f"{command!r} did not end:\n{out.decode()}\n{err.decode()}", pytrace=False)


def _done(code: int, out: bytes, err: bytes, words: Sequence[str]) -> Done:
    done = Done(code, out.decode(), err.decode())
    assert "Traceback" not in done.err, done
    documented_end(words, done)
    return done


def documented_end(words: Sequence[str], done: Done) -> None:
    """Fail for an exit code that is not among those which help and docs/commands.md have for the command.

    *words* are the command line; one that names no command may end with each code. A negative code is a
    signal, which no program can answer.
    """
    command = next((word for word in words if word in SUMMARIES), None)
    codes = (
        "/".join(EXIT_CODES).split("/") if command is None else ["0", "1", "2", *ENDS_WITH.get(command, "")]
    )
    codes += EXIT_CODES_OF_SIGNALS
    assert done.code < 0 or str(done.code) in codes, f"{command}: not documented, {done}"


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def results(campaign: Path, name: str = "results.csv") -> list[dict[str, str]]:
    """Read a result file as a spreadsheet would: it must begin with a BOM."""
    data = (campaign / "out" / name).read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(data.decode("utf-8-sig").splitlines()))


def statuses(campaign: Path) -> list[str]:
    """Return the state of every row in results.csv, in the list's order."""
    return [result["status"] for result in results(campaign)]


def diagnostics(text: str) -> Iterator[str]:
    """Yield the first lines of the problems that were shown: ``error[D110]: ...``."""
    return (line for line in text.splitlines() if line.startswith(("error[", "warning[")))


def one_error(done: Done, code: str, *words: str) -> None:
    """Check that exactly one error was shown: its *code*, the *words* somewhere, and a hint."""
    text = done.out + done.err
    errors = [line for line in diagnostics(text) if line.startswith("error")]
    assert [line.partition("]")[0] for line in errors] == [f"error[{code}"], done
    assert "= hint: " in text, done
    missing = [word for word in words if word not in text]
    assert not missing, (missing, done)


def subjects(messages: Iterable[Received | ReceivedMessage]) -> dict[str, str]:
    """Return the subject that each (first) recipient got, in the order of arrival."""
    received = (Received(message.mail_from, message.rcpt_to, message.content) for message in messages)
    return {message.rcpt_to[0]: message.parse()["Subject"] for message in received}


def unhurried(file: Path) -> None:
    """Take away the pace that `init` writes for real servers, three seconds a message."""
    if file.exists():
        file.write_text(file.read_text("utf-8").replace('rate = "20/m"', 'rate = "100/s"'), "utf-8")


def sample(name: str, folder: Path) -> Path:
    """Copy a sample without what an earlier run may have left in it."""
    import shutil

    shutil.copytree(
        SAMPLES / name, folder / name, ignore=shutil.ignore_patterns("out", ".mailmerge", "__pycache__")
    )
    return folder / name


def typed(
    mailmerge: Mailmerge,
    arguments: Sequence[str],
    answers: Sequence[tuple[str, str]],
    *,
    columns: int = 110,
    term: str = "",
) -> Done:
    """Run the command on a terminal; when it asks the first text of a pair, type the second one.

    Its results go to a pipe, unless *term* names a kind of terminal: then they are in *err*, with all else.
    """
    import fcntl
    import pty
    import struct
    import termios

    keyboard, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 40, columns, 0, 0))

    def own_terminal() -> None:
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        mailmerge.command(*arguments),
        cwd=mailmerge.folder,
        env={**mailmerge.environ, "TERM": term or "dumb"},
        stdin=terminal,
        stdout=terminal if term else subprocess.PIPE,
        stderr=terminal,
        preexec_fn=own_terminal,  # noqa: PLW1509  a few system calls, no lock is taken
    )
    os.close(terminal)
    with process:  # which closes what it wrote to, also where the conversation went wrong
        try:
            shown = _converse(keyboard, answers)
            out, _ = process.communicate(timeout=30)
        finally:
            process.kill()
            os.close(keyboard)
    return _done(process.returncode, out or b"", shown.encode(), arguments)


def _converse(keyboard: int, answers: Sequence[tuple[str, str]]) -> str:
    import select

    waiting = list(answers)
    shown, seen = "", 0
    while select.select([keyboard], [], [], 30)[0]:
        try:
            data = os.read(keyboard, 4096)
        except OSError:  # Linux's way of saying that the other end is closed
            data = b""
        if not data:
            break
        shown += data.decode("utf-8", "replace")
        if waiting and waiting[0][0] in shown[seen:]:
            seen = len(shown)
            if waiting[0][1] == INTERRUPT:
                time.sleep(0.1)  # as a person: CPython's input() loses one that comes while it flushes
            os.write(keyboard, (waiting.pop(0)[1] + "\n").encode())
    assert not waiting, (waiting, shown)
    return shown
