"""A16 to A19 and A30 to A34: lists, templates and files that change, and runs that must not send."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faultd import say
from mailmerge.campaign.run import SendRequest
from mailmerge.errors import CampaignFileError, ListError
from mailmerge.model import Status
from reliability.bench import NAME, Bench, address, people, taken_order
from reliability.clocks import SkippingClock
from reliability.moody import MoodyServer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mailmerge.campaign.plan import Plan
    from mailmerge.sending.runs import Progress

KEYED = 'key = "id"'


class StopAfter:
    """Asks the run to stop once it was told of *count* outcomes."""

    def __init__(self, count: int) -> None:
        self._left = count

    def observe(self, progress: Progress) -> None:
        """Count an outcome."""
        self._left -= progress.status is not None

    def is_set(self) -> bool:
        """Return whether it is time."""
        return self._left <= 0


# --- A16, A17 --------------------------------------------------------------------------------------------


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[list[int], int]]:
    """Lists that are sorted, grown and shrunk, each with the number of outcomes after which its run stops."""
    everyone = st.lists(st.integers(1, 14), min_size=1, max_size=14, unique=True)
    return draw(st.lists(st.tuples(everyone, st.integers(1, 6)), min_size=1, max_size=5))


def _listed(numbers: Sequence[int]) -> str:
    return "id,email,name\n" + "".join(f"k{n},{address(n)},Person {n}\n" for n in numbers)


@settings(
    max_examples=1000 if os.environ.get("MAILMERGE_SOAK_SECONDS") else 12,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(history=histories(), keyed=st.booleans(), mode=st.sampled_from(["off", "overlap", "window"]))
def test_a16_any_edits_between_any_stops(
    history: list[tuple[list[int], int]],
    keyed: bool,
    mode: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Nobody twice, nobody of the last list skipped; who has left the list is still accounted for."""
    with MoodyServer(mode=mode) as server:
        bench = Bench(tmp_path_factory.mktemp("edits"), server)
        for numbers, outcomes in history:
            bench.write(data=KEYED if keyed else "", send=f'pipeline = "{mode}"', people_csv=_listed(numbers))
            stop = StopAfter(outcomes)
            bench.send(stop=stop, observe=stop.observe)
            bench.check(rows=len(numbers))
        last = history[-1][0]
        report = bench.send()
        counts = bench.check(rows=len(last))

        assert report.exit_code == 0
        assert {address(number) for number in last} <= set(taken_order(server))
        assert counts[Status.ACCEPTED] == counts.total == len(server.accepted)
        gone = {result.address for result in bench.results() if result.row is None}
        assert gone == set(taken_order(server)) - {address(number) for number in last}


def test_a17_an_edited_row_that_was_accepted_stays_accepted(bench: Bench, server: MoodyServer) -> None:
    """Another name for the same address is the same row: nothing is sent again."""
    bench.send()
    bench.write(people_csv=people(3).replace("Person 2", "Dr Two"))
    report = bench.send()

    assert report.exit_code == 0
    assert len(server.accepted) == 3
    bench.check()
    details = [result.detail for result in bench.results()]
    assert details == ["", "edited in the list since it was accepted", ""]


@pytest.mark.parametrize("keyed", [True, False])
def test_a17_a_corrected_address_is_tried_again(bench: Bench, server: MoodyServer, *, keyed: bool) -> None:
    """After a rejection: with and without a key column the corrected address gets its message."""
    data = KEYED if keyed else ""
    bench.knows_server()
    bench.write(data=data, people_csv=_listed([1, 2, 3]))
    server.change_mood({"RCPT": {2: say("550 5.1.1 no such user")}})
    assert bench.send().exit_code == 3

    bench.write(data=data, people_csv=_listed([1, 2, 3]).replace(address(2), address(22)))
    report = bench.send()
    assert taken_order(server) == [address(1), address(3), address(22)]
    counts = bench.check()
    assert counts[Status.ACCEPTED] == 3
    assert counts[Status.REJECTED] == (0 if keyed else 1)  # without a key the old address is a row that left
    assert report.exit_code == (0 if keyed else 3)


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("keyed", [True, False])
def test_a16_requeue_finds_people_not_rows(
    bench: Bench, server: MoodyServer, *, keyed: bool, ours: bool
) -> None:
    """A line of failed.csv means that person after the list was sorted, with and without our own columns."""
    data = KEYED if keyed else ""
    bench.write(data=data, people_csv=_listed([1, 2, 3]))
    server.change_mood({"RCPT": dict.fromkeys((1, 2, 3), say("550 5.1.1 no such user"))})
    assert bench.send().exit_code == 3
    lines = (bench.folder / "out" / "failed.csv").read_text("utf-8-sig").splitlines()
    wanted = bench.folder / "wanted.csv"
    wanted.write_text("\n".join(line if ours else ",".join(line.split(",")[:3]) for line in lines[:2]))

    bench.write(data=data, people_csv=_listed([3, 2, 1]))
    assert bench.send().exit_code == 3
    assert bench.campaign().requeue(failed=wanted) == 1
    bench.send()

    assert taken_order(server) == [address(1)]
    bench.check()


