"""Where messages are submitted, how long we wait for it, and what its sessions have taught us."""

from __future__ import annotations

from functools import cached_property
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


class Deadlines(Struct, frozen=True, dict=True):
    """How long each reply may take in total, in seconds (RFC 5321 section 4.5.3.2, and Postfix's habits).

    A reply's time starts when it is the next one owed and its command has left: with pipelining others may be
    owed before it. The time is for the whole reply, so that a server cannot keep us by an octet a minute.
    """

    connect: float = 30
    greeting: float = 300  # section 4.5.3.2.1
    ehlo: float = 300
    tls: float = 60
    auth: float = 60
    mail: float = 300  # section 4.5.3.2.2
    rcpt: float = 300  # section 4.5.3.2.3
    data: float = 120  # section 4.5.3.2.4
    content: float = 600
    """From the end of the content to its reply (section 4.5.3.2.6).

    The longest of all, because a message that we give up too early is in doubt, and was often accepted.
    """
    progress: float = 180
    """Without one octet of what we have to say being taken (section 4.5.3.2.5)."""
    liveness: float = 30
    """For NOOP after a pause."""
    drain: float = 5
    """For replies still on their way after a 421 or a write error."""
    quit: float = 5
    """For the 221, which nothing depends on."""
    wrong_tls: float = 4
    """Without a plaintext greeting, until we check whether the port expects implicit TLS."""

    def of(self, step: Step) -> float:
        """Return the seconds for the reply to *step*."""
        return self._by_step[step]

    @cached_property
    def _by_step(self) -> dict[Step, float]:
        return {
            Step.GREETING: self.greeting,
            Step.EHLO: self.ehlo,
            Step.HELO: self.ehlo,
            Step.STARTTLS: self.tls,
            Step.AUTH: self.auth,
            Step.TRIAL_MAIL: self.mail,
            Step.TRIAL_CHUNK: self.mail,
            Step.TRIAL_RSET: self.mail,
            Step.TRIAL_NOOP: self.mail,
            Step.MAIL: self.mail,
            Step.RCPT: self.rcpt,
            Step.DATA: self.data,
            Step.CONTENT: self.content,
            Step.CHUNK: self.content,
            Step.LONE_DOT: self.content,
            Step.RSET: self.mail,
            Step.NOOP: self.liveness,
            Step.QUIT: self.quit,
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
