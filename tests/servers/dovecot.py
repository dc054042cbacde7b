"""Dovecot's submission server, with its own configuration and folder; it relays to a server of the test."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from servers.programs import Program, free_port, require, require_root

_CONF = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = /dev/stderr
protocols = submission
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
login_greeting = {greeting}
mail_location = maildir:{folder}/mail
first_valid_uid = 1
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={folder}/mail
}}
service submission-login {{
  inet_listener submission {{
    port = {port}
  }}
}}
service stats {{
  client_limit = 100
}}
submission_relay_host = 127.0.0.1
submission_relay_port = {relay}
"""


class Dovecot:
    """A submission service without TLS, that takes any password and relays to *relay*, a port on loopback."""

    host = "127.0.0.1"
    user = "ann"
    password = "any"
    tls = "none"
    ca_file = None

    def __init__(self, relay: int, greeting: str = "Dovecot ready.") -> None:
        require_root()
        require_file("/usr/lib/dovecot/submission")
        program = require("dovecot")
        self.port = free_port()
        # Not pytest's folder: Dovecot's processes run as other users, who may not pass through it.
        self.folder = Path(tempfile.mkdtemp(prefix="dovecot-"))
        self.folder.chmod(0o755)
        for name in ("run", "state", "mail"):
            (self.folder / name).mkdir()
        (self.folder / "mail").chmod(0o777)
        conf = self.folder / "dovecot.conf"
        conf.write_text(
            _CONF.format(folder=self.folder, port=self.port, relay=relay, greeting=greeting), "utf-8"
        )
        self.log = self.folder / "log"
        self._program = Program([program, "-F", "-c", str(conf)], self.log)
        self._program.wait_for_port(self.port)

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
