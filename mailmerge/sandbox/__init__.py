"""The loopback server behind ``rehearse``: a real SMTP server over TLS with sign-in, able to misbehave.

It keeps what it accepted and delivers nothing. It never listens beyond 127.0.0.1. asyncio and aiosmtpd
are loaded only when a server starts.
"""

from mailmerge.sandbox.faults import Command, FaultPlan, NoPipelining, Refusal
from mailmerge.sandbox.server import ReceivedMessage, SandboxServer

__all__ = ["Command", "FaultPlan", "NoPipelining", "ReceivedMessage", "Refusal", "SandboxServer"]