# --- A18 -------------------------------------------------------------------------------------------------


CHANGES = {
    "templates": {"body_txt": "Dear {{ name }},\n\nnow it is another text.\n"},
    "subject": {"subject": "Good bye"},
    "sender": {"from": "Somebody <else@example.org>"},
    "attachments": {"message": '[[attach]]\npath = "body.txt"'},
    "files": {"paper_txt": "another paper\n"},
    "recipients": {"message": 'reply_to = "other@example.org"'},
    "headers": {"message": 'headers = { "X-Thing" = "1" }'},
}


def _write_version(bench: Bench, **changes: str) -> None:
    attached = '[[attach]]\npath = "paper.txt"'
    subject, sender = changes.pop("subject", "Hello"), changes.pop("from", "Me <me@example.org>")
    message = f"{changes.pop('message', '')}\n{attached}"
    bench.write(**{"paper_txt": "a paper\n", "message": message, **changes})
    toml = bench.folder / "campaign.toml"
    text = toml.read_text("utf-8").replace('subject = "Hello {{ name }}"', f'subject = "{subject}"')
    toml.write_text(text.replace("Me <me@example.org>", sender), "utf-8")


@pytest.mark.parametrize("part", CHANGES)
def test_a18_a_change_after_the_first_acceptance_stops(part: str, bench: Bench, server: MoodyServer) -> None:
    """Exit 2, naming what changed and how many went out before; `accept_changes` finishes the rest."""
    _write_version(bench)
    bench.send(limit=1)
    before = len(server.commands)
    _write_version(bench, **CHANGES[part])
    with pytest.raises(CampaignFileError, match="after 1 row was accepted as it was") as caught:
        bench.send()
    named = caught.value.message.partition("changed (")[2].partition(")")[0]
    assert part in named.split(", ")
    assert caught.value.exit_code == 2
    assert str(caught.value.hint).startswith("accept_changes sends the rest")
    assert "another name starts over" in str(caught.value.hint)
    assert len(server.commands) == before

    assert bench.send(accept_changes=True).exit_code == 0
    assert taken_order(server) == [address(1), address(2), address(3)]
    bench.check()
    with bench.ledger() as ledger:
        assert [version.accepted for version in ledger.versions()] == [1, 2]


def test_a18_what_was_agreed_to_once_is_not_asked_again(bench: Bench, server: MoodyServer) -> None:
    """The same command continues a run with accepted changes; going back is a change again."""
    _write_version(bench)
    bench.send(limit=1)
    _write_version(bench, subject="Good bye")
    bench.send(limit=1, accept_changes=True)
    _write_version(bench)
    with pytest.raises(CampaignFileError, match=r"changed \(.*subject\)"):
        bench.send()
    _write_version(bench, subject="Good bye")

    assert bench.send().exit_code == 0
    assert len(server.accepted) == 3


def test_a18_the_command_says_so_too(bench: Bench, server: MoodyServer) -> None:
    """Exit 2, for a dry run as well; ``--accept-changes`` continues."""
    _write_version(bench)
    bench.send(limit=1)
    _write_version(bench, subject="Good bye")
    for option in ("--yes", "--dry-run"):
        done = bench.mailmerge("send", NAME, option)
        assert done.code == 2, done
        assert "subject" in done.err
        assert "--accept-changes" in done.err
    assert len(server.accepted) == 1
    assert bench.mailmerge("send", NAME, "--yes", "--accept-changes").code == 0
    assert len(server.accepted) == 3


def test_a18_another_name_is_another_campaign(bench: Bench, server: MoodyServer) -> None:
    """``--name`` starts again with the whole list, in the same folder; the same message if that is agreed."""
    bench.send()
    done = bench.mailmerge("send", NAME, "--yes", "--name", "summer", "--accept-repeats")

    assert done.code == 0, done
    assert taken_order(server) == [address(1), address(2), address(3)] * 2


