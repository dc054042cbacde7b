"""What every way to keep a plan does: the same calls, the same answers, whatever it is kept in."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import io
import re
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mailmerge.errors import PlanDamaged
from mailmerge.model import Diagnostic, FrozenFile, Place, Severity, Status
from mailmerge.plan.loading import load
from mailmerge.plan.message_file import PLAIN
from mailmerge.plan.server_store import GROUP, ServerPlan, remove
from mailmerge.plan.sqlite_store import SqlitePlanReader, SqlitePlanWriter
from mailmerge.plan.store import PlanReader, PlanRow, PlanWriter
from mailmerge.postgres import PostgresDatabase, prepare
from mailmerge.values import Date, DateTime, Duration, Number, Time, Truth
from memory_plan import MemoryPlan
from plans import MADE, frozen, row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = "0123456789abcdef"

WRITERS: dict[str, Callable[[Path], PlanWriter]] = {
    "sqlite": lambda folder: SqlitePlanWriter(folder / NAME, MADE),
    "memory": lambda _: MemoryPlan(NAME, MADE),
}


class LoadedPlanWriter(SqlitePlanWriter):
    """Makes a plan in files, and gives what reads it in the database that it was loaded into."""

    def __init__(self, place: Path, made: datetime, db: PostgresDatabase) -> None:
        super().__init__(place, made)
        self._server = db

    def finish(self, summary: bytes, facts: bytes = b"") -> PlanReader:
        """See `PlanWriter`."""
        with super().finish(summary, facts) as reader:
            number = load(self._server, 1, reader, b"{}", lambda file: io.BytesIO(b"contents"[: file.size]))
            return ServerPlan.open(self._server, number)


@pytest.fixture(params=[*WRITERS, "postgres"])
def new_plan(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], PlanWriter]]:
    """Start a plan: ``with new_plan() as writer``."""
    if request.param != "postgres":
        yield lambda: WRITERS[request.param](tmp_path / "plans")
        return
    place = request.getfixturevalue("postgres_ledger")
    with PostgresDatabase.connect(place.conninfo, place.shown) as db:
        prepare(db, [GROUP])

        def begin() -> PlanWriter:
            remove(db, 1)  # several examples of one test have the same facts
            return LoadedPlanWriter(tmp_path / "plans" / NAME, MADE, db)

        yield begin


def finding(text: str, **more: object) -> Diagnostic:
    return Diagnostic(code="M201", message=text, **more)  # type: ignore[arg-type]


def filled(new_plan: Callable[[], PlanWriter], *rows: PlanRow) -> PlanReader:
    with new_plan() as writer:
        for one in rows:
            writer.add_row(one)
        return writer.finish(b"")


@pytest.mark.parametrize("kind", [SqlitePlanWriter, MemoryPlan])
def test_a_writer_has_what_the_protocol_says(kind: type) -> None:
    """Every method of `PlanWriter` is there with the same parameters."""
    for name, declared in inspect.getmembers(PlanWriter, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.signature(getattr(kind, name)) == inspect.signature(declared), name


def test_what_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    """A plan that is given up half-way leaves no file behind, whether by an error or not."""
    folder = tmp_path / "plans"
    with SqlitePlanWriter(folder / NAME, MADE) as writer:
        writer.add_row(row(0))
        writer.add_message(0, frozen(0))
    with contextlib.suppress(ZeroDivisionError), SqlitePlanWriter(folder / NAME, MADE) as writer:
        writer.add_row(row(0))
        raise ZeroDivisionError

    assert [path.name for path in folder.iterdir() if path.name != ".gitignore"] == []


def test_the_whole_is_told(new_plan: Callable[[], PlanWriter]) -> None:
    """Time, summary, facts and size are those that were given, and the plan has a name."""
    with new_plan() as writer:
        writer.add_row(row(0))
        writer.add_row(row(1))
        reader = writer.finish(b"\x00summary", b"facts\xff")

    with reader:
        told = (reader.made, reader.summary, reader.facts, reader.size, reader.has_messages)
        assert re.fullmatch("[0-9a-f]{16}", reader.name)
    assert told == (MADE, b"\x00summary", b"facts\xff", 2, True)


def test_an_empty_plan(new_plan: Callable[[], PlanWriter]) -> None:
    """A plan may have no row and no message."""
    with filled(new_plan) as reader:
        assert (reader.size, list(reader.rows()), list(reader.findings())) == (0, [], [])


CELLS = (
    "",
    "Müller, Jörg\r\n",
    "\x00",
    "\ud83d",
    Number(Decimal("1234.50")),
    Number(Decimal("1E+30"), "1,0E+30"),
    Date(date(2026, 3, 5), "05.03.2026", "2026-03-05 09:30"),
    DateTime(datetime(2026, 3, 5, 9, 30, 0, 250000)),  # noqa: DTZ001  a list's times have no zone
    Time(time(9, 30)),
    Duration(timedelta(days=-1, seconds=5)),
    Truth(value=True),
)


@pytest.mark.parametrize("cells", [CELLS, CELLS[:3], CELLS[4:]], ids=["all", "texts", "values"])
def test_a_row_comes_back_as_it_was(new_plan: Callable[[], PlanWriter], cells: tuple[object, ...]) -> None:
    """Every field, and each cell with its type, its shown text and its canonical text."""
    full = PlanRow(
        n=0,
        row=7,
        key="\ud800k",
        address="a@example.org",
        status=Status.DUPLICATE,
        detail="the same as row 2",
        row_digest="abc",
        recipients=("a@example.org", "b@example.org"),
        message=3,
        cells=cells,  # type: ignore[arg-type]
    )
    with filled(new_plan, full) as reader:
        [found] = reader.rows()

    assert found == full
    assert [type(cell) for cell in found.cells] == [type(cell) for cell in cells]
    assert list(map(repr, found.cells)) == list(map(repr, cells))


def test_rows_in_list_order(new_plan: Callable[[], PlanWriter]) -> None:
    """Rows come in list order, all of them or those that are ready, from any place on."""
    states = [Status.PENDING, Status.INVALID, Status.SKIPPED, Status.PENDING, Status.DUPLICATE] * 600
    rows = [row(n, status) for n, status in enumerate(states)]
    with filled(new_plan, *rows) as reader:
        assert list(reader.rows()) == rows
        assert list(reader.rows(after=2400)) == rows[2401:]
        assert [found.n for found in reader.rows(ready=True, after=4)] == [
            n for n, status in enumerate(states) if n > 4 and status is Status.PENDING
        ]


def test_addresses_of_all_rows(new_plan: Callable[[], PlanWriter]) -> None:
    """Those of rows that cannot be sent, too; in small letters, and none of a row that has no address."""
    rows = [replace(row(n), address=address) for n, address in enumerate(["A@x.org", "", "b@x.org"])]
    with filled(new_plan, *rows) as reader:
        assert list(reader.addresses()) == ["a@x.org", "b@x.org"]


def test_places_may_be_left_out(new_plan: Callable[[], PlanWriter]) -> None:
    """A plan of some rows only keeps their places in the list."""
    with filled(new_plan, row(3), row(8), row(20)) as reader:
        assert [found.n for found in reader.rows(after=3)] == [8, 20]
        assert [found.n for found in reader.rows_numbered([(5, 10)])] == [3, 8]


def test_two_readings_at_the_same_time(new_plan: Callable[[], PlanWriter]) -> None:
    """One reading does not disturb another one."""
    rows = [row(n) for n in range(1200)]
    with filled(new_plan, *rows) as reader:
        assert [
            (one.n, other.n) for one, other in zip(reader.rows(), reader.rows(after=99), strict=False)
        ] == [(n, n + 100) for n in range(1100)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    numbers=st.sets(st.integers(2, 60), max_size=25),
    bounds=st.lists(st.integers(2, 70), unique=True, max_size=8).map(sorted),
)
@example(numbers=set(), bounds=[2, 70])
def test_rows_by_their_numbers(
    new_plan: Callable[[], PlanWriter], numbers: set[int], bounds: list[int]
) -> None:
    """Ranges of row numbers give the rows that have them, whatever places those have in the list."""
    ranges = list(zip(bounds[::2], bounds[1::2], strict=False))
    rows = [
        PlanRow(n=n, row=number, key="", address="", status=Status.PENDING)
        for n, number in enumerate(sorted(numbers))
    ]
    with filled(new_plan, *rows) as reader:
        found = list(reader.rows_numbered(ranges))

    assert found == [one for one in rows if any(first <= one.row <= last for first, last in ranges)]


def test_a_row_can_be_replaced(new_plan: Callable[[], PlanWriter]) -> None:
    """A ready row becomes a duplicate, whether it was added recently or long before; it keeps its place."""
    with new_plan() as writer:
        for n in range(2500):
            writer.add_row(row(n))
        for n in (0, 1, 1100, 2499):
            writer.replace_row(row(n, Status.DUPLICATE, detail="the same as row 2"))
        with writer.finish(b"") as reader:
            assert reader.size == 2500
            assert [one.n for one in reader.rows() if one.status is Status.DUPLICATE] == [0, 1, 1100, 2499]
            assert 1 not in [one.n for one in reader.rows(ready=True)]


@pytest.mark.parametrize(
    ("misuse", "why"),
    [
        (lambda writer: writer.add_row(row(4)), "list order"),
        (lambda writer: writer.add_row(row(3)), "list order"),
        (lambda writer: writer.replace_row(row(5)), "was added"),
        (lambda writer: (writer.replace_row(row(2)), writer.finish(b"")), "was added"),
        (lambda writer: (writer.finish(b"").close(), writer.add_row(row(9))), "finished"),
        (lambda writer: (writer.finish(b"").close(), writer.replace_row(row(4))), "finished"),
        (lambda writer: (writer.finish(b"").close(), writer.add_message(9, frozen(9))), "finished"),
        (lambda writer: (writer.finish(b"").close(), writer.add_findings(None, [finding("x")])), "finished"),
        (lambda writer: (writer.finish(b"").close(), writer.finish(b"")), "finished"),
    ],
)
def test_a_misuse_is_refused(
    new_plan: Callable[[], PlanWriter], misuse: Callable[[PlanWriter], object], why: str
) -> None:
    """Rows out of order, a replaced row that is not there, and whatever comes after the end are refused."""
    with new_plan() as writer:
        writer.add_row(row(4))
        with pytest.raises(RuntimeError, match=why):
            misuse(writer)


def test_messages_come_back_as_they_were(new_plan: Callable[[], PlanWriter]) -> None:
    """Every message, in any order, the few that are kept plain and the many that are compressed."""
    files = (
        FrozenFile(b"/a/b.pdf", "b.pdf", hashlib.sha256(b"content").hexdigest(), 7),
        FrozenFile(b"/a/\xff.png", "c.png", hashlib.sha256(b"contents").hexdigest(), 8, "c"),
    )
    messages = [frozen(n) for n in range(PLAIN + 50)]
    messages[7] = frozen(7, body=(b"one", 0, b"two", 1), files=files)
    messages[PLAIN + 9] = frozen(PLAIN + 9, body=(b"one", 0, bytes(range(32, 127)) * 5000, 1), files=files)
    messages[PLAIN + 10] = frozen(PLAIN + 10, key="\ud800")
    with new_plan() as writer:
        numbers = list(range(1, len(messages) + 1))
        for number, message in zip(numbers, messages, strict=True):
            writer.add_message(number, message)
        with writer.finish(b"") as reader:
            for n in (PLAIN + 49, 0, PLAIN + 9, PLAIN - 1, PLAIN, 7, *range(len(messages))):
                assert reader.message(numbers[n]) == messages[n]


def test_a_message_that_is_not_there(new_plan: Callable[[], PlanWriter]) -> None:
    """An unknown number is a damaged plan, not another message."""
    with new_plan() as writer:
        writer.add_message(number := 0, frozen(0))
        with writer.finish(b"") as reader:
            for wrong in (number + 1, -1):
                with pytest.raises(PlanDamaged):
                    reader.message(wrong)


def test_findings(new_plan: Callable[[], PlanWriter]) -> None:
    """Findings come back whole: those in the whole first, then row by row, in the order they were added."""
    place = Place(path="a.html", line=3, column=4, width=2, source="<p>", cell="column x")
    full = finding("b", hint="do", severity=Severity.WARNING, place=place, row=9, address="\udc80@x")
    with new_plan() as writer:
        for n in range(4):
            writer.add_row(row(n))
        writer.add_findings(3, [finding("late"), finding("later")])
        writer.add_findings(1, [full])
        writer.add_findings(2, [])
        writer.add_findings(None, [finding("whole")])
        writer.add_findings(1, [finding("c")])
        with writer.finish(b"") as reader:
            found = [(n, one.message) for n, one in reader.findings()]
            assert found == [(None, "whole"), (1, "b"), (1, "c"), (3, "late"), (3, "later")]
            assert next(one for _, one in reader.findings(1)) == full
            assert [one.message for _, one in reader.findings(None)] == ["whole"]
            assert list(reader.findings(2)) == []


def test_a_finished_plan_can_be_opened_again(tmp_path: Path) -> None:
    """What was finished by one process is read by others, several at the same time."""
    with SqlitePlanWriter(tmp_path / NAME, MADE) as writer:
        writer.add_message(0, frozen(0))
        writer.add_row(row(0, message=0))
        first = writer.finish(b"s")
        place = tmp_path / f"{NAME}-{first.name}"

    with first, SqlitePlanReader(place) as one, SqlitePlanReader(place) as other:
        assert list(one.rows()) == list(other.rows())
        assert one.message(0) == other.message(0) == frozen(0)


def test_the_name_is_that_of_the_facts(tmp_path: Path) -> None:
    """The same facts have the same name, others another one."""
    names = []
    for facts in (b"a", b"b", b"a"):
        with SqlitePlanWriter(tmp_path / NAME, MADE) as writer, writer.finish(b"", facts) as reader:
            names.append(reader.name)

    assert names == [hashlib.sha256(facts).hexdigest()[:16] for facts in (b"a", b"b", b"a")]


def test_nothing_is_written_beside_a_plan(tmp_path: Path) -> None:
    """A plan is two files, also while it is read."""
    with SqlitePlanWriter(tmp_path / NAME, MADE) as writer:
        writer.add_row(row(0))
        with writer.finish(b"") as reader:
            next(reader.rows())
            names = [f"{NAME}-{reader.name}.messages", f"{NAME}-{reader.name}.plan"]
            assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_a_reader_keeps_its_plan_when_a_new_one_takes_its_place(tmp_path: Path) -> None:
    """Whoever reads continues with what was opened; the name belongs to the new plan."""
    with SqlitePlanWriter(tmp_path / NAME, MADE) as writer:
        for n in range(1500):
            writer.add_message(n, frozen(n))
            writer.add_row(row(n, message=n))
        old = writer.finish(b"old", b"facts")
    with old:
        rows = old.rows()
        next(rows)
        with SqlitePlanWriter(tmp_path / NAME, MADE) as writer, writer.finish(b"new", b"facts") as new:
            assert (new.name, new.summary) == (old.name, b"new")
        assert len(list(rows)) == 1499
        assert (old.summary, old.message(1499)) == (b"old", frozen(1499))


def test_rows_that_repeat_a_key(new_plan: Callable[[], PlanWriter]) -> None:
    """Every row of a key that occurs twice, in list order, whatever the rows are; no key repeats nothing."""
    keys = ["a", "b", "", "a", "\ud800", "c", "", "\ud800", "a"]
    states = [Status.INVALID, *[Status.PENDING] * 8]
    with new_plan() as writer:
        for n, (key, status) in enumerate(zip(keys, states, strict=True)):
            writer.add_row(replace(row(n, status), key=key))

        assert [one.n for one in writer.repeated(addresses=False)] == [0, 3, 4, 7, 8]


def test_rows_that_repeat_an_address(new_plan: Callable[[], PlanWriter]) -> None:
    """Where it is asked for, rows that may be sent to one address, however that is written."""
    addresses = ["a@x.org", "A@X.org", "b@x.org", "b@x.org", "c@x.org", "\udc80@x.org", "\udc80@X.ORG"]
    states = [Status.PENDING, Status.PENDING, Status.INVALID, *[Status.PENDING] * 4]
    with new_plan() as writer:
        for n, (address, status) in enumerate(zip(addresses, states, strict=True)):
            writer.add_row(replace(row(n, status), address=address))

        assert [one.n for one in writer.repeated(addresses=True)] == [0, 1, 5, 6]
        assert list(writer.repeated(addresses=False)) == []
        assert [one.n for one in writer.repeated(addresses=True, backwards=True)] == [6, 5, 3, 2, 1, 0]


def test_repeated_rows_are_replaced_on_the_way(new_plan: Callable[[], PlanWriter]) -> None:
    """Each row is yielded once, however many are replaced in the meantime."""
    with new_plan() as writer:
        for n in range(4000):
            writer.add_row(replace(row(n), key=f"k{n % 1000}", address="a@x.org"))
        seen = []
        for one in writer.repeated(addresses=True):
            seen.append(one.n)
            if one.n >= 1000:
                writer.replace_row(replace(one, status=Status.DUPLICATE, holds=False))

        assert seen == list(range(4000))
        with writer.finish(b"") as reader:
            assert sum(one.ready for one in reader.rows()) == 1000


def test_the_rows_that_hold_keys(new_plan: Callable[[], PlanWriter]) -> None:
    """A key leads to the one row that has it for itself; no key, and one that is not there, to none."""
    with filled(
        new_plan,
        replace(row(0), key="a", holds=False),
        replace(row(1), key="a"),
        replace(row(2), key="\ud800"),
        replace(row(3), key=""),
    ) as reader:
        found = reader.holders(["a", "\ud800", "", "z", "a"])

    assert {key: one.n for key, one in found.items()} == {"a": 1, "\ud800": 2}


def test_the_first_and_the_last_that_may_be_sent(new_plan: Callable[[], PlanWriter]) -> None:
    """Whatever is before, between and after them; of nobody there is neither."""
    out = Status.SKIPPED
    with filled(new_plan, row(0, out), row(1), row(2, out), row(3), row(4, out)) as reader:
        ends = reader.ready_ends()
    with filled(new_plan, row(0, out)) as nobody:
        assert nobody.ready_ends() is None
    assert ends is not None
    assert (ends[0].n, ends[1].n) == (1, 3)


def test_room_is_judged_by_what_was_added(new_plan: Callable[[], PlanWriter]) -> None:
    """Where there is enough, or nothing is known yet, nothing happens, and planning continues."""
    with new_plan() as writer:
        writer.expect(10)
        writer.add_row(row(0))
        writer.expect(0)
        writer.expect(100)
        writer.add_row(row(1))
        with writer.finish(b"") as reader:
            assert [one.n for one in reader.rows()] == [0, 1]


def test_rows_of_a_group_come_behind_each_other(new_plan: Callable[[], PlanWriter]) -> None:
    """Groups come by their first row, the rows of each in list order; what has no group is by itself."""
    given = [(n, kind, b"%d" % n) for n, kind in enumerate((b"b", b"", b"a", b"b", b"", b"a", b"c", b"b"))]
    with new_plan() as writer:
        found = list(writer.sort(given))
        writer.add_row(row(0))
        writer.finish(b"").close()

    assert [(first, int(kept)) for first, kept in found] == [
        (0, 0), (0, 3), (0, 7), (1, 1), (2, 2), (2, 5), (4, 4), (6, 6)
    ]  # fmt: skip


def test_further_rows_of_a_message_follow_its_first_one(new_plan: Callable[[], PlanWriter]) -> None:
    """They may be anywhere, are read in list order, and become what the first one becomes; it has the key."""
    first = row(0, rows=(2, 4), others=(2,), message=0)
    other = row(2, message=0, first=2, holds=False)
    with new_plan() as writer:
        writer.add_row(first)
        writer.add_others([msgspec.structs.replace(other, key="k0", address="p0@example.org")])
        writer.add_row(row(1))
        assert list(writer.repeated(addresses=True)) == []
        writer.replace_row(msgspec.structs.replace(first, status=Status.INVALID, detail="so"))
        reader = writer.finish(b"")

    with reader:
        rows = list(reader.rows())
        assert [(one.row, str(one.status), one.detail) for one in rows] == [
            (2, "invalid", "so"), (3, "pending", ""), (4, "invalid", "so")
        ]  # fmt: skip
        assert [one.row for one in reader.rows(ready=True)] == [3]
        assert reader.holders(["k0"])["k0"].row == 2
        assert [one.row for one in reader.others(rows[0])] == [4]
        assert [one.row for one in reader.rows_numbered([(4, 4)])] == [4]
