"""Messages put into the user's mail folders: on an IMAP server, into a maildir, at the end of an mbox."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
import time
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

from mailmerge.errors import CampaignFileError, FileError, SessionError
from mailmerge.files import named_folder, open_in_place
from mailmerge.folders import telling
from mailmerge.mail_folders.imap import said
from mailmerge.text import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from mailmerge.folders import Folder
    from mailmerge.mail_folders.imap import ImapServer

_FROM = re.compile(rb"^(>*From )", re.MULTILINE)
_DELIMITER = b"From "


class NotTakenError(SessionError):
    """The server does not accept this message; it may accept another one."""


class MailFolder(Protocol):
    """A folder that is open for adding messages."""

    def contains(self, message_id: str) -> bool:
        """Return whether the folder has a message with this Message-ID."""
        ...

    def add(self, content: bytes, message_id: str, date: datetime) -> None:
        """Add a message as one that was read; *date* is when it was sent.

        Raises:
            NotTakenError: it was certainly not added.

        """
        ...


# --- on an IMAP server ------------------------------------------------------------------------------------


@contextlib.contextmanager
def imap_folder(
    server: ImapServer, name: str, role: bytes, give_up: Callable[[], bool] = lambda: False
) -> Iterator[ImapFolder]:
    r"""Open a folder of an IMAP mailbox; all errors of the server are those of `ImapServer.signed_in`.

    Args:
        server: where the mailbox is.
        name: the folder. ``Sent`` and ``Drafts`` are found by their special use, whatever their names (RFC
            6154), and created if they do not exist.
        role: its special use: ``\Sent`` or ``\Drafts``; messages in ``\Drafts`` are marked as drafts.
        give_up: see `ImapServer.signed_in`.

    Raises:
        CampaignFileError: no folder has that name, or the optional package is missing.
        SessionError: the server cannot be reached, or refuses a command.

    """
    with server.signed_in(give_up) as client:
        yield ImapFolder(client, _found(client, name, role), role)


class ImapFolder:
    """A `MailFolder` on a server; see `imap_folder`."""

    def __init__(self, client: Any, name: str, role: bytes) -> None:
        self._client = client
        self._name = name
        self._flags = [rb"\Draft", rb"\Seen"] if role == rb"\Drafts" else [rb"\Seen"]

    def contains(self, message_id: str) -> bool:
        """Tell whether a message with this Message-ID is there."""
        # Selected each time: what arrived meanwhile counts, and APPEND does not need a selected folder.
        self._client.select_folder(self._name, readonly=True)
        return bool(self._client.search(["HEADER", "Message-ID", message_id]))

    def check(self) -> None:
        """Ask whether the session is still open: if not, that is an error of the server or the network."""
        self._client.noop()

    def add(self, content: bytes, message_id: str, date: datetime) -> None:  # noqa: ARG002
        """Put a message there; see `MailFolder`."""
        from imapclient.exceptions import IMAPClientAbortError, IMAPClientError

        try:
            self._client.append(self._name, content, self._flags, date)
        except IMAPClientAbortError:
            raise
        except IMAPClientError as error:
            raise NotTakenError(f"the IMAP server answered: {said(error)}", code="B804") from error


def _found(client: Any, name: str, role: bytes) -> str:
    """Find the folder by its special use, or by its name; one with a special use is created if missing."""
    usual = role.decode().lstrip("\\")
    if name.lower() == usual.lower():
        found = client.find_special_folder(role)
        if found is not None:
            return str(found)
        spaces = client.namespace().personal if client.has_capability("NAMESPACE") else ()
        name = f"{spaces[0][0]}{usual}" if spaces else usual
        if not client.folder_exists(name):
            client.create_folder(name)
            client.subscribe_folder(name)
        return name
    if not client.folder_exists(name):
        known = ", ".join(str(folder) for _, _, folder in client.list_folders()[:20])
        raise CampaignFileError(
            f"the mailbox has no folder {quoted(name)}",
            code="B842",
            hint=f"it has: {known}" if known else f'write "imap:{usual}"',
        )
    return name


# --- on this machine --------------------------------------------------------------------------------------


@contextlib.contextmanager
def maildir_folder(path: Path) -> Iterator[MailFolder]:
    """Open a maildir, created if it does not exist.

    Raises:
        FileError: it cannot be created or written, or is something else.

    """
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(named_folder(path))
        for name in ("cur", "new", "tmp"):
            opened.make(name)
        yield _Maildir(*(stack.enter_context(opened.inside(name)) for name in ("cur", "new", "tmp")))


class _Maildir:
    """Names of files begin with a digest of the Message-ID, whatever flags a mail program adds."""

    def __init__(self, cur: Folder, new: Folder, tmp: Folder) -> None:
        self._cur, self._new, self._tmp = cur, new, tmp
        self._host = re.sub(r"[^A-Za-z0-9.-]", "-", platform.node()) or "localhost"

    def contains(self, message_id: str) -> bool:
        mark = f".{_digest(message_id)}."
        return any(mark in name for folder in (self._cur, self._new) for name in folder.names())

    def add(self, content: bytes, message_id: str, date: datetime) -> None:
        name = f"{int(date.timestamp())}.{_digest(message_id)}.{self._host}"
        self._tmp.remove(name)  # left behind by a killed run
        with self._tmp.create(name) as stream:
            stream.write(content.replace(b"\r\n", b"\n"))
            stream.flush()
            os.fsync(stream.fileno())
        self._cur.adopt(self._tmp, name, f"{name}:2,S")


def _digest(message_id: str) -> str:
    return sha256(message_id.encode()).hexdigest()[:24]


@contextlib.contextmanager
def mbox_folder(path: Path) -> Iterator[MailFolder]:
    """Open an mbox (in ``mboxrd`` format), created if it does not exist.

    Raises:
        FileError: it cannot be created or written, or is something else.

    """
    handle = open_in_place(path, named=True)
    try:
        if os.pread(handle, len(_DELIMITER), 0) not in {b"", _DELIMITER}:
            raise FileError(path, "it is not an mbox", hint="name another file: nothing was written to it")
        yield _Mbox(handle, path)
    finally:
        os.close(handle)


class _Mbox:
    def __init__(self, handle: int, path: Path) -> None:
        self._handle = handle
        self._path = path

    def contains(self, message_id: str) -> bool:
        wanted = message_id.encode()
        os.lseek(self._handle, 0, os.SEEK_SET)
        with os.fdopen(os.dup(self._handle), "rb") as lines:
            return any(line[:11].lower() == b"message-id:" and wanted in line for line in lines)

    def add(self, content: bytes, message_id: str, date: datetime) -> None:  # noqa: ARG002
        lines = _FROM.sub(rb">\1", content.replace(b"\r\n", b"\n"))
        stamp = time.asctime(time.gmtime(date.timestamp())).encode()
        entry = b"From MAILER-DAEMON %b\n%b\n" % (stamp, lines if lines.endswith(b"\n") else lines + b"\n")
        handle = self._handle
        with telling(self._path), _locked(handle):
            size = os.fstat(handle).st_size
            # If another program left the last line unfinished, our message must not continue it.
            if size and os.pread(handle, 2, max(0, size - 2)) != b"\n\n":
                entry = b"\n" + entry
            try:
                _write(handle, entry)
            except OSError:
                os.ftruncate(handle, size)
                raise


def _write(handle: int, entry: bytes) -> None:
    """Write all of it in one step, durably."""
    if os.write(handle, entry) != len(entry):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(handle)


@contextlib.contextmanager
def _locked(handle: int) -> Iterator[None]:
    """Lock the file against other mail programs, if they and the system support locks."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    fcntl.lockf(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.lockf(handle, fcntl.LOCK_UN)
