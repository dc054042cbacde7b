"""The optional parts of the program: ``pip install "mailmerge-kit[NAME]"``.

Code that needs one calls `require` before the first row is planned, so that a missing package is a problem
that ``check`` shows, never a failure in the middle of a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from mailmerge.errors import CampaignFileError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailmerge.model import Place


class Extra(NamedTuple):
    """An extra of the distribution, as pyproject.toml declares it."""

    modules: tuple[str, ...]
    """What is imported from it."""
    distributions: Mapping[str, str]
    """Those whose version decides what a message contains, in lower case, each with its name in messages."""


EXTRAS: Final[Mapping[str, Extra]] = {
    "calendar": Extra(("icalendar",), {"icalendar": "icalendar"}),
    "dkim": Extra(("cryptography",), {}),
    "fleet": Extra(("psycopg", "procrastinate"), {}),
    "guard": Extra(("pypdfium2",), {"pypdfium2": "pypdfium2"}),
    "mjml": Extra(("mjml",), {"mjml-python": "mjml-python"}),
    "pdf": Extra(
        ("weasyprint", "pypdf", "cryptography"),
        {"weasyprint": "WeasyPrint", "pypdf": "pypdf"},
    ),
    "qr": Extra(("segno",), {"segno": "segno"}),
    "typst": Extra(("typst", "pypdf", "cryptography"), {"typst": "Typst", "pypdf": "pypdf"}),
}
"""By name. Those that are only for mailboxes, keyrings and old lists report a missing package themselves."""


def install_command(name: str) -> str:
    """Return the commands that install the extra *name*, for a hint."""
    return f'uv tool install "mailmerge-kit[{name}]", or pip install "mailmerge-kit[{name}]"'


def require(name: str, what: str, *, place: Place | None = None) -> None:
    """Make sure that the extra *name* is installed.

    Args:
        name: one of `EXTRAS`.
        what: what needs it, as the subject of a sentence in the plural: ``"MJML templates"``.
        place: where the campaign asks for it.

    Raises:
        CampaignFileError: it is not installed; the hint has the command.

    """
    from importlib.util import find_spec

    missing = [module for module in EXTRAS[name].modules if find_spec(module) is None]
    if missing:
        raise CampaignFileError(
            f"{what} need an optional part of mailmerge that is not installed: {', '.join(missing)}",
            code="X902",
            hint=f"install it: {install_command(name)}",
            place=place,
        )
