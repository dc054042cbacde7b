"""Regular expressions that are compiled when they are first used."""

from __future__ import annotations

import copy
import re

import pytest

from mailmerge.lazy_re import lazy_re


def test_it_does_what_the_compiled_one_does():
    """Methods, text and flags are those of the pattern, and are looked up once."""
    lazy, compiled = lazy_re("(a)|b", re.IGNORECASE), re.compile("(a)|b", re.IGNORECASE)

    assert lazy.findall("AxB") == compiled.findall("AxB") == ["A", ""]
    assert lazy.sub("-", "abc") == "--c"
    assert (lazy.pattern, lazy.flags, lazy.groups) == (compiled.pattern, compiled.flags, compiled.groups)
    assert lazy.search is lazy.search
    assert copy.copy(lazy).fullmatch("a")


def test_it_is_compiled_at_the_first_use():
    """Making one costs nothing; what is wrong with it is an error only then."""
    wrong = lazy_re("(")

    with pytest.raises(re.error, match="missing \\)"):
        wrong.search("")
    with pytest.raises(AttributeError):
        lazy_re("a").no_such_method  # type: ignore[attr-defined]  # noqa: B018
