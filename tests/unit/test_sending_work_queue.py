"""The queue of a run: what comes next, and how far ahead messages are made."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailmerge.addresses import Address
from mailmerge.model import Envelope, Message
from mailmerge.sending.work_queue import Job, WorkQueue

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
SENDER = Address.parse("me@example.org")


def job(row: int, *addresses: str) -> Job:
    to = tuple(Address.parse(address) for address in addresses or (f"u{row}@example.org",))
    message = Message(f"<m{row}@example.org>", f"k{row}", row, Envelope(SENDER, to), (b"\r\n",))
    return Job(message, 1, str(to[0]), NOW, "r", "v")


def rows(queue: WorkQueue) -> list[int]:
    """Take all that is left."""
    found = []
    while (head := queue.peek()) is not None:
        assert queue.take() is head
        found.append(head.message.row)
    return found


def test_messages_come_in_the_order_of_the_source() -> None:
    """Each once; then the queue is empty, and was not before."""
    queue = WorkQueue(map(job, (2, 3, 4)))
    before = queue.empty
    assert rows(queue) == [2, 3, 4]
    assert (before, queue.empty, queue.peek()) == (False, True, None)


def test_looking_takes_nothing_and_makes_one() -> None:
    """However often it is looked at, one message is made and stays the next."""
    made = []

    def source() -> Iterator[Job]:
        for row in (2, 3):
            made.append(row)
            yield job(row)

    queue = WorkQueue(source())
    heads = [queue.head, queue.peek(), queue.peek(), queue.head]
    assert [head.message.row if head else None for head in heads] == [None, 2, 2, 2]
    assert made == [2]


def test_what_is_put_back_keeps_its_place() -> None:
    """Before the fresh ones, in list order, whatever the order they came back in."""
    queue = WorkQueue(map(job, (2, 3, 4, 5)))
    taken = []
    for _ in range(3):
        queue.peek()
        taken.append(queue.take())
    queue.peek()  # row 5 is made already, and has to wait all the same
    for one in (taken[2], taken[0], taken[1]):
        queue.put_back(one)
    assert rows(queue) == [2, 3, 4, 5]


def test_what_is_moved_to_the_end_comes_last() -> None:
    """After all of the source and all that was put back, in the order in which it was moved."""
    queue = WorkQueue(map(job, (2, 3, 4, 5)))
    queue.peek()
    second = queue.take()
    queue.peek()
    third = queue.take()
    queue.move_to_end(third)
    queue.move_to_end(second)
    queue.peek()
    queue.put_back(queue.take())
    assert rows(queue) == [4, 5, 3, 2]
    queue.move_to_end(second)
    assert not queue.empty
    assert rows(queue) == [2]


def test_what_is_skipped_is_passed_over_when_its_turn_comes() -> None:
    """Also what was looked at before there was a reason to skip it."""
    unwanted: set[int] = set()
    queue = WorkQueue(map(job, (2, 3, 4)), lambda one: one.message.row in unwanted)
    first = queue.peek()
    assert first is not None
    unwanted |= {2, 4}
    assert rows(queue) == [3]
    assert queue.empty


def test_a_source_that_fails_is_an_empty_one() -> None:
    """The exception is kept for later; what was put back is still there."""

    def source() -> Iterator[Job]:
        yield job(2)
        raise ZeroDivisionError

    queue = WorkQueue(source())
    queue.peek()
    first = queue.take()
    assert queue.peek() is None
    assert isinstance(queue.failure, ZeroDivisionError)
    assert queue.empty
    queue.put_back(first)
    assert rows(queue) == [2]


@given(steps=st.lists(st.sampled_from(["take", "back", "end"]), max_size=60), count=st.integers(0, 12))
def test_nobody_is_lost_and_nobody_is_given_out_twice(steps: list[str], count: int) -> None:
    """Whatever is put back or moved, every message is in the queue or taken, and never both."""
    queue = WorkQueue(map(job, range(2, 2 + count)))
    out: list[Job] = []
    for step in steps:
        if step == "take" and queue.peek() is not None:
            out.append(queue.take())
        elif step == "back" and out:
            queue.put_back(out.pop(0))
        elif step == "end" and out:
            queue.move_to_end(out.pop())
    taken = [one.message.row for one in out]
    assert sorted(taken + rows(queue)) == list(range(2, 2 + count))


@pytest.mark.parametrize("addresses", [("a@X.example", "b@y.EXAMPLE", "c@x.example")])
def test_a_message_is_for_the_domains_of_all_its_recipients(addresses: tuple[str, ...]) -> None:
    """Each once, in small letters."""
    assert job(2, *addresses).domains == {"x.example", "y.example"}
