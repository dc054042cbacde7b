"""Where messages are handed in, how long we wait for it, and what its sessions have taught us."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.addresses import is_loopback
from mailmerge.errors import InputError
from mailmerge.smtp.state import Step

if TYPE_CHECKING:
    from pathlib import Path

    from mailmerge.model import Mode, Pipeline, TlsMode
    from mailmerge.smtp.transactions import ConnectionLimit

SUBMISSION_PORTS_HINT = "Mail submission normally uses port 587 or 465."
TLS_MODE_HINT = '`tls = "tls"` usually belongs to port 465, `tls = "starttls"` to port 587.'


class Endpoint(Struct, frozen=True):
    """A server for handing in mail, and how to speak to it."""

    host: str
    port: int
    tls: TlsMode
    helo: str
    """The name we give in EHLO; ASCII."""
    ca_file: Path | None = None
    """Trust the certificate authorities in this file, and no others."""
    insecure: bool = False
    """Verify no certificate: for servers on this very machine only."""

    def __post_init__(self) -> None:
        for what, text in (("host", self.host), ("EHLO name", self.helo)):
            if not text or not text.isprintable() or " " in text:
                raise InputError(f"the {what} is empty, or holds a space or line break", code="S640")
        if not self.helo.isascii():
            raise InputError("the EHLO name holds letters outside ASCII", code="S640")
        if not 0 < self.port < 65536:
            raise InputError(f"there is no port {self.port}", code="S640")
        if self.insecure and not is_loopback(self.host):
            raise InputError(
                f"the certificate of {self.host} must be verified",
                code="S641",
                hint="Only servers on this machine may go unverified; for your own authority set `ca_file`.",
            )


class Deadlines(Struct, frozen=True):
    """How long each reply may take in total, in seconds (RFC 5321 section 4.5.3.2 and Postfix's habits).

    A reply's time starts when it is the next one awaited and its command has left.
    """

    connect: float = 30
    greeting: float = 300
    ehlo: float = 300
    tls: float = 60
    auth: float = 60
    mail: float = 300
    rcpt: float = 300
    data: float = 120
    content: float = 600
    """From the end of the content to its reply."""
    progress: float = 180
    """Without one octet of what we have to say being taken."""
    liveness: float = 30
    """For NOOP after a pause."""
    drain: float = 5
    """For replies still under way after a 421 or a write error."""
    quit: float = 5
    wrong_tls: float = 4
    """Without a greeting in clear, until we look whether the port waits for TLS."""

    def scaled(self, factor: float) -> Deadlines:
        """Return all of them times *factor*."""
        return Deadlines(*(getattr(self, name) * factor for name in self.__struct_fields__))

    def of(self, step: Step) -> float:
        """Return the seconds for the reply to *step*."""
        return float(getattr(self, _DEADLINE[step]))


_DEADLINE = {
    Step.GREETING: "greeting",
    Step.EHLO: "ehlo",
    Step.HELO: "ehlo",
    Step.STARTTLS: "tls",
    Step.AUTH: "auth",
    Step.TRIAL_MAIL: "mail",
    Step.TRIAL_CHUNK: "mail",
    Step.TRIAL_RSET: "mail",
    Step.TRIAL_NOOP: "mail",
    Step.MAIL: "mail",
    Step.RCPT: "rcpt",
    Step.DATA: "data",
    Step.CONTENT: "content",
    Step.CHUNK: "content",
    Step.LONE_DOT: "content",
    Step.RSET: "mail",
    Step.NOOP: "liveness",
    Step.QUIT: "quit",
}


class ServerProfile(Struct):
    """What sessions with a server have taught; share one among the connections to it, for one run."""

    ceiling: Mode | None = None
    """The fastest mode still trusted; None: no surprise yet."""
    messages_per_connection: int | None = None
    """How many messages one connection takes; None: no limit met."""
    suspected: int | None = None
    """How many it took when it last ended early without saying why."""

    def limit(self, pipeline: Pipeline) -> Pipeline:
        """Return what to ask for, given that *pipeline* is wanted."""
        order: list[Pipeline] = ["off", "overlap", "window"]
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
        lower: Mode = "overlap" if mode == "window" else "off"
        if self.ceiling != "off":
            self.ceiling = lower
