"""Where messages are submitted, and what sessions with that server have taught us."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.addresses import is_loopback
from mailmerge.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mailmerge.model import Mode, Pipeline, TlsMode
    from mailmerge.smtp.transactions import ConnectionLimit

SUBMISSION_PORTS_HINT = "Mail submission normally uses port 587 or 465."
TLS_MODE_HINT = '`tls = "tls"` usually belongs to port 465, `tls = "starttls"` to port 587.'


class Endpoint(Struct, frozen=True):
    """A server for mail submission, and how to speak to it.

    Raises:
        InputError: a name that could add a line to EHLO, an impossible port, or `insecure` elsewhere.

    """

    host: str
    port: int
    tls: TlsMode
    helo: str
    """The name we give in EHLO; ASCII."""
    ca_file: Path | None = None
    """Trust the certificate authorities in this file, and no others."""
    insecure: bool = False
    """Verify no certificate: for servers on this very machine only."""
    cert_file: Path | None = None
    """The certificate that we show, PEM; None: none."""
    key_file: Path | None = None
    """Its private key, PEM; None: it is in *cert_file*."""

    def __post_init__(self) -> None:
        for what, text in (("host", self.host), ("EHLO name", self.helo)):
            if not text or not text.isprintable() or " " in text:
                raise InputError(f"the {what} is empty, or contains a space or line break", code="S640")
        if not self.helo.isascii():
            raise InputError("the EHLO name contains non-ASCII characters", code="S640")
        if not 0 < self.port < 65536:
            raise InputError(f"{self.port} is not a valid port", code="S640")
        if self.insecure and not is_loopback(self.host):
            raise InputError(
                f"the certificate of {self.host} must be verified",
                code="S641",
                hint="Only servers on this machine may skip verification; "
                "for your own certificate authority set `ca_file`.",
            )


_LOWER: Mapping[Mode, Mode] = {"window": "overlap", "overlap": "grouped", "grouped": "off", "off": "off"}


def _forget(_borne: bool) -> None:
    """Remember nothing."""


class ServerProfile(Struct):
    """What sessions with a server have taught; share one among the connections to it, for one run."""

    ceiling: Mode | None = None
    """The fastest mode still trusted; None: no surprise yet."""
    messages_per_connection: int | None = None
    """How many messages one connection takes; None: no limit met."""
    suspected: int | None = None
    """How many it took when it last ended early without saying why."""
    borne: bool | None = None
    """Whether it bears commands behind a message that it has not answered; None: not known."""
    not_bearing: tuple[str, ...] = ()
    """Words, in lower case, of the greeting or EHLO reply of servers known not to bear it."""
    failure: str = ""
    """What it did that showed, in this run, that it does not."""
    trying: str = ""
    """The connection that finds out; only one does, so that it costs one row at most."""
    remember: Callable[[bool], None] = _forget
    """Is told what was found out."""

    def may_try(self, connection: str) -> bool:
        """Whether *connection* may find out whether the server bears it; the first one that asks may."""
        self.trying = self.trying or connection
        return self.trying == connection

    def found(self, borne: bool | None, failure: str = "") -> None:
        """Take note of what a trial has shown; None: nothing, or nothing any more."""
        self.trying = ""
        if borne is not None and borne is not self.borne:
            self.remember(borne)
        self.borne = borne
        self.failure = self.failure or failure

    def limit(self, pipeline: Pipeline) -> Pipeline | Mode:
        """Return what to ask for, given that *pipeline* is wanted."""
        order: list[Pipeline | Mode] = ["off", "grouped", "overlap", "window"]
        wanted: Pipeline = "overlap" if pipeline == "auto" else pipeline
        if self.ceiling is None or order.index(wanted) <= order.index(self.ceiling):
            return pipeline
        return self.ceiling

    def connection_limit_reached(self, limit: ConnectionLimit) -> None:
        """Take note that a connection took so many messages and no more.

        Unless the server stated that this is a limit of its own it must happen twice: once is an accident.
        """
        if limit.stated or limit.messages == self.suspected:
            self.messages_per_connection = limit.messages
        self.suspected = limit.messages

    def step_down(self, mode: Mode) -> None:
        """Trust one mode less than *mode*, which brought a surprise."""
        if self.ceiling is None or _LOWER[self.ceiling] != self.ceiling:
            self.ceiling = _LOWER[mode]