# --- A19 -------------------------------------------------------------------------------------------------


def test_a19_a_list_that_is_being_written(bench: Bench, server: MoodyServer) -> None:
    """Changed while it was copied: exit 2, nothing sent."""
    path = bench.folder / "people.csv"
    stop = threading.Event()
    path.write_text(people(200_000), "utf-8")

    def write() -> None:
        with path.open("a", encoding="utf-8") as file:
            number = 0
            while not stop.wait(0.0005):
                number += 1
                file.write(f"late{number}@example.net,Late {number}\n")
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with pytest.raises(ListError, match="changed while it was being read") as caught:
            bench.send()
    finally:
        stop.set()
        writer.join()
    assert caught.value.exit_code == 2
    assert server.commands == []


def test_a19_edits_after_the_plan_do_not_count(bench: Bench, server: MoodyServer) -> None:
    """What was planned is what is sent: the list was copied; the edit is met by the next run."""

    def confirm(_plan: Plan) -> bool:
        bench.write(people_csv=people(3, first=3))
        return True

    assert bench.send(confirm=confirm).exit_code == 0
    assert taken_order(server) == [address(1), address(2), address(3)]
    assert bench.send().exit_code == 0
    assert taken_order(server)[3:] == [address(4), address(5)]


@pytest.mark.parametrize("name", ["~$people.xlsx", ".~lock.people.csv#"])
def test_a19_a_lock_file_is_no_list(name: str, bench: Bench, server: MoodyServer) -> None:
    """Excel's and LibreOffice's marks: exit 2."""
    (bench.folder / name).write_bytes(b"\x05owner")
    done = bench.mailmerge("send", NAME, "--yes", "--set", f"data.source={name}")

    assert done.code == 2, done
    assert "error[" in done.err
    assert server.commands == []


@pytest.mark.parametrize("tail", ['p9@example.net,"half', "p9@example.net\x00"])
def test_a19_a_half_written_list(tail: str, bench: Bench, server: MoodyServer) -> None:
    """Cut off inside a quoted cell, or filled up with NULs: exit 2, nothing sent."""
    (bench.folder / "people.csv").write_text(people(3) + tail, "utf-8")
    done = bench.mailmerge("send", NAME, "--yes")

    assert done.code == 2, done
    assert server.commands == []


# --- A30, A31 --------------------------------------------------------------------------------------------

SAME = ["ana@example.net", "ANA@example.net", " ana@Example.NET ", "Ana <ana@example.net>"]
OTHERS = ["a.na@example.net", "ana+news@example.net", "ana@xn--bcher-kva.example", "ana@example.org"]


