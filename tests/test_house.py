"""The rules of the house that no linter knows."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mailmerge
from servers.programs import unmeasured

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "mailmerge").rglob("*.py"))
HEAVY = {
    "aiosmtpd",
    "asyncio",
    "babel",
    "email_validator",
    "keyring",
    "openpyxl",
    "pandas",
    "tqdm",
    "wcwidth",
}
HEAVY |= {"dns", "lxml", "tinycss2"}
LATER = {
    "difflib",
    "html",
    "mailmerge.attachment_guard",
    "mailmerge.bounces",
    "mailmerge.check.html_document",
    "mailmerge.check.rules.body",
    "mailmerge.cli.report_view",
    "mailmerge.config.secret_store",
    "mailmerge.convert",
    "mailmerge.designs.editors",
    "mailmerge.documents",
    "mailmerge.fleet",
    "mailmerge.ledger.copies",
    "mailmerge.mail_folders",
    "mailmerge.message.dkim",
    "mailmerge.postgres",
    "mailmerge.preview",
    "mailmerge.report",
    "mailmerge.sandbox",
    "mailmerge.sign_in",
    "mailmerge.smtp",
    "mailmerge.values.number_format",
    "smtplib",
    "ssl",
    "subprocess",
    "zoneinfo",
}
"""What a campaign of a few plain rows needs after its first message is rendered, or never."""
UNTIL_RENDERED = """\
import os, sys
from mailmerge.cli import run
from mailmerge.render import Renderer
def render_and_end(*_):
    print(*sys.modules, flush=True)
    os._exit(0)
