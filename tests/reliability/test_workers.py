"""Several processes make the plan that one makes; one that ends takes the plan with it, and nobody stays."""

from __future__ import annotations

import contextlib
import io
import os
import random
import resource
import signal
import subprocess
import sys
import time
from datetime import UTC, date, datetime
from datetime import time as hour
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from campaigns import CampaignFactory
from mailmerge import Campaign
from mailmerge.errors import InputError, ListError, MailmergeError
from mailmerge.plan import worker_program, workers
from mailmerge.plan.cache import PlanCache, PlanOwner
from mailmerge.plan.composer import Composer, recipe
from mailmerge.plan.path_log import PathLog
from mailmerge.plan.planner import Planner
from mailmerge.plan.rows import CHUNK, Chunk, ChunkMaker
from mailmerge.plan.worker_program import read_recipe, serve, setup
from mailmerge.plan.workers import SharedWork, WorkerPool, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.plan.rows import PackedChunk
    from mailmerge.plan.store import PlanReader, PlanRow

NOW = datetime(2026, 11, 27, tzinfo=UTC)
CAMPAIGN: dict[str, str | bytes | None] = {
    "body.txt": """Dear {{ name }},
{% if n|int % 7 == 0 %}a layout of its own{{ n }}{% endif %}
{% if n|int % 331 == 0 %}http://bit.ly/{{ n }}{% endif %}
{% if n|int > 700 %}<a href="{{ "x" * 3 }}">late{% endif %}
{{ 1 / (n|int - 611) }}
""",
    "body.html": """<html lang="en"><p>Dear {{ name }}</p>
{% if n|int > 650 %}<p style="display: grid">
{% if n|int > 800 %}<img src="logo.png">{% endif %}</p>{% endif %}
</html>
""",
    "logo.png": b"\x89PNG\r\n\x1a\n",
}
ROWS = 1000


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    """A campaign whose rows differ in layout, findings and fate, late in the list as early."""
    lines = ["email,name,n"]
    for n in range(ROWS):
        email = "nobody" if n % 97 == 5 else f"p{n % 948}@{('gmail.com', 'web.de', 'example.org')[n % 3]}"
        lines.append(f"{email},{'Ana' if n % 5 else ''},{n}")
    factory = CampaignFactory(tmp_path)
    folder = factory.folder
    factory(
        {**CAMPAIGN, "people.csv": "\n".join(lines) + "\n"},
        message="headers.List-Unsubscribe = '<https://example.org/u>'",
        rest='[[attach]]\npath = "files/{{ n }}.pdf"\nmissing = "skip"\n',
    )
    (folder / "files").mkdir()
    for n in (3, 300, 800, 950):
        (folder / "files" / f"{n}.pdf").write_bytes(b"pdf %d" % n)
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, ns=(1, time.time_ns() - 3_600_000_000_000))
    return factory.open()


class ReadyPool(WorkerPool):
    """Workers that are all there before the first row is given away."""

    made = 0

    def begin(self, setup: bytes, version: str) -> None:
        super().begin(setup, version)
        while not all(worker.version for worker in self._workers):
            self.pump(wait=True)

    def take(self, n: int) -> PackedChunk | None:
        type(self).made += 1
        return super().take(n)


def planned(campaign: Campaign, folder: Path, jobs: int, documents: Path | None = None) -> dict[str, object]:
    """Plan with so many processes, however short it takes, and give all that is in the plan."""
    definition, log = campaign.definition, PathLog()
    recipients = definition.open_list()
    made = recipe(definition.file, documents=documents)
    composer = Composer(made, recipients.columns, list_name=recipients.shown, files=log)
    planner = Planner(composer, recipients, jobs=jobs, take_paths=log.add, worth=0)
    with PlanCache(folder, PlanOwner("x", "y")).writer("0" * 16, NOW) as writer:
        summary = planner.plan(writer, lambda _: None)
        reader = writer.finish(msgspec.msgpack.encode(summary), msgspec.msgpack.encode(log.looked_at()))
    with reader:
        return contents(reader)


def contents(reader: PlanReader) -> dict[str, object]:
    """Return all of a plan."""
    rows = list(reader.rows())
    return {
        "name": reader.name,
        "summary": msgspec.msgpack.decode(reader.summary),
        "rows": rows,
        "messages": [reader.message(row.message) for row in rows if row.message is not None],
        "findings": list(reader.findings()),
    }


