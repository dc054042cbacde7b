"""Servers that take and forget mail: Postfix with its own configuration, smtp-sink, and csink."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from network import Network, Processes, compiled, free_port, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = {"postfix": "Postfix", "smtp-sink": "smtp-sink", "csink": "free server"}
_MEMORY = Path("/dev/shm")  # noqa: S108  a folder of our own is made in it
_SBIN = "/usr/sbin:/usr/local/sbin:/sbin"

_MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {folder}/mail.log
maillog_file_prefixes = {folder}
myhostname = postfix.bench
mydestination =
mynetworks = 127.0.0.0/8 10.99.0.0/24
inet_interfaces = {host}
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
default_transport = discard
relay_transport = discard
in_flow_delay = 0
smtpd_peername_lookup = no
smtpd_recipient_restrictions = permit_mynetworks, reject
"""
_MASTER = """\
{host}:{port} inet n - n - - smtpd
postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
showq unix n - n - - showq
"""


@contextlib.contextmanager
def sinks(network: Network, folder: Path) -> Iterator[dict[str, int]]:
    """Start what this machine has; yield the port of each."""
    ports: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        processes = stack.enter_context(Processes())
        ports["csink"] = free_port()
        command = [*network.on_server(), str(compiled("csink", folder)), network.host, str(ports["csink"])]
        processes.start(command, folder / "csink.log")
        if smtp_sink := shutil.which("smtp-sink", path=_SBIN):
            ports["smtp-sink"] = free_port()
            user = [] if os.geteuid() else ["-u", "nobody"]
            address = f"{network.host}:{ports['smtp-sink']}"
            processes.start(
                [*network.on_server(), smtp_sink, "-4", *user, address, "100"], folder / "sink.log"
            )
        if shutil.which("postfix", path=_SBIN) and not os.geteuid():
            ports["postfix"] = stack.enter_context(_postfix(network))
        for name, port in ports.items():
            probe = ["bash", "-c", f"exec 3<>/dev/tcp/{network.host}/{port}"]
            wait_for(
                lambda probe=probe: (
                    not subprocess.run(
                        [*network.on_server(), *probe], check=False, capture_output=True
                    ).returncode
                ),
                name,
            )
        yield ports


@contextlib.contextmanager
def _postfix(network: Network) -> Iterator[int]:
    """Run a Postfix whose queue is in memory: its own cost, without the disk's."""
    folder = Path(tempfile.mkdtemp(prefix="bench-postfix-", dir=_MEMORY if _MEMORY.is_dir() else None))
    folder.chmod(0o755)
    port = free_port()
    for name in ("etc", "queue", "data"):
        (folder / name).mkdir()
    os.chown(folder / "data", pwd.getpwnam("postfix").pw_uid, -1)
    for name in ("dynamicmaps.cf", "dynamicmaps.cf.d", "postfix-files", "postfix-files.d"):
        source = Path("/etc/postfix", name)  # the package's own lists of what it installed
        if source.is_dir():
            shutil.copytree(source, folder / "etc" / name)
        elif source.exists():
            shutil.copy(source, folder / "etc" / name)
    values = {"folder": folder, "host": network.host, "port": port}
    (folder / "etc" / "main.cf").write_text(_MAIN.format(**values))
    (folder / "etc" / "master.cf").write_text(_MASTER.format(**values))
    try:
        command = [*network.on_server(), "postfix", "-c", str(folder / "etc"), "start"]
        subprocess.run(
            command, check=True, capture_output=True, timeout=30, env={**os.environ, "PATH": _path()}
        )
        yield port
    finally:
        pid_file = folder / "queue" / "pid" / "master.pid"
        if pid_file.exists():
            pid = int(pid_file.read_text())
            os.kill(pid, signal.SIGTERM)
            with contextlib.suppress(RuntimeError):
                wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the end of Postfix")
        shutil.rmtree(folder, ignore_errors=True)


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:{_SBIN}"
