"""What surrounds the code: declared dependencies, the changelog, the workflows."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from servers.programs import unmeasured
from soak.mutants import CHOSEN

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "mailmerge").rglob("*.py"))
IMPORTED_AS = {
    "dkimpy": "dkim",
    "dnspython": "dns",
    "linkify-it-py": "linkify_it",
    "markdown-it-py": "markdown_it",
    "mjml-python": "mjml",
    "pillow": "PIL",
    "python-dotenv": "dotenv",
}
"""Modules that are not called as their distributions are."""

pytestmark = pytest.mark.skipif(not MODULES, reason="needs the source tree")


def test_declared_dependencies_are_exactly_the_imported_ones():
    """What the package imports is declared, in an extra if it may be missing, and nothing else is."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    required = {_module(line) for line in project["dependencies"]}
    extras = {
        _module(line)
        for lines in project["optional-dependencies"].values()
        for line in lines
        if not line.startswith(project["name"])
    }

    imported = {name for path in MODULES for name in _imports(path)}

    assert imported == required | extras
    assert extras & {name for path in MODULES for name in _imports(path, nested=False)} == set()


def test_every_dependency_has_a_lower_bound():
    """An unbounded requirement could meet a version that was never tried."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = project["dependencies"] + project["optional-dependencies"]["keyring"]

    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+>=[0-9.]+", line)] == []


def test_what_tests_import_is_in_a_dependency_group():
    """``pip install --group tests .`` is all that a test needs."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    groups = [line for name in ("tests", "soak") for line in _group(document["dependency-groups"], name)]
    extras = [
        line
        for extra in document["project"]["optional-dependencies"].values()
        for line in extra
        if not line.startswith(document["project"]["name"])
    ]
    declared = {_module(line) for line in [*document["project"]["dependencies"], *extras, *groups]}
    ours = {"mailmerge"} | {path.stem for path in (ROOT / "tests").glob("*")}

    imported = {name for path in (ROOT / "tests").rglob("*.py") for name in _imports(path)}

    assert imported - declared - ours == set()


CHANGES = """# Changelog

## Unreleased
{unreleased}
## 1.2.0 - {date}

### Security

- A hole.

### Fixed

- A fault.

## 1.1.0 - 2026-01-02
"""


def release_notes(folder, tag, *, date="2026-02-03", unreleased="", changes=CHANGES):
    """Run scripts/release-notes beside a changelog of its own."""
    (folder / "scripts").mkdir()
    script = shutil.copy(ROOT / "scripts" / "release-notes", folder / "scripts")
    (folder / "pyproject.toml").write_text('[project]\nversion = "1.2.0"\n')
    (folder / "CHANGELOG.md").write_text(changes.format(date=date, unreleased=unreleased))
    return subprocess.run([sys.executable, script, tag], capture_output=True, text=True, check=False)


def test_release_notes_are_the_section_of_the_version(tmp_path):
    """A tag whose version is stated and dated prints what changed in it."""
    done = release_notes(tmp_path, "v1.2.0")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "### Security\n\n- A hole.\n\n### Fixed\n\n- A fault.\n"


@pytest.mark.parametrize(
    ("tag", "options", "said"),
    [
        ("v1.3.0", {}, "pyproject.toml has version 1.2.0, not 1.3.0"),
        ("v1.2.0", {"date": "not yet released"}, "needs a section `## 1.2.0 - YYYY-MM-DD`"),
        ("v1.2.0", {"unreleased": "\n### Added\n\n- More.\n"}, "changes under Unreleased"),
        ("v1.2.0", {"changes": CHANGES.replace("Security", "Other")}, "the order is Security, Removed"),
        ("v1.2.0", {"changes": CHANGES.replace("Security", "Fixed", 1)}, "the order is Security, Removed"),
        ("v1.2.0", {"changes": "## 1.2.0, today\n"}, "`## 1.2.0, today` is neither"),
    ],
)
def test_a_release_that_is_not_ready_is_refused(tmp_path, tag, options, said):
    """Nothing is released under a wrong version, without a date or with a changelog out of order."""
    done = release_notes(tmp_path, tag, **options)

    assert done.returncode == 1
    assert said in done.stderr
    assert done.stdout == ""


