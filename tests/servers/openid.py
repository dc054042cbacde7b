"""An OpenID provider (the npm package oidc-provider) on a free loopback port, and a person with a browser."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import requests
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from servers.programs import Program, free_port, require, require_npm

if TYPE_CHECKING:
    from servers.certificates import Certificates

_STEPS = 25
_FORM = re.compile(r'<form[^>]*action="([^"]+)"')
_INPUT = re.compile(r'<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"')


class OpenIdProvider:
    """One provider that gives tokens to a person's applications, to one of its own, and checks them."""

    application = ("application", "not-a-secret")
    installed = "installed"
    with_secret = ("with-secret", "not-a-secret-of-an-installed-application")
    mail_server = ("mail-server", "not-a-secret-of-the-mail-server")

    def __init__(self, folder: Path, certificates: Certificates, seconds: int = 3600) -> None:
        modules = require_npm("oidc-provider")
        self.port = free_port()
        self.issuer = f"https://localhost:{self.port}"
        self.ca_file = certificates.ca_file
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder / "service.pem").write_bytes(public)
        self.service_key = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        """The private key of a service account, PEM."""
        script = str(Path(__file__).with_suffix(".mjs"))
        self._program = Program(
            [
                require("node"),
                script,
                str(modules),
                str(self.port),
                str(certificates.chain_file),
                str(seconds),
                str(folder / "service.pem"),
            ],
            folder / f"openid-{self.port}.log",
        )
        self._program.wait_for_port(self.port)

    def stop(self) -> None:
        """End the process."""
        self._program.stop()

    def revoke(self, token: str) -> None:
        """Withdraw a token of the installed application (RFC 7009)."""
        form = {"token": token, "client_id": self.installed}
        with requests.Session() as session:
            session.trust_env = False
            session.verify = str(self.ca_file)
            session.post(f"{self.issuer}/token/revocation", data=form, timeout=10).raise_for_status()

    def agree(self, address: str, user: str = "ann", *, code: str = "", decline: bool = False) -> str:
        """Go through the pages as a person would; return the address where the browser is sent in the end."""
        session = requests.Session()
        session.trust_env = False
        session.verify = str(self.ca_file)
        answer = session.get(address, allow_redirects=False, timeout=10)
        fields: dict[str, str] = {}
        for _ in range(_STEPS):
            if answer.is_redirect:
                target = urljoin(answer.url, answer.headers["location"])
                if urlsplit(target).scheme == "http":
                    return target
                answer = session.get(target, allow_redirects=False, timeout=10)
                continue
            form = _FORM.search(answer.text)
            if form is None or "abort" in fields:
                return answer.url
            link = re.search(r'href="([^"]*/abort)"', answer.text)
            if decline and link:
                answer = session.get(urljoin(answer.url, link[1]), allow_redirects=False, timeout=10)
                continue
            fields = {name: html.unescape(value) for name, value in _INPUT.findall(answer.text)}
            if 'name="login"' in answer.text:
                fields |= {"login": user, "password": "any"}
            if 'name="user_code"' in answer.text and code:
                fields["user_code"] = code
            if "/device" in answer.url and "confirm" in answer.text:
                fields["abort" if decline else "confirm"] = "yes"
            target = urljoin(answer.url, html.unescape(form[1]))
            answer = session.post(target, data=fields, allow_redirects=False, timeout=10)
        raise AssertionError(f"no end at {answer.url}: {answer.text[:500]}")
