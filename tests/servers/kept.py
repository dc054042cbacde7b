"""Our sandbox server, remembering what it took."""

from __future__ import annotations

import threading
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
        self.hold_after: int | None = None
        """After how many messages no more are answered until `go_on` is set."""
        self.go_on = threading.Event()
        super().__init__(tls=tls, user=user, faults=faults or FaultPlan(), keep=self._keep, max_size=max_size)

    def _keep(self, message: ReceivedMessage) -> None:
        self.messages.append(message)
        if self.hold_after is not None and len(self.messages) >= self.hold_after:
            self.go_on.wait(60)