@given(order=st.permutations(SAME + OTHERS), keyed=st.booleans())
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a30_one_address_gets_one_message(
    order: list[str],
    keyed: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Case, spaces and names make no difference, dots and +tags do; with and without a key column."""
    with MoodyServer() as server:
        bench = Bench(tmp_path_factory.mktemp("same"), server)
        rows = "".join(f'{number},"{text}",Ana\n' for number, text in enumerate(order))
        bench.write(data=KEYED if keyed else "", people_csv="id,email,name\n" + rows)
        toml = bench.folder / "campaign.toml"
        text = toml.read_text("utf-8").replace('"{{ name }} <{{ email }}>"', '"{{ email }}"')
        toml.write_text(text, "utf-8")
        report = bench.send()
        taken = [recipient.lower() for recipient in taken_order(server)]

    assert report.exit_code == 0
    assert sorted(taken) == sorted(["ana@example.net", *OTHERS])
    assert report.counts[Status.DUPLICATE] == 3


def test_a30_duplicates_can_be_allowed_with_a_key(bench: Bench, server: MoodyServer) -> None:
    """Two children, one parent's address: allowed where a key column tells the rows apart, else exit 2."""
    twins = "id,email,name\n1,ana@example.net,Bo\n2,ana@example.net,Cy\n"
    bench.write(data=f'{KEYED}\nduplicates = "allow"', people_csv=twins)
    assert bench.send().exit_code == 0
    assert len(server.accepted) == 2

    bench.write(data='duplicates = "allow"', people_csv=twins)
    assert bench.mailmerge("send", NAME, "--yes").code == 2


def test_a31_the_suppressed_are_never_written_to(bench: Bench, server: MoodyServer) -> None:
    """Also in Cc; and who asks between two runs is not written to by the second."""
    stop = bench.folder / "stop.txt"
    stop.write_text(f"{address(2).upper()}\n", "utf-8")
    suppress = 'suppress = "stop.txt"'
    bench.write(data=suppress, people_csv=people(5))
    assert bench.send(limit=1).counts[Status.SUPPRESSED] == 1
    stop.write_text(f"{address(2)}\n{address(3)}\n", "utf-8")
    assert bench.send(limit=1).exit_code == 0
    assert taken_order(server) == [address(1), address(4)]

    bench.write(data=suppress, message='cc = "{{ name[7:] }}@copies.example"', people_csv=people(5))
    stop.write_text("@copies.example\n", "utf-8")
    report = bench.send(accept_changes=True)
    assert len(server.accepted) == 2
    assert report.counts[Status.SUPPRESSED] == 3


@pytest.mark.parametrize("what", ["missing", "a folder", "not text"])
def test_a31_a_suppression_file_that_cannot_be_read(what: str, bench: Bench, server: MoodyServer) -> None:
    """Fail closed: exit 2, nothing sent."""
    stop = bench.folder / "stop.txt"
    if what == "a folder":
        stop.mkdir()
    elif what == "not text":
        stop.write_bytes(b"\xff\xfe\xfa")
    bench.write(data='suppress = "stop.txt"')
    done = bench.mailmerge("send", NAME, "--yes")

    assert done.code == 2, done
    assert "stop.txt" in done.err
    assert server.commands == []


# --- A32, A33, A34 ---------------------------------------------------------------------------------------


def test_a32_again_when_all_is_done(bench: Bench, server: MoodyServer) -> None:
    """No connection, no secret, exit 0."""
    assert bench.send().exit_code == 0
    server.commands.clear()
    connections = server.seen["connect"]
    done = bench.mailmerge("send", NAME, "--yes")

    assert done.code == 0
    assert server.seen["connect"] == connections
    bench.check()


def _fingerprints(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a33_a_dry_run_touches_nothing(
    bench: Bench, server: MoodyServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No socket, not a byte changed in ledger, reports and state; every row is rendered."""
    bench.send(limit=1)
    seen: list[int] = []

    def note(plan: Plan) -> bool:
        seen.append(plan.to_send)
        return False

    before = _fingerprints(tmp_path)
    connections = server.seen["connect"]
    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "connect", None)
        patch.setattr(socket.socket, "connect_ex", None)
        report = bench.campaign().send(request=SendRequest(dry_run=True), confirm=note, clock=SkippingClock())

    assert report is None
    assert seen == [2]
    assert _fingerprints(tmp_path) == before
    assert server.seen["connect"] == connections


@pytest.mark.parametrize(
    "broken",
    [
        {"people_csv": "email,name\nana@example.net,Ana\nno address,Bo\n"},
        {"body_txt": "Dear {{ nam }},\n"},
        {"people_csv": "email,name\nana@example.net,Ana\nbo@example.net,\n", "body_txt": "{{ 1 / 0 }}"},
        {"data": 'suppress = "nowhere.txt"'},
    ],
)
def test_a33_a_dry_run_meets_the_same_problems(broken: dict[str, str], bench: Bench) -> None:
    """What it says of rows and templates is what the real run says."""
    bench.write(**broken)

    def problems(*options: str) -> list[str]:
        done = bench.mailmerge("send", NAME, *options)
        return [line for line in (done.out + done.err).splitlines() if line.startswith(("error", "warning"))]

    dry = problems("--dry-run")
    assert dry
    assert dry == [line for line in problems("--yes") if "--yes was given" not in line]


def test_a34_a_test_goes_to_me_only(bench: Bench, server: MoodyServer) -> None:
    """Envelope and To are mine, no row changes its state, and the campaign's run sends all rows after it."""
    done = bench.mailmerge("test", NAME, "--rows", "2,3", "--to", "me@example.org")
    assert done.code == 0, done
    assert taken_order(server) == ["me@example.org"] * 2
    assert all(
        address(n).encode() not in m.content.split(b"\r\n\r\n")[0] for m in server.accepted for n in (1, 2)
    )

    tests = {message.content for message in server.accepted}
    server.accepted.clear()
    assert bench.send().exit_code == 0
    assert bench.check()[Status.ACCEPTED] == 3
    assert not tests & {message.content for message in server.accepted}
