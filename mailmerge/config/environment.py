"""The environment and the ``.env`` file next to a campaign, read once and kept apart.

Where a value came from matters: a server named by a ``.env`` file that came with somebody's campaign must
never be given a secret from the user's own environment.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from mailmerge.errors import CampaignFileError
from mailmerge.folders import read_plain
from mailmerge.masking import Unsent
from mailmerge.model import Diagnostic, Place, Severity
from mailmerge.options import ACCOUNT, CACHE_FOLDER, CONFIG_FILE, SECRET, STATE_FOLDER
from mailmerge.suggest import word

if TYPE_CHECKING:
    from pathlib import Path

    from dotenv.parser import Binding

_PREFIXES: Final = ("MAILMERGE_", "SMTP_")
_NEVER_FROM_FILE: Final = frozenset(
    (*CONFIG_FILE.environment, *STATE_FOLDER.environment, *CACHE_FOLDER.environment)
)
"""A campaign's folder may come from anybody: it does not choose where the user's own files are."""
_SIGNS_IN: Final = frozenset(
    variable for option in (*ACCOUNT.values(), SECRET) for variable in option.environment
)
"""The other variables of ``.env`` that are used."""
_MOST_OF_A_FILE = 1_000_000


class Environment(Mapping[str, str]):
    """Our variables (``MAILMERGE_*``, ``SMTP_*``) that are set and not empty; the real ones win.

    Its representation never shows a value.
    """

    __slots__ = ("_refused", "file", "path", "real", "secrets", "warnings")

    def __init__(
        self,
        real: Mapping[str, str],
        file: Mapping[str, str] | None = None,
        path: Path | None = None,
        warnings: tuple[Diagnostic, ...] = (),
    ) -> None:
        self.real: Mapping[str, str] = _ours(real)
        found = _ours(file or {})
        self._refused = found.keys() & _NEVER_FROM_FILE
        self.file: Mapping[str, str] = {
            name: value for name, value in found.items() if name not in _NEVER_FROM_FILE
        }
        self.path = path
        self.warnings = warnings
        self.secrets = tuple(_secrets(self.real, self.file))
        """The secrets in it: while this object exists, no message is sent that contains one of them."""

    @property
    def not_used(self) -> tuple[str, ...]:
        """What ``.env`` sets that only the real environment may set: it is ignored."""
        return tuple(sorted(self._refused | (self.file.keys() - _SIGNS_IN - _MEANT.keys())))

    @classmethod
    def read(cls, folder: Path | None, environ: Mapping[str, str] | None = None) -> Environment:
        """Read the environment and, if it exists, ``.env`` in *folder*.

        Raises:
            CampaignFileError: the file cannot be read, is not UTF-8, or is a pipe or a device.

        """
        real = os.environ if environ is None else environ
        path = folder / ".env" if folder else None
        if path is None or not path.exists() or path.is_dir():  # a folder: a virtual environment
            return cls(real)
        file, warnings = _read_file(path)
        return cls(real, file, path, warnings)

    def __getitem__(self, name: str) -> str:
        return self.real[name] if name in self.real else self.file[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self.file, **self.real})

    def __len__(self) -> int:
        return len({**self.file, **self.real})

    def __repr__(self) -> str:
        return f"<Environment of {', '.join(sorted(self)) or 'nothing'}>"


def _secrets(*places: Mapping[str, str]) -> Iterator[Unsent]:
    return (Unsent(values[name]) for values in places for name in SECRET.environment if name in values)


def _ours(values: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if name.startswith(_PREFIXES) and value.strip()}


def _read_file(path: Path) -> tuple[dict[str, str], tuple[Diagnostic, ...]]:
    try:
        text = read_plain(path, _MOST_OF_A_FILE).decode("utf-8-sig")
        mode = path.stat().st_mode
    except UnicodeDecodeError:
        raise CampaignFileError(
            f"{path} is not UTF-8", code="C403", hint="save it as UTF-8", place=Place(str(path))
        ) from None
    except OSError as error:
        raise CampaignFileError(f"cannot read {path}: {error.strerror}", code="C407") from None
    # Passwords contain dollar signs: nothing in them is a reference to another variable.
    bindings = _bindings(text)
    values = {binding.key: binding.value for binding in bindings if binding.key is not None}
    found = {name: value for name, value in values.items() if value is not None}
    warnings = [*_unreadable(bindings, path), *_misnamed(values, path)]
    if (
        os.name == "posix"
        and mode & (stat.S_IRWXG | stat.S_IRWXO)
        and any(map(found.get, SECRET.environment))
    ):
        warning = Diagnostic(
            code="C413",
            message=f"other users of this machine can read the secret in {path}",
            hint=f"chmod 600 {word(str(path))}",
            severity=Severity.WARNING,
            place=Place(str(path)),
        )
        warnings.append(warning)
    return found, tuple(warnings)


_MEANT: Mapping[str, str] = {
    **dict.fromkeys(("SMTP_HOST", "SMTP_HOSTNAME", "MAIL_HOST", "EMAIL_HOST"), "SMTP_SERVER"),
    **dict.fromkeys(("SMTP_PASSWORD", "SMTP_PASS", "SMTP_PWD", "MAIL_PASSWORD"), "SMTP_AUTH"),
    **dict.fromkeys(("EMAIL_HOST_PASSWORD", "SMTP_SECRET", "SMTP_TOKEN"), "SMTP_AUTH"),
    **dict.fromkeys(("SMTP_USERNAME", "SMTP_LOGIN", "MAIL_USERNAME", "EMAIL_HOST_USER"), "SMTP_USER"),
    **dict.fromkeys(("MAIL_PORT", "EMAIL_PORT"), "SMTP_PORT"),
    **dict.fromkeys(("MAIL_FROM", "SMTP_SENDER", "EMAIL_FROM", "DEFAULT_FROM_EMAIL"), "SMTP_FROM"),
}
"""Names that other programs use, and our names for the same."""


def meant(name: str) -> str | None:
    """Return which variable of ours is meant by one that other programs read; None: none is."""
    return _MEANT.get(name)


def _misnamed(values: Mapping[str, str | None], path: Path) -> Iterator[Diagnostic]:
    for name in values:
        ours = _MEANT.get(name)
        if ours and ours not in values:
            yield Diagnostic(
                code="C414",
                message=f"{name} in {path} is not read",
                hint=f"write {ours} instead",
                severity=Severity.WARNING,
                place=Place(str(path)),
            )


def _bindings(text: str) -> list[Binding]:
    """Read the lines; the package's own reader would also log to a program without logging."""
    import io

    from dotenv.parser import parse_stream

    return list(parse_stream(io.StringIO(text)))