def test_any_number_of_processes_makes_the_same_plan(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows, messages, findings and their order, the summary and the facts are the same for 1, 2 and 4."""
    monkeypatch.setattr(workers, "WorkerPool", ReadyPool)
    one, two, four = (planned(campaign, tmp_path / str(jobs), jobs) for jobs in (1, 2, 4))

    assert two == one
    assert four == one
    assert ReadyPool.made >= 4
    assert set(one["summary"]["statuses"]) == {"pending", "invalid", "duplicate"}  # type: ignore[index]


def test_workers_are_started_while_a_long_list_is_read(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are ready sooner then; the plan is the same, and they end where the list cannot be read on."""
    started: list[subprocess.Popen[bytes]] = []

    class Noted(workers.WorkerProcess):
        def __init__(self) -> None:
            super().__init__()
            started.append(self.process)

    monkeypatch.setattr(workers, "WorkerProcess", Noted)
    monkeypatch.setattr(workers, "WorkerPool", ReadyPool)
    made = ReadyPool.made
    assert planned(campaign, tmp_path / "2", 2) == planned(campaign, tmp_path / "1", 1)
    assert len(started) == 1
    assert ReadyPool.made > made

    with (campaign.definition.file.folder / "people.csv").open("ab") as people:
        people.write(b'"p@example.org,never closed\n')
    with pytest.raises(ListError):
        planned(campaign, tmp_path / "3", 3)
    assert len(started) == 3
    assert all(process.returncode is not None for process in started)


def test_groups_are_the_same_for_any_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that share a message are together, wherever in the list they are and whoever makes it."""
    lines = ["email,name,n"]
    for n in range(ROWS):
        email = "nobody" if n % 97 == 5 else f"p{n * 7 % 400}@example.org"
        lines.append(f"{email},{'Ana' if n % 101 else 'Di'},{n}")
    factory = CampaignFactory(tmp_path)
    body = "Dear {{ name }},\n{% for r in rows %}{{ r.n }} {% endfor %}\n"
    factory({"people.csv": "\n".join(lines) + "\n", "body.txt": body}, data='group_by = "email"')
    campaign = factory.open()
    monkeypatch.setattr(workers, "WorkerPool", ReadyPool)
    made = ReadyPool.made
    one, three = (planned(campaign, tmp_path / str(jobs), jobs) for jobs in (1, 3))

    assert three == one
    assert ReadyPool.made > made
    rows: list[PlanRow] = one["rows"]  # type: ignore[assignment]
    assert [row.n for row in rows] == list(range(ROWS))
    firsts = {row.row: row for row in rows if row.first is None}
    assert all(row.row in firsts[row.first].rows for row in rows if row.first is not None)
    assert set(one["summary"]["statuses"]) == {"pending", "invalid"}  # type: ignore[index]


def test_files_made_for_rows_are_the_same_for_any_number_of_processes(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their octets, and the names that they are kept under, whoever made which."""
    folder = campaign.definition.file.folder
    (folder / "note.txt").write_text("Dear {{ name }}, your number is {{ n }}.\n")
    with (folder / "campaign.toml").open("a") as toml:
        toml.write('\n[[attach]]\ntemplate = "note.txt"\n')
    campaign = Campaign.load(folder)
    monkeypatch.setattr(workers, "WorkerPool", ReadyPool)
    made = ReadyPool.made
    kept, plans = {}, {}
    for jobs in (1, 2):
        documents = tmp_path / f"documents{jobs}"
        plans[jobs] = planned(campaign, tmp_path / str(jobs), jobs, documents)
        kept[jobs] = {path.name: path.read_bytes() for path in documents.rglob("*") if path.is_file()}

    assert ReadyPool.made > made
    assert kept[2] == kept[1]
    assert sum(b"your number is" in content for content in kept[1].values()) > ROWS / 2
    paths = str(tmp_path / "documents1"), str(tmp_path / "documents2")
    assert repr(plans[2]["messages"]).replace(paths[1], paths[0]) == repr(plans[1]["messages"])


class Shuffled:
    """Helpers that finish chunks in any order, some only when they are waited for."""

    def __init__(self, maker: ChunkMaker, campaign: Campaign, seed: int) -> None:
        self._random = random.Random(seed)
        self._maker = maker
        self._columns = campaign.definition.open_list().columns
        self._given: list[Chunk] = []
        self._done: dict[int, PackedChunk | None] = {}

    @property
    def wants(self) -> bool:
        return len(self._given) < self._random.randrange(6)

    def give(self, chunk: Chunk) -> None:
        self._given.append(chunk)

    def pump(self, *, wait: bool = False) -> None:
        if self._given and (wait or self._random.random() < 0.01):
            chunk = self._given.pop(self._random.randrange(len(self._given)))
            gives_back = self._random.random() < 0.2
            self._done[chunk.n] = None if gives_back else self._maker.make(chunk.placed(self._columns))

    def is_done(self, n: int) -> bool:
        return n in self._done

    def take(self, n: int) -> PackedChunk | None:
        return self._done.pop(n)


def test_chunks_are_taken_in_the_lists_order(campaign: Campaign) -> None:
    """However they finish, and whoever makes them, chunks come in order, each once."""
    composer = campaign.definition.composer(campaign.definition.open_list())
    for seed in range(3):
        helpers = Shuffled(ChunkMaker(composer, composer.lint(), b"d"), campaign, seed)
        maker = ChunkMaker(composer, composer.lint(), b"d")
        made = SharedWork(helpers, maker, enumerate(campaign.definition.open_list()))

        assert [record.row[0] for chunk in made for record in chunk.records] == list(range(ROWS)), seed


def pool_of(campaign: Campaign, count: int = 1, version: str = "") -> tuple[WorkerPool, list[Chunk]]:
    """Start workers for a campaign, and give its chunks."""
    recipients = campaign.definition.open_list()
    composer = campaign.definition.composer(recipients)
    told = setup(composer.recipe, recipients.columns, recipients.shown, b"dictionary")
    rows = list(recipients)
    placed = list(enumerate(rows))
    chunks = [Chunk.of(placed[n : n + CHUNK]) for n in range(0, len(rows), CHUNK)]
    pool = WorkerPool(count)
    pool.begin(told, version or composer.version)
    return pool, chunks


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Fail where something hangs."""

    def ring(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def pump_on(pool: WorkerPool) -> None:
    while True:
        pool.pump(wait=True)


def until_ready(pool: WorkerPool) -> None:
    while not pool.wants:
        pool.pump(wait=True)


def test_a_worker_that_is_killed_is_an_error_with_its_rows(campaign: Campaign, tmp_path: Path) -> None:
    """Killed in the middle, it is an error that names the rows; no plan is left, and no process."""
    started: list[int] = []

    class Killed(workers.WorkerProcess):
        def give(self, chunk: Chunk) -> None:
            super().give(chunk)
            started.append(self.process.pid)
            if len(started) == 3:
                os.kill(self.process.pid, signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patch, at_most(60):
        patch.setattr(workers, "WorkerProcess", Killed)
        patch.setattr(workers, "WorkerPool", ReadyPool)
        patch.setattr("mailmerge.plan.planner.Planner._is_worth_workers", lambda _self: True)
        with pytest.raises(MailmergeError, match=r"ended at rows [\d,]+ to [\d,]+: SIGKILL") as caught:
            campaign.plan(jobs=3)

    assert (caught.value.code, caught.value.exit_code) == ("C473", 2)
    assert "jobs=1" in (caught.value.hint or "")
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.name != ".gitignore"] == []
    for pid in started:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_worker_without_memory_says_so(campaign: Campaign) -> None:
    """A worker that gets no more memory ends, and the error says why."""
    pool, _ = pool_of(campaign)
    big = Chunk(((0, 2, ("a@example.org", "x" * 50_000_000, "1"), None, (), "", ()),))
    with pool, at_most(60):
        until_ready(pool)
        [one] = pool._workers
        used = int(Path(f"/proc/{one.process.pid}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(one.process.pid, resource.RLIMIT_AS, (used + 20_000_000, used + 20_000_000))
        pool.give(big)
        with pytest.raises(MailmergeError, match="ended at row 2: it ran out of memory"):
            pump_on(pool)


def test_a_worker_that_cannot_start_says_why(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python says last is in the error."""
    monkeypatch.setattr(workers, "COMMAND", ("-c", "raise SystemExit('no such thing')"))
    pool, _ = pool_of(campaign)

    with pool, at_most(60), pytest.raises(MailmergeError, match="exit code 1: no such thing"):
        pump_on(pool)


def test_workers_end_with_the_one_that_started_them(campaign: Campaign) -> None:
    """A worker ends when its input does; nobody has to kill it."""
    pool, chunks = pool_of(campaign)
    with pool, at_most(60):
        until_ready(pool)
        [one] = pool._workers
        pool.give(chunks[0])
        assert one.process.stdin is not None
        assert one.process.stdout is not None
        one.process.stdin.close()
        one.process.stdout.close()

        assert one.process.wait(timeout=20) == 0


def test_no_secret_reaches_a_worker(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment has nothing of ours and nothing of SMTP's, nor what else is secret."""
    monkeypatch.setenv("SMTP_AUTH", "hunter2")
    monkeypatch.setenv("MAILMERGE_SMTP_PASSWORD", "hunter2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    pool, _ = pool_of(campaign)
    with pool, at_most(60):
        until_ready(pool)
        environ = Path(f"/proc/{pool._workers[0].process.pid}/environ").read_bytes()

    assert b"hunter2" not in environ
    assert not any(name.startswith((b"SMTP_", b"MAILMERGE_")) for name in environ.split(b"\0"))
    assert "PATH" in environment()


def test_other_templates_than_the_planners_are_refused(campaign: Campaign) -> None:
    """Templates that change before a worker reads them end the plan: it would be made of both."""
    pool, _ = pool_of(campaign, version="another")

    with pool, at_most(60), pytest.raises(InputError) as caught:
        pump_on(pool)
    assert caught.value.code == "C474"


def test_a_worker_answers_what_it_is_asked(campaign: Campaign) -> None:
    """In this process: the version, rows as the planner makes them, nothing for an error, the paths."""
    recipients = campaign.definition.open_list()
    composer = campaign.definition.composer(recipients)
    rows = list(enumerate(recipients))
    good = Chunk.of(rows[:3])
    bad = Chunk(((3, 5, ("too", "few"), None, (), "", ()),))
    told = [
        setup(composer.recipe, recipients.columns, recipients.shown, b"d"),
        worker_program.CHUNK.encode(good),
        worker_program.CHUNK.encode(bad),
        b"",
    ]
    answers: list[bytes] = []
    serve(io.BytesIO(b"".join(map(worker_program.frame, told)) + b"\0\0"), answers.append)

    version, made, failed, looked_at = (answer[worker_program.HEAD :] for answer in answers)
    assert version.decode() == composer.version
    assert worker_program.PACKED.decode(made) == ChunkMaker(composer, composer.lint(), b"d").make(rows[:3])
    assert failed == worker_program.FAILED
    assert any(one.path.endswith(b"files/1.pdf") for one in worker_program.LOOKED_AT.decode(looked_at).paths)


def test_a_recipe_comes_back_as_it_was(tmp_path: Path) -> None:
    """Paths, numbers, dates and places are the same for a worker as for the planner."""
    campaign = CampaignFactory(tmp_path)(
        {"body.html": "<p>x</p>"},
        message='layout = "letter"\nlayout_vars = { colour = "#0b6b59" }\npreheader = "x"\n'
        'cc = ["{{ a }}", "{{ b }}"]\nheaders.X-A = "1"',
        data='where = "name"',
        top="vars.club = 'The Club'\nvars.half = 0.5\nvars.many = 3\nvars.day = 2026-03-05\nvars.yes = true\n"
        "vars.at = 09:41:00\nvars.when = 2026-03-05T09:41:00",
        rest='[[attach]]\npath = "{{ n }}.pdf"\n[check]\nignore = ["M201"]\n',
    )
    made = recipe(campaign.file)
    variables = {**made.templates.vars, "d": Decimal("1.10"), "big": 1 << 90}
    made = msgspec.structs.replace(made, templates=msgspec.structs.replace(made.templates, vars=variables))
    kept = worker_program.SETUP.decode(setup(made, campaign.definition.open_list().columns, "l", b""))

    assert read_recipe(kept.recipe) == made
    assert {type(value) for value in made.templates.vars.values()} >= {
        date,
        hour,
        datetime,
        bool,
        Decimal,
        int,
    }


SCRIPT = """
import resource
from mailmerge import Campaign
from mailmerge.plan.planner import Planner
Planner.__init__.__kwdefaults__["worth"] = 0.1
print("top level", flush=True)
rows = ({"email": f"p{n}@example.org", "n": n} for n in range(5000))
campaign = Campaign.from_rows(
    rows, subject="Hi", sender="me@example.org", state="state",
    text="Dear {{ n }}{% for i in range(300) %}{{ i }}{% endfor %}\\n",
)
plan = campaign.plan(jobs=2)
print(plan.ready, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime > 0)
"""


def test_a_script_without_a_guard_runs_once(tmp_path: Path) -> None:
    """Workers are a program of their own: the top level of the script that plans is not run again."""
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )

    assert done.stdout.splitlines() == ["top level", "5000 True"]


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_no_worker_outlives_the_command(tmp_path: Path, sign: signal.Signals, code: int) -> None:
    """Interrupted or killed in the middle of planning, the command leaves no process and no plan."""
    factory = CampaignFactory(tmp_path)
    slow = "{% for i in range(3000) %}{{ i }}{% endfor %}\n"
    rows = [f"p{n}@example.org,{n}" for n in range(20_000)]
    factory({"body.txt": slow}, rows=rows)
    command = [sys.executable, "-m", "mailmerge", "check", "--jobs", "2", str(factory.folder)]
    python_path = os.pathsep.join(filter(None, sys.path))
    with (
        subprocess.Popen(
            command,
            env={**os.environ, **factory.environ, "PYTHONPATH": python_path},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as running,
        at_most(60),
    ):
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
        while not (started := children.read_text().split()):
            time.sleep(0.02)
        running.send_signal(sign)

        assert running.wait() == code
        while any(is_running(int(pid)) for pid in started):
            time.sleep(0.02)
    assert not list((tmp_path / "cache").glob("*.plan"))


def is_running(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
