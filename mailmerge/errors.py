"""Every exception the library raises on purpose, and nothing else.

::

    MailmergeError                 has exit_code, code, hint
    ├── InputError                 what the user gave us: path, line, column, row
    │   ├── CampaignFileError      campaign.toml, config.toml, environment, command line
    │   ├── ListError              the recipient list as a whole
    │   ├── TemplateError          a template: syntax, unknown name, sandbox
    │   ├── AttachmentError        an attachment rule as a whole
    │   └── RowError               one row cannot become a message: it ends as ``invalid``
    ├── CampaignHalted         a report in the mailbox stopped the campaign: a person decides what to do
    ├── InUseError                 campaign or account is in use by another process
    ├── LedgerError                the ledger cannot be trusted, read or written
    ├── PlanDamaged                a kept plan cannot be read: the next command makes it again
    ├── SecretLeak                 a message contains a secret that is in use: nothing more is sent
    ├── FileError                  a file or folder that we write: path, and an OSError with its errno
    └── SessionError               the SMTP session cannot continue: reply
        ├── ConnectionLost         name look-up, connect, time-out, drop
        ├── TlsError               certificate, handshake, STARTTLS missing or stripped
        ├── AuthError              the server refused who we are, or as whom we send
        └── ProtocolError          the server does not follow SMTP

Attributes have the facts, ``hint`` is the next step, ``code`` is stable (its first letter names the
area: D list data, T template, A attachment, C campaign file and options, M message, S session, L ledger, B
mail that came back).
Our own misuse of a class is a plain ``RuntimeError``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailmerge.model import Diagnostic, Place, Severity

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mailmerge.model import Reply


class MailmergeError(Exception):
    """Base of all errors that a user can meet; its text is one sentence fit for a terminal."""

    exit_code = 2
    default_code = "X900"

    def __init__(self, message: str, *, code: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.hint = hint

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """What to show: one diagnostic, or all that were found together."""
        return (Diagnostic(code=self.code, message=self.message, hint=self.hint),)


class InputError(MailmergeError):
    """Something the user gave us is wrong; *place* is where, *problems* are all that were found."""

    default_code = "C400"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        place: Place | None = None,
        row: int | None = None,
        address: str | None = None,
        problems: Sequence[Diagnostic] = (),
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.place = place
        self.row = row
        self.address = address
        self._problems = tuple(problems)

    @property
    def path(self) -> str | None:
        """The file, as the user named it."""
        return self.place.path if self.place else None

    @property
    def line(self) -> int | None:
        """The line in that file, from 1."""
        return self.place.line if self.place else None

    @property
    def column(self) -> int | None:
        """The column in that line, from 1."""
        return self.place.column if self.place else None

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """The problems found together, else this error as one."""
        if self._problems:
            return self._problems
        return (
            Diagnostic(
                code=self.code,
                message=self.message,
                hint=self.hint,
                severity=Severity.ERROR,
                place=self.place,
                row=self.row,
                address=self.address,
            ),
        )


class CampaignFileError(InputError):
    """The campaign file, the user's config, the environment or an option is not valid."""

    default_code = "C400"


class ListError(InputError):
    """The recipient list cannot be read as a whole."""

    default_code = "D100"


class TemplateError(InputError):
    """A template cannot be compiled, or fails in a way that its author must fix."""

    default_code = "T100"


class AttachmentError(InputError):
    """An attachment rule is wrong for the whole campaign."""

    default_code = "A300"


class RowError(InputError):
    """This row cannot become a message; ``Campaign`` records it as ``invalid`` and continues."""

    default_code = "D110"


class NoAddressError(RowError):
    """This row has no recipient; ``Campaign`` records it as ``skipped`` and continues."""

    default_code = "D141"
    empty: str | None = None
    """The name of the column that should have an address, where it is a single one."""


class CampaignHalted(MailmergeError):
    """A message came back because the account's limit was reached: nothing more is sent by itself."""

    exit_code = 5
    default_code = "B810"


class InUseError(MailmergeError):
    """Another process is using this campaign or this account."""

    exit_code = 7
    default_code = "L707"


class LedgerError(MailmergeError):
    """The ledger cannot be read or written, is damaged, too old or too new."""

    exit_code = 8
    default_code = "L700"


class PlanDamaged(MailmergeError):
    """A kept plan cannot be read any more: it is made again, and nothing is lost."""

    exit_code = 5
    default_code = "C491"


class SecretLeak(MailmergeError):
    """A message contains a password or token that is in use: it is not sent, and the run stops."""

    exit_code = 6
    default_code = "C492"


class FileError(MailmergeError, OSError):
    """A file or folder of ours cannot be written or removed, or something else has taken its place.

    It is an `OSError`, too: ``errno``, ``filename`` (the whole path) and ``strerror`` (the reason, in words).
    """

    default_code = "C487"

    def __init__(
        self,
        path: Path | str,
        why: str,
        *,
        number: int | None = None,
        code: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(f"cannot write {path}: {why}", code=code, hint=hint)
        self.filename = str(path)
        self.strerror = why
        self.errno = number

    def __str__(self) -> str:
        return self.message


class SessionError(MailmergeError):
    """The SMTP session cannot continue; *reply* is the server's last reply, if there was one."""

    exit_code = 5
    default_code = "S600"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        reply: Reply | None = None,
        retry_after: float | None = None,
        exit_code: int | None = None,
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.reply = reply
        self.retry_after = retry_after
        """Seconds to wait before the next try, if the server or our table of its replies specifies that."""
        if exit_code is not None:
            self.exit_code = exit_code


class ConnectionLost(SessionError):
    """No connection, or it ended: look-up, refused, time-out, reset, end of stream."""

    default_code = "S610"


class TlsError(SessionError):
    """The connection is not, or not provably, private."""

    exit_code = 6
    default_code = "S620"


class AuthError(SessionError):
    """Sign-in or sender refused: a person must act."""

    exit_code = 6
    default_code = "S601"


class ProtocolError(SessionError):
    """What the server sent is not SMTP, or not in order."""

    default_code = "S630"