def _unreadable(bindings: Iterable[Binding], path: Path) -> Iterator[Diagnostic]:
    for binding in bindings:
        if binding.error or (binding.key is not None and binding.value is None):
            yield Diagnostic(
                code="C416",
                message=f"line {binding.original.line} of {path} is not read",
                hint='write NAME=value, a value with spaces or # in quotes: NAME="a b"',
                severity=Severity.WARNING,
                place=Place(str(path), line=binding.original.line),
            )


def child_environment() -> dict[str, str]:
    """Return the environment for a program that we start: without any password or token."""
    return {name: value for name, value in os.environ.items() if name not in SECRET.environment}


@contextlib.contextmanager
def secrets_hidden() -> Iterator[None]:
    """Take passwords and tokens out of the environment while a library starts a program."""
    hidden = {name: os.environ.pop(name) for name in SECRET.environment if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def applies_to_host(values: Mapping[str, str], host: str, source: str) -> bool:
    """Return whether the sign-in in *values* is meant for *host*.

    They may name the server; if they do not, they are meant for whatever account the user chose from their
    own configuration, the presets or options.
    """
    server = next((values[name] for name in ACCOUNT["host"].environment if name in values), None)
    if server is None:
        return source in ("config", "preset", "option")
    return server.strip().lower() == host.lower()
