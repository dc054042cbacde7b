"""The names that programs import: which they are, and that no signature needs another one."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from typing import Any, Literal, assert_type

import pytest

import mailmerge
from mailmerge.version import program_version

NOT_FOR_PROGRAMS = {
    "ColumnsSeen": "what looks at the rows of a list while they are planned",
    "Command": "a string: the SMTP command that a rehearsal refuses",
    "Definition": "what the commands of a campaign are handed",
    "Document": "the text of a campaign file, kept for the places in messages",
    "Finding": "what a check finds before it is a Diagnostic",
    "Findings": "what a collector contains, kept in a plan",
    "Group": "findings of one code, for the terminal",
    "HeaderRow": "how a list in a file begins",
    "KeptPlan": "what finds a plan again, within one process",
    "LeftOut": "what knows the rows of a list that are not recipients",
    "Lookup": "the DNS, in tests another one",
    "Mark": "how a provider is recognised",
    "MarkedRow": "a row of a file of failed rows, with the columns of ours",
    "Options": "what the options of a list specify about its columns",
    "SheetCell": "a cell with its format, for the failed rows of a workbook",
    "Source": "a string: where an account was found; an account of a program needs none",
    "Step": "a step of the protocol, for its deadline",
    "TomlPlaces": "the places of values in a file",
    "TomlProblems": "problems of a file while it is read",
}
"""Types of ours that parts of public ones have, and that no program makes or takes apart."""
SIGNATURES = [name for name in mailmerge.__all__ if callable(getattr(mailmerge, name))]


def types_of_ours() -> set[str]:
    """Return the names of all classes and type aliases in our modules."""
    found = set()
    for module in pkgutil.walk_packages(mailmerge.__path__, "mailmerge."):
        if module.name.endswith("__main__"):
            continue
        tree = ast.parse(inspect.getsource(importlib.import_module(module.name)))
        found |= {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                found |= {name} if re.match(r"[A-Z][a-z]", name) else set()
    return found


def functions(thing: Any) -> dict[str, Any]:
    """Return the public functions, methods and properties of a public name."""
    if inspect.isfunction(thing):
        return {thing.__name__: thing}
    found: dict[str, Any] = {}
    for kind in thing.__mro__ if isinstance(thing, type) else ():
        if not kind.__module__.startswith("mailmerge"):
            continue
        for name, value in vars(kind).items():
            made = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if inspect.isfunction(made) and (not name.startswith("_") or name == "__init__"):
                found.setdefault(f"{thing.__name__}.{name}", made)
    return found


def names_in(thing: Any) -> set[str]:
    """Return all names in the annotations of a public name: of its fields, arguments and results."""
    texts = [text for made in functions(thing).values() for text in made.__annotations__.values()]
    for kind in thing.__mro__ if isinstance(thing, type) else ():
        if kind.__module__.startswith("mailmerge"):
            fields = vars(kind).get("__annotations__", {})
            texts += [text for name, text in fields.items() if not name.startswith("_")]
    trees = [ast.parse(text) for text in texts if isinstance(text, str)]
    return {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}


def test_every_public_name_can_be_imported() -> None:
    """Each name of the list is there, and nothing else is; the version is that of the distribution."""
    assert len(mailmerge.__all__) > 80
    assert sorted({*dir(mailmerge)} - {"__version__"}) == mailmerge.__all__
    assert all(getattr(mailmerge, name) is not None for name in mailmerge.__all__)
    assert mailmerge.__version__ == program_version()
    with pytest.raises(AttributeError):
        _ = mailmerge.no_such_name


def test_the_list_of_names_is_all_of_the_imports() -> None:
    """A line of the list that is written otherwise would be a name that only type checkers know."""
    tree = ast.parse(inspect.getsource(mailmerge))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    names = [alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(names) == mailmerge.__all__


def test_every_type_in_a_public_signature_is_public() -> None:
    """A program can name, in its own annotations, whatever it gives to us or gets from us."""
    ours, public = types_of_ours(), {*mailmerge.__all__}
    needed = {
        name: used
        for name in mailmerge.__all__
        if (used := (names_in(getattr(mailmerge, name)) & ours) - public - NOT_FOR_PROGRAMS.keys())
    }
    assert needed == {}
    assert not NOT_FOR_PROGRAMS.keys() & public


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_read_well(name: str) -> None:
    """No default is shown as an address in memory."""
    for made in functions(getattr(mailmerge, name)).values():
        assert " at 0x" not in str(inspect.signature(made))


def test_type_checkers_know_the_names() -> None:
    """They get the types, not Any: mypy, which reads this file, would say so."""
    assert_type(mailmerge.__version__, str)
    assert_type(mailmerge.Status.ACCEPTED, Literal[mailmerge.Status.ACCEPTED])