def test_the_changelog_could_be_released(tmp_path):
    """What is under Unreleased, or else the stated version's section, becomes the notes of a release."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    text = (ROOT / "CHANGELOG.md").read_text("utf-8").replace("{", "{{").replace("}", "}}")
    waits = re.search(r"^## Unreleased\n\s*(?!## )\S", text, re.MULTILINE)
    old = r"^## Unreleased$" if waits else rf"^## {re.escape(version)} - \S+$"
    dated, count = re.subn(old, "## 1.2.0 - 2026-02-03", text, flags=re.MULTILINE)
    (tmp_path / "dated").mkdir()

    notes = release_notes(tmp_path / "dated", "v1.2.0", changes=dated)

    assert (count, notes.returncode, notes.stderr) == (1, 0, "")
    assert "\n- " in notes.stdout


def test_every_action_is_pinned_and_every_job_is_limited():
    """A workflow runs exactly the code that was read, with the rights it needs and for a limited time."""
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        text = path.read_text("utf-8")
        uses = re.findall(r"uses: (.*)", text)
        jobs = re.findall(r"^  (\w+):\n    name:", text, re.MULTILINE)
        assert [line for line in uses if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}  # v[\d.]+", line)] == []
        assert re.search(r"^permissions: \{\}$", text, re.MULTILINE), path.name
        assert len(re.findall(r"^    timeout-minutes:", text, re.MULTILINE)) == len(jobs) > 0


PAGES = [path for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md") for path in ROOT.glob(pattern)]


@pytest.mark.parametrize("page", PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def test_links_between_pages_lead_somewhere(page):
    """The file that a link names is there, and has the heading that the link names."""
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", page.read_text("utf-8")):
        name, _, heading = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        assert not heading or heading in _headings(path), target


def test_index_pages_describe_what_they_list():
    """Whoever opens docs/ finds all of it, each page with a title and what it is about."""
    docs = ROOT / "docs"
    listed = []
    for index in docs.rglob("index.md"):
        items = re.findall(r"^- (.*)$", index.read_text("utf-8"), re.MULTILINE)
        found = [re.fullmatch(r"\[[^\]]+\]\(([\w./-]+\.md)\): [`\w].*", item) for item in items]
        assert [item for item, match in zip(items, found, strict=True) if not match] == [], index
        listed += [(index.parent / match[1]).resolve() for match in found if match]
    assert sorted([*listed, docs / "index.md"]) == sorted(docs.rglob("*.md"))


def _headings(path):
    """Return the names that GitHub gives the headings of a page."""
    lines = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def test_the_modules_that_are_mutated_and_their_tests_exist():
    """A module that is renamed takes its line in tests/soak/mutants.py with it."""
    modules = {ROOT / "mailmerge" / name for name in CHOSEN}
    tests = {ROOT / "tests" / name for names in CHOSEN.values() for name in names}

    assert {path for path in modules | tests if not path.is_file()} == set()


def test_one_address_of_the_project():
    """All links to the project's own pages lead to the repository that pyproject.toml names."""
    home = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Source"]
    name = home.rpartition("/")[2]
    files = [ROOT / "pyproject.toml", *ROOT.glob("*.md"), *(ROOT / ".github").rglob("*.yml")]

    links = {
        link
        for path in files
        for link in re.findall(r"https://github\.com/[\w./-]+", path.read_text("utf-8"))
    }

    assert {link for link in links if f"/{name}" in link and not link.startswith(home)} == set()


def _module(requirement):
    name = re.split(r"[^a-z0-9-]", requirement, maxsplit=1)[0]
    return IMPORTED_AS.get(name, name.replace("-", "_"))


def _group(groups, name):
    for entry in groups[name]:
        if isinstance(entry, str):
            yield entry
        else:
            yield from _group(groups, entry["include-group"])


def _imports(path, *, nested=True):
    """Name the top-level packages of others that a file imports, *nested*: inside functions as well."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree) if nested else tree.body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        else:
            continue
        yield from {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"mailmerge"}


MEASURED = "import sys\n\nif len(sys.argv) > 1:\n    print(1)\nelse:\n    print(2)\n"


def torn_whole(path):
    """Cut off early: not even the list of tables is there."""
    path.write_bytes(path.read_bytes()[:5000])


def torn_inside(path):
    """Opens like any other, but the pages of its tables are gone."""
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))


@pytest.mark.parametrize("tear", [torn_whole, torn_inside])
@pytest.mark.parametrize(("floor", "code"), [("66", 0), ("67", 2), ("67 NO_FLOOR", 0)])
def test_a_torn_measurement_costs_only_itself(tmp_path, tear, floor, code):
    """It is named and left out, all others count, and the floor still decides."""
    settings = f"[run]\nbranch = true\nparallel = true\n[report]\nfail_under = {floor[:2]}\n"
    (tmp_path / ".coveragerc").write_text(settings)
    (tmp_path / "measured.py").write_text(MEASURED)
    environ = {**unmeasured(), "COVERAGE_FILE": str(tmp_path / "coverage" / "data")}
    (tmp_path / "coverage").mkdir()

    def run(*arguments):
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)

    run("-m", "coverage", "run", "measured.py", "with an argument")
    (other,) = (tmp_path / "coverage").glob("data.*")
    run("-m", "coverage", "run", "measured.py")
    (torn,) = set((tmp_path / "coverage").glob("data.*")) - {other}
    tear(torn)
    done = run(ROOT / "scripts" / "coverage-total", "coverage", *floor.split()[1:])

    assert (done.returncode, done.stdout.splitlines()[0]) == (
        code,
        "coverage, branches included: 66.6 % (coverage/report.txt)",
    ), done
    assert done.stderr.startswith(f"coverage: {torn.name} is left out: ")
    assert ("below the floor" in done.stderr) == bool(code)


@pytest.mark.skipif(not MODULES or shutil.which("make") is None, reason="needs the source tree and make")
def test_every_part_of_the_benchmarks_can_be_imported():
    """Their modules, and those of the tests that some of them use, are found whatever others have added."""
    environ = {name: text for name, text in unmeasured().items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks", "--help"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "throttle, run, memory" in " ".join(done.stdout.split())


def test_make_demo_says_what_it_does():
    """Before pip is silent for a while, and before the rehearsal begins; what is said is what is run."""
    plan = subprocess.run(
        ["make", "-n", "-B", "demo"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    made, told, install, _, rehearsing, run, after = plan
    assert "-m venv .venv" in made
    assert "250 MB" in told
    assert install.endswith("--editable .")
    assert "mailmerge rehearse samples/newsletter" in rehearsing
    assert run == ".venv/bin/mailmerge rehearse samples/newsletter"
    assert "The command is .venv/bin/mailmerge" in after
