"""What a fleet's ledger in PostgreSQL can take: from claim to outcome with nothing sent, and through SMTP.

``fleet.py FOLDER [ROWS]`` starts a server of its own (durable, as it comes), lets workers empty a queue of as
many rows, and prints one line of JSON. Rates for two cores are rows for each second of a processor that
server and workers used together, times two; those by the clock on the wall are next to them.

``fleet.py --smtp FOLDER ROWS`` sends as many messages to a receiver that does nothing, in each mode: from a
campaign's folder with its ledger in a file, and by one worker with one session. Rates are rows between the
first promise and the last outcome, by the clock on the wall, so nothing else may run meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ledgers import attempt
from measure import run_json

HERE = Path(__file__).resolve()
sys.path += [str(HERE.parent.parent), str(HERE.parent.parent / "tests")]

if TYPE_CHECKING:
    from setting import Setting
    from table import Results

    from mailmerge.ledger.server_place import ServerPlace
    from mailmerge.model import Attempt

WINDOW = 100
WORKERS = ((1, 1), (2, 1), (4, 8))
"""Processes, and slots in each."""
CORES = 2
MODES = ("off", "overlap", "window")
_TICKS = os.sysconf("SC_CLK_TCK")


def measure_fleet(setting: Setting, results: Results) -> None:
    """Fill in rows a second for one worker and for two, and compare with the ledger in a file."""
    rows = "20000" if setting.quick else "100000"
    found = run_json([setting.python, HERE, setting.folder, rows])
    section = f"fleet, windows of {WINDOW}, nothing sent"
    for what, cells in found["workers"].items():
        for unit, value in cells.items():
            results.put(section, f"{what}, {unit}", "ours", value)
    results.put(section, "a ledger in a file, us/row of the process", "ours", found["file"])
    most = max(cells["rows/s for two cores"] for cells in found["workers"].values())
    results.at_least("fleet: rows/s from claim to outcome on two cores", most, 5000)
    one = found["workers"]["workers x slots: 1 x 1"]["us/row of workers"]
    results.at_least(
        "a ledger in a file / one on a server, processor time of who sends", found["file"] / one, 0.8
    )
    results.note("fleet: the server's own time passes on another processor while other slots continue")
    sent = "4000" if setting.quick else "10000"
    section = "fleet, one worker through SMTP, rows/s"
    for mode, rates in run_json([setting.python, HERE, "--smtp", setting.folder, sent]).items():
        results.put(section, f"{mode}, ledger in a file", "ours", rates["file"])
        results.put(section, f"{mode}, ledger on a server", "ours", rates["server"])
        results.at_least(
            f"fleet: one worker through SMTP, {mode}: ledger on a server / in a file",
            rates["server"] / rates["file"],
            0.8,
        )


def _settled(attempts: list[Attempt], moment: datetime) -> list[object]:
    from mailmerge.ledger.attempts import Settlement
    from mailmerge.model import Outcome, Phase, Reply, Scope, Status

    reply = Reply(250, ("2.0.0 Ok: queued as 4F1A2B3C",), raw=b"250 2.0.0 Ok: queued as 4F1A2B3C")
    outcome = Outcome(Status.ACCEPTED, Scope.ROW, Phase.CONTENT, reply)
    return [Settlement(attempt, outcome, Status.ACCEPTED, moment) for attempt in attempts]


def _work(url: str, campaign: int, slots: int) -> dict[str, float]:
    """Empty the queue, in as many slots at the same time."""
    from concurrent.futures import ThreadPoolExecutor

    import mailmerge.ledger.place
    import mailmerge.ledger.slot_writer  # noqa: F401  not counted

    before = time.process_time()
    with ThreadPoolExecutor(slots) as pool:
        done = sum(pool.map(lambda _: _empty(url, campaign), range(slots)))
    return {"rows": done, "processor": time.process_time() - before}


def _empty(url: str, campaign: int) -> int:
    """Claim a window, promise it with the outcomes of the one before, until there is none."""
    from mailmerge.ledger.claims import Slot
    from mailmerge.ledger.server_place import ServerPlace
    from mailmerge.ledger.slot_writer import SlotWriter

    done, now = 0, datetime.now(UTC)
    with Slot.open(ServerPlace(url, "benchmark"), worker="benchmark", account="none") as slot:
        writer, settled = SlotWriter(slot, campaign), []
        while claimed := slot.claim(campaign, WINDOW):
            attempts = [attempt(row.key, row.row, now) for row in claimed]
            if writer.record_intent(attempts, settled):
                raise RuntimeError("a row was not promised")
            settled = _settled(attempts, now)
            done += len(attempts)
        writer.record_outcomes(settled)
        writer.fold()
    return done


def _in_file(folder: Path, rows: int) -> float:
    """Return microseconds a row of the processor for the ledger in a file, in the same windows."""
    from mailmerge.ledger.ledger import Ledger

    now = datetime.now(UTC)
    with Ledger.open(folder / "fleet.db", "benchmark") as ledger:
        ledger.note_version("version", {})
        settled: list[object] = []
        before = time.process_time()
        for start in range(0, rows, WINDOW):
            attempts = [
                attempt(f"user{n}@example.com", n, now) for n in range(start, min(start + WINDOW, rows))
            ]
            ledger.attempts.record_intent(attempts, settled)
            settled = _settled(attempts, now)
        ledger.attempts.record_outcomes(settled)
        return (time.process_time() - before) / rows * 1e6


class _Server:
    """A cluster with its usual settings but for the port: durable, and of no use to anybody else."""

    def __init__(self, folder: Path) -> None:
        from servers.postgres import _program
        from servers.programs import free_port

        self._as = ("runuser", "-u", "postgres", "--") if os.geteuid() == 0 else ()
        self._data, self._port = folder / "data", free_port()
        if self._as:
            owner = pwd.getpwnam("postgres")
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        self._control = (_program("pg_ctl"), "-D", str(self._data), "-s", "-w")
        self._run(_program("initdb"), "-D", str(self._data), "-U", "mailmerge", "--auth=trust", "--no-sync")
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
        self._run(*self._control, "-l", str(folder / "log"), "-o", options, "start")
        self.url = f"postgresql://mailmerge@127.0.0.1:{self._port}/postgres"

    def processor(self) -> float:
        """Return the seconds of a processor that all its processes have used, ended ones included."""
        master = int((self._data / "postmaster.pid").read_text().split()[0])
        seconds = 0
        for each in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = each.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(each.parent.name) == master:
                seconds += sum(map(int, fields[11:15]))
            elif int(fields[1]) == master:
                seconds += sum(map(int, fields[11:13]))
        return seconds / _TICKS

    def close(self) -> None:
        self._run(*self._control, "-m", "immediate", "stop")

    def _run(self, *command: str) -> None:
        with Path(os.devnull).open() as nothing:
            subprocess.run((*self._as, *command), cwd="/", stdin=nothing, stdout=nothing.fileno(), check=True)


def _measured(server: _Server, place: ServerPlace, workers: int, slots: int, rows: int) -> dict[str, float]:
    from mailmerge.ledger.work import QueuedRow, enqueue

    with place.open_for_writing(f"benchmark {workers} {slots}") as ledger:
        ledger.note_version("version", {})
        campaign = ledger._id  # noqa: SLF001
        keys = (f"user{n}@example.com" for n in range(rows))
        queued = (QueuedRow(n, key, n, "example.com", (key,)) for n, key in enumerate(keys))
        enqueue(place.session(), campaign, 1, queued)
    used, began = server.processor(), time.monotonic()
    running = [
        subprocess.Popen(
            [sys.executable, HERE, "--worker", server.url, str(campaign), str(slots)], stdout=subprocess.PIPE
        )
        for _ in range(workers)
    ]
    found = [json.loads(process.communicate()[0]) for process in running]
    wall, used = time.monotonic() - began, server.processor() - used
    if sum(each["rows"] for each in found) != rows:
        raise RuntimeError(f"not every row was sent: {found}")
    own = sum(each["processor"] for each in found)
    return {
        "rows/s for two cores": rows / (used + own) * CORES,
        "rows/s by the clock on the wall": rows / wall,
        "us/row of workers": own / rows * 1e6,
        "us/row of the server": used / rows * 1e6,
    }


def _compared(folder: Path, rows: int) -> dict[str, object]:
    import tempfile

    from mailmerge.ledger.server_place import ServerPlace

    with tempfile.TemporaryDirectory(dir=folder) as own:
        in_file = _in_file(Path(own), min(rows, 20_000))
    with tempfile.TemporaryDirectory(prefix="fleet-") as own:
        server = _Server(Path(own))
        try:
            place = ServerPlace(server.url, "benchmark")
            found = {
                f"workers x slots: {workers} x {slots}": _measured(server, place, workers, slots, rows)
                for workers, slots in WORKERS
            }
        finally:
            server.close()
    return {"workers": found, "file": in_file}


def _through_smtp(folder: Path, rows: int) -> dict[str, dict[str, float]]:
    """Return rows a second by mode, for each kind of ledger: the better of two turns."""
    import tempfile

    from network import compiled, free_port

    found: dict[str, dict[str, float]] = {mode: {"file": 0.0, "server": 0.0} for mode in MODES}
    port = free_port()
    with (
        tempfile.TemporaryDirectory(dir=folder) as own,
        tempfile.TemporaryDirectory(prefix="fleet-") as data,
        subprocess.Popen(
            [compiled("csink", folder), "127.0.0.1", str(port)], stdout=subprocess.DEVNULL
        ) as receiver,
    ):
        server = _Server(Path(data))
        try:
            for turn in range(2):
                for mode in MODES:
                    for kind, url in (("file", None), ("server", server.url)):
                        rate = _sent(Path(own) / f"{turn} {mode} {kind}", port, mode, rows, url)
                        found[mode][kind] = max(found[mode][kind], rate)
        finally:
            server.close()
            receiver.kill()
    return found


def _sent(folder: Path, port: int, mode: str, rows: int, url: str | None) -> float:
    """Send a campaign, and return rows a second; *url*: by a worker, with the ledger on that server."""
    import sqlite3

    import psycopg

    from campaigns import TO_PEOPLE, campaign_toml
    from reliability.bench import people
    from servers.command import Mailmerge

    mailmerge = Mailmerge(folder)
    mailmerge.patience = 600
    mailmerge.config.write_text(
        f'[accounts.x]\nhost = "127.0.0.1"\nport = {port}\ntls = "none"\nauth = "none"\nany_from = true\n'
        f'sessions = 1\npipeline = "{mode}"\n'
    )
    text = campaign_toml(top='account = "x"', message=TO_PEOPLE)
    mailmerge.campaign("spring", people_csv=people(rows), campaign_toml=text)
    if url is None:
        commands = [("send", "spring", "--yes")]
    else:
        mailmerge.environ["MAILMERGE_LEDGER"] = url
        with psycopg.connect(url, autocommit=True) as db:
            db.execute("DROP SCHEMA IF EXISTS mailmerge CASCADE")
        commands = [
            ("send", "spring", "--fleet", "--detach", "--yes"),
            ("worker", "--accounts", "x", "--until-done"),
        ]
    for command in commands:
        if (done := mailmerge(*command)).code:
            raise RuntimeError(f"{command}: {done.err}")
    query = "SELECT count(*), max(settled) - min(at) FROM {}attempt WHERE status = 'accepted'"
    if url is None:
        with contextlib.closing(sqlite3.connect(folder / "spring" / ".mailmerge" / "ledger.db")) as db:
            sent, seconds = db.execute(query.format("")).fetchone()
    else:
        with psycopg.connect(url) as db:
            sent, seconds = db.execute(query.format("mailmerge.")).fetchone()
    if sent != rows:
        raise RuntimeError(f"{sent} of {rows} messages were accepted")
    return float(sent / seconds)


if __name__ == "__main__":
    if sys.argv[1] == "--smtp":
        print(json.dumps(_through_smtp(Path(sys.argv[2]), int(sys.argv[3]))))
    elif sys.argv[1] == "--worker":
        print(json.dumps(_work(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
    else:
        print(json.dumps(_compared(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20_000)))
