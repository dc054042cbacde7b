"""Optional parts of the program: what is said where one is missing."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from mailmerge.errors import CampaignFileError
from mailmerge.extras import EXTRAS, require

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


@pytest.mark.parametrize("name", EXTRAS)
def test_missing_extra_names_its_install_command(name, monkeypatch):
    """Where a package of an extra is not installed, the error says which and how to install it."""
    monkeypatch.setattr(sys, "path", [])
    for module in EXTRAS[name].modules:
        monkeypatch.delitem(sys.modules, module, raising=False)

    with pytest.raises(CampaignFileError) as caught:
        require(name, "some templates")

    assert (caught.value.code, caught.value.exit_code) == ("X902", 2)
    assert EXTRAS[name].modules[0] in caught.value.message
    assert f'uv tool install "mailmerge-kit[{name}]"' in str(caught.value.hint)


@pytest.mark.parametrize("name", EXTRAS)
def test_every_extra_is_declared(name):
    """Each extra that we tell people to install is in pyproject.toml, with its distributions."""
    declared = tomllib.loads(PROJECT.read_text("utf-8"))["project"]["optional-dependencies"]

    lines = " ".join(declared[name])

    assert [distribution for distribution in EXTRAS[name].distributions if distribution not in lines] == []