Renderer.render = render_and_end
run(["send", "spring", "--yes", "--quiet"])
"""
MODULES_UNTIL_RENDERED = 138

MODULES_OF_A_ROW = 23

needs_checkout = pytest.mark.skipif(not MODULES, reason="needs the source tree")


@pytest.mark.skipif("MAILMERGE_TEST_WHEEL" not in os.environ, reason="only where a wheel was installed")
def test_the_wheel_is_what_is_tested():
    """``make test`` meets the installed wheel, never the checkout."""
    assert "site-packages" in Path(mailmerge.__file__).parts


def test_import_is_light():
    """Importing the package loads nothing that only some commands need."""
    code = f"import mailmerge, sys; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ""


def test_a_first_message_is_rendered_before_what_comes_later_is_imported(mailmerge, sandbox):
    """Nothing that only other campaigns need, or only sending, delays the first message."""
    mailmerge.campaign()
    mailmerge.account(sandbox)
    done = subprocess.run(
        [sys.executable, "-c", UNTIL_RENDERED],
        cwd=mailmerge.folder,
        env=unmeasured(mailmerge.environ),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = done.stdout.split()
    early = [name for name in loaded for later in HEAVY | LATER if f"{name}.".startswith(f"{later}.")]
    ours = [name for name in loaded if name.partition(".")[0] == "mailmerge"]

    assert loaded, done.stderr
    assert early == []
    assert len(ours) <= MODULES_UNTIL_RENDERED, "\n".join(ours)


@needs_checkout
def test_no_file_is_long():
    """No module has more than 600 lines."""
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in MODULES}

    assert {name: length for name, length in lengths.items() if length > 600} == {}


@needs_checkout
def test_no_function_is_long():
    """No function has more than 60 lines, its docstring included."""
    long = {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                length = node.end_lineno - node.lineno + 1
                if length > 60:
                    long[f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"] = length

    assert long == {}


@needs_checkout
def test_nothing_names_the_machine_it_was_made_on():
    """No file that is under version control mentions a home directory or a working directory."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    pattern = re.compile(rb"/(?:root|work)/|/home/(?!user\b|me\b|you\b)\w+/")
    files = [ROOT / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
    found = [
        str(path.relative_to(ROOT))
        for path in files
        if path.is_file() and path != Path(__file__) and pattern.search(path.read_bytes())
    ]

    assert found == []


@needs_checkout
def test_one_row_goes_a_short_way(mailmerge, sandbox):
    """From the list to its recorded outcome a row comes through few modules; if not, its way is shown."""
    from mailmerge import Campaign, SendRequest
    from mailmerge.campaign.connect import connection_factory, find_account
    from mailmerge.campaign.opening import Access, open_run
    from mailmerge.campaign.run import Run
    from mailmerge.clock import SystemClock
    from mailmerge.sending.runs import NeverStop
    from one_row import Trail

    mailmerge.account(sandbox)
    people = "".join(f"p{number}@example.org,P{number}\n" for number in range(2, 10))
    folder = mailmerge.campaign(people_csv="email,name\n" + people)
    definition = Campaign.load(folder, environ=mailmerge.environ).definition
    account = find_account(definition)
    trail = Trail(row=6)

    with open_run(definition, Access.SEND) as opened:
        run = Run(
            opened, SendRequest(), account, clock=SystemClock(), stop=NeverStop(), observe=lambda _: None
        )
        with trail.followed():
            end = run.execute(run.plan(), connection_factory(account, definition.environment))

    assert end.counts.total == 8
    assert len(trail.modules) <= MODULES_OF_A_ROW, (
        f"{len(trail.modules)} modules, {trail.hops} hops:\n{trail}"
    )


@needs_checkout
def test_no_module_imports_itself_by_way_of_others():
    """The import graph has no cycle, with imports inside functions and for type checkers counted in."""
    graph = {name: _imported_by(name, path) for name, path in _names().items()}

    assert _cycles(graph) == []


def _names():
    """Return every module of ours by its dotted name."""
    named = {}
    for path in MODULES:
        parts = path.relative_to(ROOT).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def _imported_by(name, path):
    """Return the modules of ours that the module *name* imports, wherever in it the import is."""
    known, found = _names(), set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {one if one in known else str(node.module) for one in inside}
    return (found & known.keys()) - {name}


def _cycles(graph):
    """Return the sets of modules that reach each other."""
    reached = {name: _reach(graph, name) for name in graph}
    found = []
    for name, others in reached.items():
        together = {other for other in others if name in reached[other]}
        if together and together not in found:
            found.append(together)
    return found


def _reach(graph, start):
    """Return everything that can be got to from *start*."""
    seen, todo = set(), [*graph[start]]
    while todo:
        if (name := todo.pop()) not in seen:
            seen.add(name)
            todo += graph[name]
    return seen


@needs_checkout
def test_a_class_name_means_one_thing():
    """No two modules define a class of the same name, whether it is private or not."""
    homes: dict[str, set[str]] = {}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name.lstrip("_"), set()).add(path.relative_to(ROOT).as_posix())

    assert {name: sorted(paths) for name, paths in homes.items() if len(paths) > 1} == {}


@needs_checkout
def test_text_is_put_into_columns_in_one_place():
    """Text of people is as wide as a terminal shows it: `text.padded` knows that, formats and len do not.

    A format may fill up numbers, which it marks: ``,`` between thousands, ``0`` before them, ``f`` or ``g``.
    """
    allowed = {"mailmerge/values", "mailmerge/message", "mailmerge/recipients/opendocument_styles.py"}
    found = []
    for path in MODULES:
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(tuple(allowed)):  # they write numbers and dates of spreadsheets, not columns
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in {"ljust", "rjust", "center", "expandtabs"}:
                found.append(f"{name}:{node.lineno} .{node.attr}")
            elif isinstance(node, ast.Import | ast.ImportFrom) and "textwrap" in ast.unparse(node):
                found.append(f"{name}:{node.lineno} textwrap")
            elif isinstance(node, ast.FormattedValue) and node.format_spec:
                spec = ast.unparse(node.format_spec)[2:-1]
                if re.search(r"[<>^]|\d|\{", spec) and not re.search(r"^0|,|[fgdx]$|%", spec):
                    found.append(f"{name}:{node.lineno} :{spec}")

    assert found == []
