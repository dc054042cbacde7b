"""What a fleet's ledger in PostgreSQL can take: from claim to outcome, with nothing sent in between.

``fleet.py FOLDER [ROWS]`` starts a server of its own (durable, as it comes), lets one worker and then two
empty a queue of as many rows, and prints one line of JSON. Rates are rows for each second of a processor that
server and workers used together, times two cores; those by the clock on the wall are beside them.
"""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from measure import run_json

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent.parent / "tests")]

if TYPE_CHECKING:
    from setting import Setting
    from table import Results

    from mailmerge.ledger.place import ServerPlace
    from mailmerge.model import Attempt

WINDOW = 100
CORES = 2
_TICKS = os.sysconf("SC_CLK_TCK")


def measure_fleet(setting: Setting, results: Results) -> None:
    """Fill in rows a second for one worker and for two, and compare with the ledger in a file."""
    rows = "20000" if setting.quick else "100000"
    found = run_json([setting.python, HERE, setting.folder, rows])
    section = f"fleet, rows/s from claim to outcome (windows of {WINDOW}, nothing sent)"
    for what, cells in found["workers"].items():
        results.put(section, f"{what}, on {CORES} cores by processor time", "ours", cells["by_processor"])
        results.put(section, f"{what}, by the clock on the wall", "ours", cells["by_wall"])
    results.put(section, "the same ledger in a file, one process", "ours", found["file"])
    most = max(cells["by_processor"] for cells in found["workers"].values())
    results.at_least("fleet: rows/s from claim to outcome on two cores", most, 5000)
    one = found["workers"]["1 worker"]["by_processor"]
    results.at_least("fleet with one worker / ledger in a file", one / found["file"], 0.8)


def _attempt(key: str, row: int, moment: datetime) -> Attempt:
    from mailmerge.model import Attempt

    return Attempt(
        key=key,
        row=row,
        address=key,
        number=1,
        message_id=f"<{row:040x}@example.com>",
        date=moment,
        recipients=1,
        size=19_000,
        digest="0" * 64,
        frozen="0" * 64,
        row_digest="0" * 16,
        version="version",
        connection="0" * 12,
    )


def _settled(attempts: list[Attempt], moment: datetime) -> list[object]:
    from mailmerge.ledger.attempts import Settlement
    from mailmerge.model import Outcome, Phase, Reply, Scope, Status

    reply = Reply(250, ("2.0.0 Ok: queued as 4F1A2B3C",), raw=b"250 2.0.0 Ok: queued as 4F1A2B3C")
    outcome = Outcome(Status.ACCEPTED, Scope.ROW, Phase.CONTENT, reply)
    return [Settlement(attempt, outcome, Status.ACCEPTED, moment) for attempt in attempts]


def _work(url: str, campaign: int) -> dict[str, float]:
    """Empty the queue: claim a window, promise it with the outcomes of the one before."""
    from mailmerge.ledger.claims import Slot
    from mailmerge.ledger.place import ServerPlace
    from mailmerge.ledger.slot_writer import SlotWriter

    done, now = 0, datetime.now(UTC)
    with Slot.open(ServerPlace(url, "benchmark"), worker="benchmark", account="none") as slot:
        writer, settled = SlotWriter(slot, campaign), []
        before = time.process_time()
        while claimed := slot.claim(campaign, WINDOW):
            attempts = [_attempt(row.key, row.row, now) for row in claimed]
            if writer.record_intent(attempts, settled):
                raise RuntimeError("a row was not promised")
            settled = _settled(attempts, now)
            done += len(attempts)
        writer.record_outcomes(settled)
        writer.fold()
    return {"rows": done, "processor": time.process_time() - before}


def _in_file(folder: Path, rows: int) -> float:
    """Give rows a second of one core for the ledger in a file, in the same windows."""
    from mailmerge.ledger.ledger import Ledger

    now = datetime.now(UTC)
    with Ledger.open(folder / "fleet.db", "benchmark") as ledger:
        ledger.note_version("version", {})
        settled: list[object] = []
        before = time.process_time()
        for start in range(0, rows, WINDOW):
            attempts = [
                _attempt(f"user{n}@example.com", n, now) for n in range(start, min(start + WINDOW, rows))
            ]
            ledger.attempts.record_intent(attempts, settled)
            settled = _settled(attempts, now)
        ledger.attempts.record_outcomes(settled)
        return rows / (time.process_time() - before)


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
        """Give the seconds of a processor that all its processes have used, ended ones included."""
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


def _measured(server: _Server, place: ServerPlace, workers: int, rows: int) -> dict[str, float]:
    from mailmerge.ledger.work import QueuedRow, enqueue

    with place.open_for_writing(f"benchmark {workers}") as ledger:
        ledger.note_version("version", {})
        campaign = ledger._id  # noqa: SLF001
        keys = (f"user{n}@example.com" for n in range(rows))
        queued = (QueuedRow(n, key, n, "example.com", (key,)) for n, key in enumerate(keys))
        enqueue(place.session(), campaign, 1, queued)
    used, began = server.processor(), time.monotonic()
    running = [
        subprocess.Popen(
            [sys.executable, HERE, "--worker", server.url, str(campaign)], stdout=subprocess.PIPE
        )
        for _ in range(workers)
    ]
    found = [json.loads(process.communicate()[0]) for process in running]
    wall, used = time.monotonic() - began, server.processor() - used
    if sum(each["rows"] for each in found) != rows:
        raise RuntimeError(f"not every row was sent: {found}")
    own = sum(each["processor"] for each in found)
    return {
        "by_processor": rows / (used + own) * CORES,
        "by_wall": rows / wall,
        "us_of_workers": own / rows * 1e6,
        "us_of_server": used / rows * 1e6,
    }


def _compared(folder: Path, rows: int) -> dict[str, object]:
    import tempfile

    from mailmerge.ledger.place import ServerPlace

    with tempfile.TemporaryDirectory(dir=folder) as own:
        in_file = _in_file(Path(own), min(rows, 20_000))
    with tempfile.TemporaryDirectory(prefix="fleet-") as own:
        server = _Server(Path(own))
        try:
            place = ServerPlace(server.url, "benchmark")
            found = {f"{n} worker{'s' * (n > 1)}": _measured(server, place, n, rows) for n in (1, 2)}
        finally:
            server.close()
    return {"workers": found, "file": in_file}


if __name__ == "__main__":
    if sys.argv[1] == "--worker":
        print(json.dumps(_work(sys.argv[2], int(sys.argv[3]))))
    else:
        print(json.dumps(_compared(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20_000)))
