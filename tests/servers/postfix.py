"""A real Postfix with its own configuration, queue and users; the system's is never read or written."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from servers.mail import Received, crlf, split_off_headers
from servers.programs import free_port, listens, require, require_root, wait_until

if TYPE_CHECKING:
    from servers.certificates import Certificates

_OWN_LINES = (b"Return-Path", b"X-Original-To", b"Delivered-To", b"Received")

_MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = {daemons}
mail_owner = postfix
setgid_group = postdrop
maillog_file = {folder}/log/mail.log
maillog_file_prefixes = {folder}
myhostname = postfix.test
mydestination =
mynetworks =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
smtpd_peername_lookup = no
in_flow_delay = 0
message_size_limit = {max_size}
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_tls_chain_files = {folder}/etc/server.pem
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = cyrus
smtpd_sasl_path = smtpd
smtpd_sasl_local_domain = postfix.test
# Debian's build looks into sasl/ beside this file, whatever the next line says; others obey it.
cyrus_sasl_config_path = {folder}/etc/sasl
smtpd_recipient_restrictions =
    check_recipient_access inline:{{
        {{reject@example.com = 550 5.1.1 no such user}},
        {{defer@example.com = 450 4.2.1 try later}} }},
    permit_sasl_authenticated, reject
default_transport = virtual
relay_transport = virtual
virtual_mailbox_base = {folder}/mail
virtual_mailbox_domains =
virtual_mailbox_maps = static:all/
# Accepted, and returned to the sender when it is to be delivered.
transport_maps = inline:{{ {{gone@example.com = nouser:}} }}
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
smtpd_sender_login_maps = inline:{{ {{me@example.org = somebody.else}} }}
address_verify_map =
address_verify_default_transport = smtp:[127.0.0.1]:{next_hop}
address_verify_relay_transport = smtp:[127.0.0.1]:{next_hop}
address_verify_poll_count = 3
address_verify_poll_delay = 1
unverified_recipient_reject_code = 550
smtp_host_lookup = native
"""

_REFUSING = {
    "sender": "-o smtpd_sender_restrictions=reject_sender_login_mismatch",
    "helo": "-o { smtpd_helo_restrictions = check_helo_access static:REJECT }",
    "client": "-o { smtpd_client_restrictions = check_client_access static:REJECT }",
    "client for now": "-o { smtpd_client_restrictions = check_client_access static:{450 4.7.1 not now} }",
    "relay": "-o smtpd_recipient_restrictions=reject_unauth_destination",
    "verify": "-o { smtpd_recipient_restrictions = reject_unverified_recipient, permit_sasl_authenticated }",
}
"""What Postfix refuses to everybody on the port of that name: at RCPT, as it does by default."""

