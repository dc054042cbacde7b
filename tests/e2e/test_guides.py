"""Tutorials, how-to pages and explanations: each block is typed as it is printed, and shows what is printed.

A ``sh`` block is run; the ``text`` block after it is what it shows, where a line ``...`` leaves lines out.
What differs from run to run (times, folders, ports) is made alike first. A ``console`` block is only shown:
it needs a provider or a database. A comment of the page tells what its reader has before:
``<!-- has: spring -->`` is the campaign of how-to/index.md, ``<!-- has: sandbox --refuse bo@example.net -->``
a server.
``UPDATE_GUIDES=1`` writes what is shown now into the pages.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from mailmerge.sandbox import FaultPlan, SandboxServer
from servers.command import Done, Mailmerge, typed
from servers.programs import unmeasured

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mailmerge.sandbox import ReceivedMessage

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [
    page
    for folder in ("tutorials", "how-to", "explanation", "zh")
    for page in sorted((DOCS / folder).glob("*.md"))
]
UPDATE = "UPDATE_GUIDES" in os.environ
HOME = "/home/me"
"""Where the reader of the pages works."""
PORT = "2525"
_QUESTION = re.compile(r"^(Type the number of messages[^:]*: )(\d+)$", re.MULTILINE)
_PART = re.compile(r"^```(sh|text)\n(.*?)^```|^<!-- has: (.*?) -->", re.DOTALL | re.MULTILINE)
_STATEMENT = re.compile(r"^[^\n]*<<'?(\w+)'?\n.*?^\1$|^(?:[^\n]*\\\n)*[^\n]+$", re.DOTALL | re.MULTILINE)
_PROGRESS = re.compile(r"^(waiting until .*|.*msg/s\].*)\n|\r", re.MULTILINE)
_ALIKE = (
    (re.compile(r"\b\d{4}-\d\d-\d\d(?=\b|T)"), "2026-11-28"),
    (re.compile(r"(?<![\d:])\d\d:\d\d(:\d\d(\.\d+)?)?(?!\d)"), "09:41"),
    (re.compile(r"\b\d+(\.\d+)? s\b|(?<=\"seconds\": )[\d.]+"), "0.5 s"),
    (re.compile(r"\b[0-9a-f]{16}\b|(?<=<)[0-9a-f]{40}(?=@)"), "1f2e3d4c"),
)

pytestmark = pytest.mark.skipif("sys.platform == 'win32'")


class Part(NamedTuple):
    """One piece of a page: ``sh``, ``text`` or ``has``, and where its text is."""

    kind: str
    text: str
    begin: int
    end: int


def parts(page: str) -> Iterator[Part]:
    """Yield what a page has for us, in order."""
    for found in _PART.finditer(page):
        group = 2 if found[1] else 3
        yield Part(found[1] or "has", found[group], *found.span(group))


def statements(block: str) -> list[str]:
    """Cut a block into what the shell takes for one command each; a document in it stays with its command."""
    return [found[0] for found in _STATEMENT.finditer(block) if not found[0].startswith("#")]


class Reader:
    """Somebody with a shell, who types what a page says."""

    def __init__(self, mailmerge: Mailmerge) -> None:
        self.mailmerge = mailmerge
        self.port = PORT
        self._shown = False
        self.server: subprocess.Popen[bytes] | SandboxServer | None = None
        programs = mailmerge.folder / "home" / "bin"
        programs.mkdir()
        for name, begin in (("mailmerge", "-P -m mailmerge"), ("python3", "")):
            (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {begin} "$@"\n', "utf-8")
            (programs / name).chmod(0o755)
        mailmerge.environ["PATH"] = f"{programs}:{mailmerge.environ['PATH']}"

    def has(self, what: str) -> None:
        """Prepare what the page takes for granted."""
        if what == "spring":
            for part in parts((DOCS / "how-to" / "index.md").read_text("utf-8")):
                self.types(part.text, None)
        elif what.startswith("sandbox"):
            self._serve(f"mailmerge {what}")
        else:
            self._has_file(*what.split(" "))

    def _has_file(self, name: str, cell: str = "", value: str = "") -> None:
        """Save a file that a page offers, or change a cell of it, as one does in a spreadsheet program."""
        file = self.mailmerge.folder / name
        if not cell:
            shutil.copyfile(next(DOCS.glob(f"*/files/{name}")), file)
            if file.suffix == ".zip":
                shutil.unpack_archive(file, file.parent)
            return
        if file.suffix == ".csv":  # as spreadsheet programs in China write it
            file.write_bytes(file.read_bytes().replace(cell.encode("gb18030"), value.encode("gb18030")))
            return
        import openpyxl

        book = openpyxl.load_workbook(file)
        book.worksheets[0][cell] = value
        book.save(file)

    def types(self, block: str, shown: str | None) -> list[Done]:
        """Type every statement of *block*; *shown* has the answers to its questions."""
        answers = iter(_QUESTION.findall(shown or ""))
        self._shown = shown is not None
        return [self._types(statement, answers) for statement in statements(block)]

    def leaves(self) -> None:
        """End the server that was started."""
        if isinstance(self.server, SandboxServer):
            self.server.stop()
        elif self.server is not None:
            self.server.terminate()
            self.server.communicate()
        self.server = None

    def alike(self, text: str) -> str:
        """Write what a run shows as a page prints it."""
        folder = str(self.mailmerge.folder)
        text = text.replace(f"{folder}/home", f"{HOME}/.config/mailmerge").replace(folder, HOME)
        text = text.replace(self.port, PORT).replace("\ufeff", "").replace("100/s", "20/m")
        return _PROGRESS.sub("", text)

    def _types(self, statement: str, answers: Iterator[tuple[str, str]]) -> Done:
        line = statement.replace("\\\n", " ").replace(PORT, self.port)
        words = shlex.split(line, comments=True) if line.startswith("mailmerge ") and "|" not in line else []
        if words[:2] == ["mailmerge", "sandbox"]:
            return self._serve(line, shown=self._shown)
        expected = re.search(r"# exit code (\d+)", line)
        self._hurry()
        if words[:2] == ["mailmerge", "send"] and not {"--yes", "--dry-run"} & {*words}:
            done = typed(self.mailmerge, words[1:], [next(answers)], columns=400)
        elif words and not UPDATE:
            done = self.mailmerge(*words[1:])
        else:
            done = self._shell(line)
        assert done.code == (int(expected[1]) if expected else 0), (statement, done)
        return done

    def _shell(self, line: str) -> Done:
        ended = subprocess.run(
            ["bash", "-c", line], cwd=self.mailmerge.folder, env=unmeasured(self.mailmerge.environ),
            check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert "Traceback" not in ended.stdout, ended.stdout
        return Done(ended.returncode, ended.stdout, "")

    def _serve(self, line: str, *, shown: bool = False) -> Done:
        """Start the server that a line starts; *shown*: the very command, which says where it listens."""
        self.leaves()
        words = shlex.split(line, comments=True)[2:]
        if shown:
            self.server = self.mailmerge.start("sandbox", *words, "--port", "0")
            assert self.server.stdout is not None
            lines = [self.server.stdout.readline().decode() for _ in range(5)]
            port = re.findall(r":(\d+)", lines[0])[0]
        else:
            self.server, lines = (
                _sandbox(self.mailmerge.folder, **dict(zip(words[::2], words[1::2], strict=True))),
                [],
            )
            port = str(self.server.port)
        for env in self.mailmerge.folder.glob("*/.env"):
            env.write_text(env.read_text("utf-8").replace(self.port, port), "utf-8")
        self.port = port
        return Done(0, "".join(lines), "")

    def _hurry(self) -> None:
        """Take away the pace that suits real servers: three seconds a message."""
        for file in self.mailmerge.folder.glob("*/campaign.toml"):
            text = file.read_text("utf-8")
            if '"20/m"' in text:
                file.write_text(text.replace('"20/m"', '"100/s"'), "utf-8")


def _sandbox(folder: Path, **options: str) -> SandboxServer:
    """Start the same server in this process, which is quicker."""
    keep = options.pop("--keep", None)
    received: list[Path] = []

    def write(message: ReceivedMessage) -> None:
        received.append(folder / str(keep) / f"{len(received) + 1:05d}-{message.rcpt_to[0]}.eml")
        received[-1].parent.mkdir(exist_ok=True)
        received[-1].write_bytes(message.content)

    faults = FaultPlan.parse(
        refused=tuple(options.pop("--refuse", "").split()),
        drop_after_data=options.pop("--drop-after-data", "0%"),
    )
    assert not options
    server = SandboxServer(faults=faults, tls="none", user=None, keep=write if keep else None)
    server.start()
    return server


def same(line: str) -> str:
    """Make alike what differs from run to run."""
    for pattern, instead in _ALIKE:
        line = pattern.sub(instead, line)
    return " ".join(line.split())


def missing(printed: Sequence[str], streams: Sequence[Sequence[str]]) -> list[str]:
    """Return what is printed but not shown, in this order, by one of the streams, or the other way round."""
    left = [[same(line) for line in stream if line.strip()] for stream in streams]
    wrong, gaps = [], [False] * len(left)
    for line in filter(str.strip, printed):
        if line == "...":
            gaps = [True] * len(left)
            continue
        for at, stream in enumerate(left):
            if same(line) in (stream if gaps[at] else stream[:1]):
                del stream[: stream.index(same(line)) + 1]
                gaps[at] = False
                break
        else:
            wrong.append(line)
    for stream, gap in zip(left, gaps, strict=True):
        wrong += [] if gap else [f"not printed: {line}" for line in stream]
    return wrong


def renewed(printed: Sequence[str], shown: Sequence[str]) -> list[str]:
    """Return what *printed* is to be now: lines that were left out stay left out."""
    as_before = {same(line): line for line in printed}
    left = [as_before.get(same(line), line) for line in shown]
    if "..." not in printed:
        return left
    result, gap = [], False
    for line in printed:
        if line == "...":
            gap = True
            continue
        scores = [difflib.SequenceMatcher(None, same(line), same(other)).ratio() for other in left]
        if not scores or max(scores) < 0.5:
            continue
        at = scores.index(max(scores))
        result += ["..."] if gap else left[:at]
        result.append(left[at])
        left, gap = left[at + 1 :], False
    return [*result, "..."] if gap else result


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_a_page_shows_what_its_commands_show(mailmerge: Mailmerge, page: Path) -> None:
    """Every block runs, and what is printed after it is what it shows."""
    text = page.read_text("utf-8")
    pieces = list(parts(text))
    reader = Reader(mailmerge)
    wrong, changes = [], []
    try:
        for part, after in zip(pieces, [*pieces[1:], None], strict=False):
            printed = after if after is not None and after.kind == "text" else None
            if part.kind == "has":
                reader.has(part.text)
            elif part.kind == "sh":
                runs = reader.types(textwrap.dedent(part.text), printed and printed.text)
                if printed is not None:
                    lines = printed.text.splitlines()
                    streams = [reader.alike("".join(texts)).splitlines() for texts in _streams(runs)]
                    if failed := missing(lines, streams):
                        wrong.append((part.text, failed))
                        shown = reader.alike("".join(run.err + run.out for run in runs))
                        changes.append((printed, renewed(lines, shown.splitlines())))
    finally:
        reader.leaves()
    if UPDATE:
        for printed, lines in reversed(changes):
            text = text[: printed.begin] + "".join(f"{line}\n" for line in lines) + text[printed.end :]
        page.write_text(text, "utf-8")
    assert not wrong or UPDATE, (page.name, wrong, "UPDATE_GUIDES=1 writes what is shown now")


def _streams(runs: Sequence[Done]) -> tuple[list[str], list[str]]:
    return [run.out for run in runs], [run.err for run in runs]


def test_what_is_no_longer_true_is_found() -> None:
    """A line that is not shown, one that is not printed, and a wrong order are faults; times are not."""
    streams = [["a", "took 3 s", "c"], ["x"]]
    assert missing(["a", "x", "took 5 s", "c"], streams) == []
    assert missing(["...", "c", "x"], streams) == []
    assert missing(["a", "took 3 s", "c"], streams) == ["not printed: x"]
    assert missing(["took 3 s", "a", "..."], streams) == ["took 3 s"]
    assert missing(["a", "...", "b"], streams) == ["b"]
    assert same('"2026-11-28T03:09:41.965463+00:00"') == same('"2026-12-01T17:00:01.5+00:00"')
