"""What a start imports: never what only some runs need. Seconds are left to the benchmarks."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from campaigns import TO_PEOPLE, write_campaign
from servers.programs import unmeasured

HEAVY = {"asyncio", "babel", "email.message", "numpy", "openpyxl", "pandas", "pydantic", "tqdm"}
ACCOUNT = '[accounts.test]\nhost = "127.0.0.1"\nport = 9\ntls = "none"\nauth = "none"\nany_from = true\n'
UNTIL_RENDERED = """\
import json, os, sys
from mailmerge.cli import run
from mailmerge.render import Renderer
rendered = Renderer.render
def stop(*arguments):
    rendered(*arguments)
    print(json.dumps(sorted(sys.modules)), flush=True)
    os._exit(0)
Renderer.render = stop
run(["send", "--yes", "--quiet"])
"""
HELP = """\
import json, sys
from mailmerge.cli import run
sys.stdout.write = lambda text: len(text)
run(["--help"])
del sys.stdout.write
print(json.dumps(sorted(sys.modules)))
"""


@pytest.fixture
def modules(tmp_path):
    """Run a script in a folder with a campaign; return the names of all modules it had imported.

    Coverage is kept out of it: it would import modules of its own.
    """
    files = {"config.toml": ACCOUNT, "body.html": '<html lang="en"><p>Hello {{ name }}</p></html>\n'}
    write_campaign(tmp_path, files, rows=["kim@example.org,Kim"], top='account = "test"', message=TO_PEOPLE)

    def run(script, **environ):
        own = {
            "MAILMERGE_CONFIG": str(tmp_path / "config.toml"),
            "MAILMERGE_STATE_DIR": str(tmp_path / "state"),
            "MAILMERGE_CACHE_DIR": str(tmp_path / "cache"),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            env={**unmeasured(), **own, **environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert not done.returncode, done.stderr
        return set(json.loads(done.stdout.splitlines()[-1]))

    return run


def test_help_imports_the_command_line_and_nothing_else(modules):
    """Asking for help touches no list, template, message, connection or ledger."""
    loaded = modules(HELP)
    assert not loaded & {*HEAVY, "jinja2", "sqlite3", "ssl", "csv"}
    assert {name for name in loaded if name.startswith("mailmerge.")} == {"mailmerge.cli"}


def test_send_renders_its_first_message_without_heavy_imports(modules):
    """From the command to the first rendered row of a CSV list, nothing is imported that it does not need."""
    loaded = modules(UNTIL_RENDERED)
    assert "mailmerge.render.renderer" in loaded
    assert not loaded & HEAVY


def test_library_names_cost_nothing_until_they_are_used(modules):
    """``import mailmerge`` alone loads none of our rooms."""
    loaded = modules("import json, sys, mailmerge\nprint(json.dumps(sorted(sys.modules)))")
    assert not {name for name in loaded if name.startswith("mailmerge.")}
