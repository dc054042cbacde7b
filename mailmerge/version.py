"""Which version of the program this is, and which versions of other packages are installed."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

from mailmerge.lazy_re import lazy_re

if TYPE_CHECKING:
    from collections.abc import Collection

_DISTRIBUTION = lazy_re(r"([A-Za-z0-9._-]+?)-([^-]+)\.dist-info\Z")


def program_version() -> str:
    """Return the version of the installed distribution, or one for a run from its sources."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("mailmerge-kit")
    except PackageNotFoundError:
        return "0+sources"


def installed_versions(names: Collection[str]) -> dict[str, str]:
    """Return the versions of those of these distributions that are installed, by their names in lower case.

    They are read from the names of folders, as pip writes them: importlib.metadata reads every package's
    files, and its import alone takes longer than everything else in a command that finds nothing changed.
    """
    found: dict[str, str] = {}
    for place in sys.path:
        try:
            entries = os.listdir(place or ".")  # noqa: PTH208
        except OSError:  # an archive, or missing
            continue
        for entry in entries:
            if entry.endswith(".dist-info") and (match := _DISTRIBUTION.match(entry)):
                name = re.sub(r"[-_.]+", "-", match[1]).lower()
                if name in names:
                    found.setdefault(name, match[2])  # the first place wins, as in an import
    return {name: found[name] for name in names if name in found}


def sources_version() -> str:
    """Return what identifies the sources that this program runs from until the next edit."""
    newest, folders = 0, [os.path.dirname(__file__)]  # noqa: PTH120
    while folders:
        with os.scandir(folders.pop()) as found:
            for entry in found:
                if entry.name.endswith(".py"):
                    newest = max(newest, entry.stat().st_mtime_ns)
                elif entry.is_dir() and entry.name != "__pycache__":
                    folders.append(entry.path)
    return f"0+sources.{newest:x}"
