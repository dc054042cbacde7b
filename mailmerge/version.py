"""Which version of the program this is."""

from __future__ import annotations


def program_version() -> str:
    """Give the version of the installed distribution, or one that says that it runs from its sources."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("mailmerge-kit")
    except PackageNotFoundError:
        return "0+sources"
