"""Dovecot with its own configuration and folder: IMAP, and submission that relays to a server of the test."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import imapclient

from servers.programs import Program, free_port, require, require_root

if TYPE_CHECKING:
    from servers.certificates import Certificates
    from servers.openid import OpenIdProvider

_CONF = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = /dev/stderr
protocols = submission {protocols}
listen = 127.0.0.1
disable_plaintext_auth = no
auth_failure_delay = 0
login_greeting = {greeting}
mail_location = maildir:{folder}/mail
first_valid_uid = 1
passdb {{
  {passdb}
}}
{more}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={folder}/mail
}}
service submission-login {{
  inet_listener submission {{
    port = {port}
  }}
}}
service imap-login {{
  inet_listener imap {{
    port = {imap_port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  client_limit = 100
}}
submission_relay_host = 127.0.0.1
submission_relay_port = {relay}
"""


_SECURE = """\
ssl = yes
ssl_cert = <{chain}
ssl_key = <{chain}
ssl_ca = <{ca}
ssl_require_crl = no
ssl_verify_client_cert = yes
auth_ssl_username_from_cert = yes
auth_mechanisms = {mechanisms}
"""


_IMAP = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = /dev/stderr
protocols = imap
listen = 127.0.0.1
ssl = required
ssl_cert = <{folder}/server.pem
ssl_key = <{folder}/server.pem
mail_location = maildir:{folder}/mail
first_valid_uid = 1
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={folder}
}}
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
  }}
}}
service stats {{
  client_limit = 100
}}
{more}
"""

SPECIAL_USE = """\
namespace inbox {
  inbox = yes
  mailbox "Gesendete Objekte" {
    auto = create
    special_use = \\Sent
  }
  mailbox Entwuerfe {
    auto = create
    special_use = \\Drafts
  }
}
"""
"""Folders for sent messages and drafts, told by their use alone."""
FULL = """\
mail_plugins = $mail_plugins quota
plugin {
  quota = count:User quota
  quota_vsizes = yes
  quota_rule = *:messages=1
  quota_grace = 0
}
"""
"""A mailbox that takes one message."""


class DovecotImap:
    """An IMAP server with STARTTLS at *port* and TLS at *tls_port*; its mailbox is the maildir ``mail``.

    *more* is added to its configuration.
    """

    host = "localhost"
    user = "ann"
    password = "imap-secret"

    def __init__(self, certificates: Certificates, more: str = "") -> None:
        require_root()
        require_file("/usr/lib/dovecot/imap")
        program = require("dovecot")
        self.ca_file = certificates.ca_file
        self.port, self.tls_port = free_port(), free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="dovecot-"))
        self.folder.chmod(0o755)
        for name in ("run", "state"):
            (self.folder / name).mkdir()
        shutil.copy(certificates.chain_file, self.folder / "server.pem")
        for name in ("cur", "new", "tmp"):
            (self.folder / "mail" / name).mkdir(parents=True)
        for path in (self.folder / "mail", *(self.folder / "mail").iterdir()):
            shutil.chown(path, "nobody", "nogroup")
        conf = self.folder / "dovecot.conf"
        values = {"folder": self.folder, "port": self.port, "tls_port": self.tls_port}
        conf.write_text(_IMAP.format(password=self.password, more=more, **values), "utf-8")
        self.log = self.folder / "log"
        self._program = Program([program, "-F", "-c", str(conf)], self.log)
        self._program.wait_for_port(self.port)

    def keep(self, *letters: bytes) -> None:
        """Put messages into the mailbox, as they would arrive."""
        for number, letter in enumerate(letters):
            (self.folder / "mail" / "new" / f"{number}.test").write_bytes(letter)
        shutil.chown(self.folder / "mail", "nobody", "nogroup")
        for path in (self.folder / "mail").rglob("*"):
            shutil.chown(path, "nobody", "nogroup")

    def kept(self) -> list[str]:
        """Name the messages, with the flags that a maildir has in the names of its files."""
        return sorted(f"{path.parent.name}/{path.name}" for path in (self.folder / "mail").glob("[cn]*/*"))

    def messages(self, folder: str) -> list[tuple[str, bytes]]:
        """Return flags and content of the messages in a folder, as a mail program gets them."""
        with imapclient.IMAPClient(self.host, self.port, ssl=False) as client:
            client.starttls(ssl.create_default_context(cafile=self.ca_file))
            client.login(self.user, self.password)
            if not client.folder_exists(folder):
                return []
            client.select_folder(folder, readonly=True)
            found = client.fetch(client.search(), ["FLAGS", "BODY.PEEK[]"])
        return [
            (" ".join(flag.decode() for flag in message[b"FLAGS"] if flag != rb"\Recent"), message[b"BODY[]"])
            for _, message in sorted(found.items())
        ]

    def stop(self) -> None:
        """End Dovecot and remove its folder."""
        self._program.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class ImapFront:
    """Sits in front of a Dovecot, without TLS; keeps back its answers to APPEND after the first *answers*.

    With *cut* the connection ends there, else nothing more comes. *reached* is set then. With *ends* only one
    session ends: ``"unanswered"`` where the next answer is due, or ``"expired"`` after it, with BYE to the
    next command, as a server says it whose token has expired.
    """

    host = "localhost"

    def __init__(self, dovecot: DovecotImap, answers: int, *, cut: bool = False, ends: str = "") -> None:
        self._dovecot, self._left, self._cut, self._ends = dovecot, answers, cut or bool(ends), ends
        self.reached = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                context = ssl.create_default_context(cafile=self._dovecot.ca_file)
                server = context.wrap_socket(
                    socket.create_connection(("127.0.0.1", self._dovecot.tls_port)),
                    server_hostname=self._dovecot.host,
                )
                expired = threading.Event()
                threading.Thread(target=self._forward, args=(client, server, expired), daemon=True).start()
                threading.Thread(target=self._answer, args=(server, client, expired), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket, expired: threading.Event) -> None:
        with contextlib.suppress(OSError), client, server:
            while data := client.recv(65536):
                if expired.is_set():
                    client.sendall(b"* BYE Session expired, please sign in again\r\n")
                    client.shutdown(socket.SHUT_RDWR)
                    break
                server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)

    def _answer(self, server: socket.socket, client: socket.socket, expired: threading.Event) -> None:
        with contextlib.suppress(OSError), server.makefile("rb") as lines:
            for line in lines:
                if b"APPENDUID" in line:
                    self._left -= 1
                    if self._left < 0 and not (self._ends and self.reached.is_set()):
                        self.reached.set()
                        if self._ends == "expired":
                            expired.set()
                        else:
                            if self._cut:
                                client.shutdown(socket.SHUT_RDWR)
                            return
                client.sendall(line)
            client.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """Listen no more."""
        self._listener.close()


_TOKENS = """\
introspection_mode = post
introspection_url = {openid}/token/introspection
tls_ca_cert_file = {ca}
username_attribute = {name}
active_attribute = active
active_value = true
"""


class Dovecot:
    """A submission service that relays to *relay*, a port on loopback.

    Without *certificates* it knows no TLS and takes any password; with them it offers *mechanisms* and knows
    ``ann`` by her password, or by a certificate in her name. With *openid* there is IMAP at `imap_port`, too.
    """

    host = "127.0.0.1"
    user = "ann"
    password = "any"
    tls = "none"
    ca_file = None

    def __init__(
        self,
        relay: int,
        greeting: str = "Dovecot ready.",
        *,
        certificates: Certificates | None = None,
        mechanisms: str = "plain",
        openid: OpenIdProvider | None = None,
        token_name: str = "sub",
    ) -> None:
        require_root()
        require_file("/usr/lib/dovecot/submission")
        program = require("dovecot")
        self.mechanisms = mechanisms
        self.port, self.imap_port = free_port(), free_port()
        # Not pytest's folder: Dovecot's processes run as other users, who may not pass through it.
        self.folder = Path(tempfile.mkdtemp(prefix="dovecot-"))
        self.folder.chmod(0o755)
        for name in ("run", "state", "mail"):
            (self.folder / name).mkdir()
        (self.folder / "mail").chmod(0o777)
        conf = self.folder / "dovecot.conf"
        passdb, more = "driver = static\n  args = nopassword=y", "ssl = no"
        if certificates:
            self.tls, self.ca_file, self.password = "starttls", certificates.ca_file, "pencil,=ü"
            (self.folder / "users").write_text(f"{self.user}:{{PLAIN}}{self.password}\n", "utf-8")
            if mechanisms != "external":  # where the certificate has said it all
                passdb = f"driver = passwd-file\n  args = scheme=PLAIN {self.folder}/users"
            if openid:  # whose tokens it shows to their provider
                mechanisms = "xoauth2 oauthbearer" if mechanisms == "plain" else mechanisms
                (self.folder / "oauth2").write_text(
                    _TOKENS.format(
                        openid="https://{}:{}@127.0.0.1:{}".format(*openid.mail_server, openid.port),
                        ca=shutil.copy(certificates.ca_file, self.folder),
                        name=token_name,
                    )
                )
                passdb = f"driver = oauth2\n  mechanisms = {mechanisms}\n  args = {self.folder}/oauth2"
            more = _SECURE.format(
                chain=certificates.chain_file, ca=certificates.ca_file, mechanisms=mechanisms
            )
        conf.write_text(
            _CONF.format(
                folder=self.folder,
                port=self.port,
                relay=relay,
                greeting=greeting,
                protocols="imap" if openid else "",
                imap_port=self.imap_port,
                passdb=passdb,
                more=more,
            ),
            "utf-8",
        )
        self.log = self.folder / "log"
        self._program = Program([program, "-F", "-c", str(conf)], self.log)
        self._program.wait_for_port(self.port)

    def kept(self, name: str) -> list[bytes]:
        """Return the messages in a folder of the mailbox; ``""`` is the inbox."""
        box = self.folder / "mail" / (f".{name}" if name else "")
        return [path.read_bytes() for path in sorted(box.glob("[cn]*/*"))]

    def keep(self, letter: bytes) -> None:
        """Put a message into the inbox, as it would arrive."""
        box = self.folder / "mail" / "new"
        (box / "1.test").write_bytes(letter)
        shutil.chown(box / "1.test", "nobody", "nogroup")

    def crashes(self) -> int:
        """Count the processes that have died of a bug."""
        return self.log.read_text("utf-8", "replace").count("Panic:")

    def stop(self) -> None:
        """End Dovecot and remove its folder."""
        self._program.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def require_file(path: str) -> None:
    """Skip, or fail in CI, where *path* is missing."""
    if not Path(path).exists():
        require(path)
