"""An OpenID provider (the npm package oidc-provider) on a free loopback port."""

from __future__ import annotations

from pathlib import Path

from servers.programs import Program, free_port, require, require_npm


class OpenIdProvider:
    """One provider with one client, which may ask for tokens of its own."""

    client_id = "mailmerge"
    client_secret = "not-a-secret"

    def __init__(self, folder: Path) -> None:
        modules = require_npm("oidc-provider")
        port = free_port()
        self.issuer = f"http://127.0.0.1:{port}"
        script = str(Path(__file__).with_suffix(".mjs"))
        self._program = Program(
            [require("node"), script, str(modules), str(port)], folder / f"openid-{port}.log"
        )
        self._program.wait_for_port(port)

    def stop(self) -> None:
        """End the process."""
        self._program.stop()
