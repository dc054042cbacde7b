"""Our sandbox server, remembering what it took."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailmerge.sandbox import FaultPlan, SandboxServer

if TYPE_CHECKING:
    from mailmerge.model import TlsMode
    from mailmerge.sandbox import ReceivedMessage


class KeepingSandbox(SandboxServer):
    """A sandbox server whose messages a test can read."""

    def __init__(
        self,
        *,
        tls: TlsMode = "starttls",
        user: str | None = "sandbox",
        faults: FaultPlan | None = None,
        max_size: int = 32 * 1024 * 1024,
    ) -> None:
        self.messages: list[ReceivedMessage] = []
        super().__init__(
            tls=tls, user=user, faults=faults or FaultPlan(), keep=self.messages.append, max_size=max_size
        )
