"""Commands in new processes: what other tests assert of forked ones is true of these."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import faultd
from faultd import FaultServer
from servers.command import fork_server
from servers.programs import unmeasured

# In the order of a campaign's life, with what each ends with; one message gets no reply.
LIFE = {
    "init autumn": 0,
    "providers gmail": 0,
    "check spring": 0,
    "preview spring --no-open": 0,
    "preview spring --eml letters --rows 2": 0,
    "rehearse spring": 0,
    "test spring --rows 3 --to me@example.org": 0,
    "send spring --yes": 4,
    "status spring": 0,
    "report spring": 0,
    "resolve spring --resend": 0,
    "requeue spring": 0,
    "bounces spring --maildir box": 0,
    "ledger forget spring": 2,
    "purge spring --yes": 0,
    "suppress add kim@example.org": 0,
    "explain D110": 0,
    "schema": 0,
    "completion bash": 0,
}
_SECONDS = re.compile(r"\d+\.\d s")
ALIKE = [
    "--version",
    "check spring",
    "check spring --json",
    "check nowhere",
    "status --nonsense",
    "explain D110",
]


def test_every_command_finds_what_it_needs_in_a_new_process(mailmerge):
    """A whole life of a campaign, each command in a process that has imported nothing before."""
    mailmerge.campaign()
    for folder in ("cur", "new", "tmp"):
        (mailmerge.folder / "box" / folder).mkdir(parents=True)
    mailmerge.environ = unmeasured(mailmerge.environ)
    with FaultServer({"content": {3: faultd.drop}}, extensions=()) as server:
        mailmerge.account(server)
        ends = {line: mailmerge.fresh(*line.split()) for line in LIFE}
    assert {line: end.code for line, end in ends.items()} == LIFE, ends


def test_a_forked_command_ends_as_one_in_a_new_process(mailmerge):
    """The same exit code and the same words: arguments, environment and folder are its own."""
    mailmerge.campaign()
    mailmerge("check", "spring")  # the plan that the others find
    for line in ALIKE:
        forked, fresh = (
            _SECONDS.sub("0.1 s", str(run(*line.split()))) for run in (mailmerge, mailmerge.fresh)
        )
        assert forked == fresh


def test_what_the_interpreter_reads_when_it_starts_needs_a_new_process(mailmerge):
    """No command is forked where the interpreter itself would have started differently."""
    server = fork_server()
    if server is not None:
        assert server.serves(mailmerge.environ)
        for change in ({"PYTHONPATH": os.curdir}, {"LC_ALL": "C"}, {"COVERAGE_PROCESS_START": "other"}):
            assert not server.serves({**mailmerge.environ, **change})


def test_an_interrupt_while_it_starts_is_no_traceback(mailmerge, tmp_path):
    """Ctrl-C is answered in the same way before the command line has been loaded."""
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")
    code = "from mailmerge.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=mailmerge.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