_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
127.0.0.1:{tls_port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
127.0.0.1:{login_port} inet n - n - - smtpd -o smtpd_sasl_mechanism_filter=login
127.0.0.1:{cram_port} inet n - n - - smtpd -o smtpd_sasl_mechanism_filter=cram-md5
127.0.0.1:{renaming_port} inet n - n - - smtpd -o smtpd_discard_ehlo_keywords=dsn
    -o cleanup_service_name=renaming -o content_filter=smtp:[127.0.0.1]:{second_port}
127.0.0.1:{second_port} inet n - n - - smtpd
    -o mynetworks=127.0.0.1 -o smtpd_recipient_restrictions=permit_mynetworks,reject
renaming unix n - n - 0 cleanup
    -o {{ header_checks = regexp:{{ {{/^Message-ID:/ REPLACE Message-ID: <1@renamed.example>}} }} }}
{refusing}
smtp unix - - n - - smtp
verify unix - - n - 1 verify
postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
tlsmgr unix - - n 1000? 1 tlsmgr
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
nouser unix - n n - - pipe user=nobody argv=/bin/sh -c {{exit 67}}
anvil unix - - n - 1 anvil
showq unix n - n - - showq
"""

_SASL = """\
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: {folder}/etc/sasl/sasldb2
mech_list: PLAIN LOGIN CRAM-MD5
"""


class Postfix:
    """Postfix on loopback: STARTTLS on `port`, TLS from the first byte on `tls_port`.

    `login_port` and `cram_port` are like `port`, but offer only AUTH LOGIN and only CRAM-MD5. `renaming_port`
    offers no DSN, replaces the Message-ID and passes the message on, so that it has another queue id, too.
    It takes mail from whoever signs in, refuses reject@example.com (550) and defer@example.com (450),
    and delivers all the rest into one Maildir.
    """

    host = "127.0.0.1"
    user = "merge"
    password = "correct horse"
    max_size = 10_240_000

    def __init__(self, certificates: Certificates) -> None:
        require_root()
        self._postfix = require("postfix")
        saslpasswd = require("saslpasswd2")
        self.ca_file = certificates.ca_file
        self.port = free_port()
        self.tls_port = free_port()
        self.login_port = free_port()
        self.cram_port = free_port()
        self.renaming_port = free_port()
        self.refusing = {name: free_port() for name in _REFUSING}
        """Ports where what the name says is refused; ``verify`` asks `next_hop` about each recipient."""
        self.next_hop = free_port()
        """Where the server of the recipients would be."""
        # Not pytest's folder: Postfix's daemons run as other users, who may not pass through it.
        self.folder = Path(tempfile.mkdtemp(prefix="postfix-"))
        self.log_file = self.folder / "log" / "mail.log"
        try:
            self._configure(certificates, saslpasswd)
            self._run("start")
            wait_until(lambda: listens(self.port) and listens(self.tls_port), "Postfix up")
        except BaseException:
            self.stop()
            raise

    def _configure(self, certificates: Certificates, saslpasswd: str) -> None:
        self.folder.chmod(0o755)
        for name in ("etc", "queue", "data", "log", "etc/sasl", "mail"):
            (self.folder / name).mkdir()
        owner, taker = pwd.getpwnam("postfix"), pwd.getpwnam("nobody")
        os.chown(self.folder / "data", owner.pw_uid, -1)
        os.chown(self.folder / "mail", taker.pw_uid, taker.pw_gid)
        etc = self.folder / "etc"
        for name in ("dynamicmaps.cf", "dynamicmaps.cf.d", "postfix-files", "postfix-files.d"):
            source = Path("/etc/postfix", name)  # the package's own lists of what it installed
            if source.is_dir():
                shutil.copytree(source, etc / name)
            elif source.exists():
                shutil.copy(source, etc / name)
        shutil.copy(certificates.chain_file, etc / "server.pem")
        values = {
            "folder": self.folder,
            "daemons": "/usr/lib/postfix/sbin",
            "port": self.port,
            "tls_port": self.tls_port,
            "login_port": self.login_port,
            "cram_port": self.cram_port,
            "renaming_port": self.renaming_port,
            "second_port": free_port(),
            "next_hop": self.next_hop,
            "refusing": "\n".join(
                f"127.0.0.1:{self.refusing[name]} inet n - n - - smtpd {options}"
                for name, options in _REFUSING.items()
            ),
            "max_size": self.max_size,
            "uid": taker.pw_uid,
            "gid": taker.pw_gid,
        }
        (etc / "main.cf").write_text(_MAIN.format(**values))
        (etc / "master.cf").write_text(_MASTER.format(**values))
        (self.folder / "etc" / "sasl" / "smtpd.conf").write_text(_SASL.format(**values))
        database = self.folder / "etc" / "sasl" / "sasldb2"
        subprocess.run(
            [saslpasswd, "-p", "-c", "-f", str(database), "-u", "postfix.test", self.user],
            input=self.password.encode(),
            check=True,
        )
        os.chown(database, owner.pw_uid, -1)

    def _run(self, *command: str) -> None:
        arguments = [self._postfix, "-c", str(self.folder / "etc"), *command]
        done = subprocess.run(
            arguments, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=30
        )
        if done.returncode:
            log = self.log_file.read_text() if self.log_file.exists() else ""
            raise RuntimeError(f"{arguments} failed:\n{done.stderr.decode()}\n{log}")

    def received(self, count: int | None = None, timeout: float = 20.0) -> list[Received]:
        """Return what was delivered, one entry a recipient, oldest first; wait for *count* of them."""
        box = self.folder / "mail" / "all" / "new"

        def files() -> list[Path]:
            return sorted(box.iterdir()) if box.exists() else []

        if count is not None:
            wait_until(lambda: len(files()) >= count, f"{count} messages delivered", timeout)
        return [_read(file.read_bytes()) for file in sorted(files(), key=lambda f: f.stat().st_mtime_ns)]

    def connections(self) -> int:
        """Count the sessions that have ended so far, but not mere looks whether the port is open."""
        lines = self.log_file.read_text().splitlines()
        return sum(": disconnect from " in line and " ehlo=" in line for line in lines)

    def clear(self) -> None:
        """Forget what was delivered so far."""
        shutil.rmtree(self.folder / "mail" / "all", ignore_errors=True)

    def stop(self) -> None:
        """End Postfix and remove its folder."""
        pid_file = self.folder / "queue" / "pid" / "master.pid"
        if pid_file.exists():
            pid = int(pid_file.read_text())
            os.kill(pid, signal.SIGTERM)  # what "postfix abort" does, without its pauses
            wait_until(lambda: not Path(f"/proc/{pid}").exists(), "Postfix down")
        shutil.rmtree(self.folder, ignore_errors=True)


def _read(text: bytes) -> Received:
    fields, content = split_off_headers(text, _OWN_LINES)
    return Received(
        mail_from=fields[b"Return-Path"][0].decode().strip("<>"),
        rcpt_to=(fields[b"X-Original-To" if b"X-Original-To" in fields else b"Delivered-To"][0].decode(),),
        content=crlf(content),
    )
