"""A certificate authority for one test session."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import trustme

if TYPE_CHECKING:
    from pathlib import Path


class Certificates:
    """A private authority and a server certificate for localhost, as objects and as files."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.server = self.authority.issue_cert("localhost", "127.0.0.1", "::1")
        self.ca_file = folder / "ca.pem"
        """What a client has to trust."""
        self.chain_file = folder / "server.pem"
        """Key and certificate in one file, as Postfix likes it."""
        self.authority.cert_pem.write_to_path(str(self.ca_file))
        self.server.private_key_and_cert_chain_pem.write_to_path(str(self.chain_file))

    def server_context(self) -> ssl.SSLContext:
        """Return a context for a server that shows our certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.configure_cert(context)
        return context

    def client_context(self) -> ssl.SSLContext:
        """Return a context for a client that trusts our authority and nobody else."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.authority.configure_trust(context)
        return context
