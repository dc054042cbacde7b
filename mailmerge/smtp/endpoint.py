"""Where messages are submitted, and what was learnt in sessions with that server."""

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
    """A server for mail submission, and how to connect to it.

    Raises:
        InputError: a name that could add a line to EHLO, an impossible port, or `insecure` elsewhere.

    """

    host: str
    port: int
    tls: TlsMode
    helo: str
    """The name that we send in EHLO; ASCII."""
    ca_file: Path | None = None
    """A PEM file with the only certificate authorities to trust; None: the system's."""
    insecure: bool = False
    """Whether to skip certificate verification: for servers on this machine only."""
    cert_file: Path | None = None
    """A PEM file with our client certificate; None: we have none."""
    key_file: Path | None = None
    """A PEM file with its private key; None: the key is in *cert_file*."""

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
    """Do nothing with what was found out."""


class ServerProfile(Struct):
    """What was learnt in sessions with a server; all connections to it in a run share one."""

    ceiling: Mode | None = None
    """The fastest mode that is still trusted; None: no surprise so far."""
    messages_per_connection: int | None = None
    """How many messages one connection may have; None: no limit was met."""
    suspected: int | None = None
    """How many it had when it last ended early without a reason."""
    borne: bool | None = None
    """Whether the server supports commands behind an unanswered message; None: unknown."""
    not_bearing: tuple[str, ...] = ()
    """Words, in lower case, in the greeting or EHLO reply of servers known not to support it."""
    failure: str = ""
    """What the server did, in this run, that showed that it does not support it."""
    trying: str = ""
    """The connection that runs the trial; only one does, so that it costs at most one row."""
    remember: Callable[[bool], None] = _forget
    """Called with what was found out."""

    def may_try(self, connection: str) -> bool:
        """Return whether *connection* may run the trial; the first one that asks may."""
        self.trying = self.trying or connection
        return self.trying == connection

    def found(self, borne: bool | None, failure: str = "") -> None:
        """Record what a trial has shown; None: nothing, or it no longer can."""
        self.trying = ""
        if borne is not None and borne is not self.borne:
            self.remember(borne)
        self.borne = borne
        self.failure = self.failure or failure

    def limit(self, pipeline: Pipeline) -> Pipeline | Mode:
        """Return the mode to use when *pipeline* is configured."""
        order: list[Pipeline | Mode] = ["off", "grouped", "overlap", "window"]
        wanted: Pipeline = "overlap" if pipeline == "auto" else pipeline
        if self.ceiling is None or order.index(wanted) <= order.index(self.ceiling):
            return pipeline
        return self.ceiling

    def connection_limit_reached(self, limit: ConnectionLimit) -> None:
        """Record that a connection accepted this many messages and no more.

        Unless the server stated that this is its own limit, it must happen twice: once may be an accident.
        """
        if limit.stated or limit.messages == self.suspected:
            self.messages_per_connection = limit.messages
        self.suspected = limit.messages

    def step_down(self, mode: Mode) -> None:
        """Trust only the mode below *mode*, which led to a surprise."""
        if self.ceiling is None or _LOWER[self.ceiling] != self.ceiling:
            self.ceiling = _LOWER[mode]
