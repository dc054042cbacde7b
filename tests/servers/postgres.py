"""A real PostgreSQL server on loopback, in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

from servers import programs
from servers.programs import free_port

if TYPE_CHECKING:
    from collections.abc import Sequence

USER, PASSWORD = "mailmerge", "geheim"
_BIN = "/usr/lib/postgresql/*/bin"


def _program(name: str) -> str:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    if not found:
        programs.refuse(f"{name} of PostgreSQL is not installed (scripts/install-test-programs)")
    return str(found[0])


class Postgres:
    """A cluster in a folder of its own; not durable, because no test cuts its power."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self.port = free_port()
        self._as = ("runuser", "-u", "postgres", "--") if os.geteuid() == 0 else ()
        if self._as:
            owner = pwd.getpwnam("postgres")
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        data = str(self._folder / "data")
        self._run(
            _program("initdb"), "-D", data, "-U", USER, "--pwfile", str(secret), "--auth=scram-sha-256",
            "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions",
        )  # fmt: skip
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off "
            "-c max_connections=60 -c shared_buffers=16MB -c logging_collector=off"
        )
        self._control = (_program("pg_ctl"), "-D", data, "-s", "-w")
        self._options = options
        self.start()

    def start(self) -> None:
        """Start it."""
        self._run(*self._control, "-l", str(self._folder / "log"), "-o", self._options, "start")

    def url(self, database: str = "postgres") -> str:
        """Return the address of a database, with the password."""
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Empty the one database, which is quicker than making another; give its address."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute("DROP SCHEMA IF EXISTS mailmerge CASCADE")
        return self.url()

    def stop(self, mode: str = "fast") -> None:
        """Stop it."""
        self._run(*self._control, "-m", mode, "stop")

    def crash(self) -> None:
        """End it without a word to anybody, as a crash would, and start it again."""
        self._run(*self._control, "-m", "immediate", "-l", str(self._folder / "log"), "restart")

    def close(self) -> None:
        """Stop it and remove its folder."""
        self.stop("immediate")
        shutil.rmtree(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, *command: str) -> None:
        run: Sequence[str] = (*self._as, *command)
        done = subprocess.run(
            run,
            cwd="/",
            env=programs.unmeasured(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


class PgBouncer:
    """A real PgBouncer before a cluster, in transaction mode."""

    def __init__(self, postgres: Postgres, *, ignoring: str = "") -> None:
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
        users = self._folder / "users.txt"
        users.write_text(f'"{USER}" "{PASSWORD}"\n')
        configuration = self._folder / "pgbouncer.ini"
        configuration.write_text(
            f"[databases]\n* = host=127.0.0.1 port={postgres.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {self.port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {users}\n"
            f"pool_mode = transaction\ndefault_pool_size = 4\nignore_startup_parameters = {ignoring}\n"
        )
        as_nobody = ("runuser", "-u", "postgres", "--") if os.geteuid() == 0 else ()
        if as_nobody:
            owner = pwd.getpwnam("postgres")
            for path in (self._folder, users, configuration):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        command = (*as_nobody, programs.require("pgbouncer"), "-q", str(configuration))
        self._program = programs.Program(command, self._folder / "log", cwd=Path("/"))
        self._program.wait_for_port(self.port)

    def url(self, database: str = "postgres") -> str:
        """Return the address of a database through it, with the password."""
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def close(self) -> None:
        """Stop it and remove its folder."""
        self._program.stop()
        shutil.rmtree(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _commits(data: bytes) -> bool:
    """Tell whether a client's write ends a transaction: by COMMIT, or the Sync of a pipeline."""
    return b"COMMIT\0" in data or (b"mailmerge_" in data and data.endswith(b"S\0\0\0\x04"))


class CuttingProxy:
    """Cuts a connection when the server has committed, before its client hears of it, or falls silent."""

    def __init__(self, postgres: Postgres) -> None:
        self._server = ("127.0.0.1", postgres.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cuts = False
        """Whether the next commit is to be cut; it is the last one then."""
        self.silent = False
        """Whether nothing that comes in is passed on, for good."""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                server = socket.create_connection(self._server)
                cut = threading.Event()
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._forward, args=(*pair, cut), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, cut: threading.Event) -> None:
        to_server = target.getpeername() == self._server
        with source, target, contextlib.suppress(OSError):
            while data := source.recv(65536):
                if to_server and self.cuts and _commits(data):
                    self.cuts = False
                    cut.set()
                if cut.is_set() and not to_server:
                    break
                if not self.silent:
                    target.sendall(data)
            for end in (source, target):
                end.shutdown(socket.SHUT_RDWR)
