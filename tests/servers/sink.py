"""Postfix's smtp-sink: takes and keeps mail, or misbehaves as its options say."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from servers.mail import Received, crlf, split_off_headers
from servers.programs import Program, free_port, require

if TYPE_CHECKING:
    from pathlib import Path

_OWN_LINES = (
    b"X-Client-Addr",
    b"X-Client-Proto",
    b"X-Helo-Args",
    b"X-Mail-Args",
    b"X-Rcpt-Args",
    b"Received",
)


class SmtpSink:
    """One smtp-sink on a free port, without TLS and sign-in; see smtp-sink(1) for its *options*."""

    host = "127.0.0.1"

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.folder = folder / f"sink-{self.port}"
        self.folder.mkdir()
        self.folder.chmod(0o777)
        user = ("-u", "nobody") if os.geteuid() == 0 else ()
        command = [require("smtp-sink"), *user, "-d", "%s.", *options, f"{self.host}:{self.port}", "100"]
        self._program = Program(command, folder / f"sink-{self.port}.log", cwd=self.folder)
        self._program.wait_for_port(self.port)

    def received(self) -> list[Received]:
        """Return the complete messages so far, oldest file first."""
        files = sorted(self.folder.iterdir(), key=lambda file: file.stat().st_mtime_ns)
        return [_read(file.read_bytes()) for file in files]

    def stop(self) -> None:
        """End the process."""
        self._program.stop()


def _read(dump: bytes) -> Received:
    fields, rest = split_off_headers(dump, _OWN_LINES)
    return Received(
        mail_from=_address(fields[b"X-Mail-Args"][0]),
        rcpt_to=tuple(_address(value) for value in fields[b"X-Rcpt-Args"]),
        content=crlf(rest.removesuffix(b"\n")),  # it ends each dump with an empty line
    )


def _address(argument: bytes) -> str:
    return argument.decode().partition("<")[2].partition(">")[0]
