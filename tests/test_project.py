"""What surrounds the code: declared dependencies, the changelog, the workflows."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "mailmerge").rglob("*.py"))
IMPORTED_AS = {"dnspython": "dns", "python-dotenv": "dotenv"}  # where it is not the name of the distribution

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
    declared = {_module(line) for line in [*document["project"]["dependencies"], *groups]}
    ours = {"mailmerge"} | {path.stem for path in (ROOT / "tests").glob("*")}

    imported = {name for path in (ROOT / "tests").rglob("*.py") for name in _imports(path)}

    assert imported - declared - ours == set()


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
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        else:
            continue
        yield from {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"mailmerge"}
