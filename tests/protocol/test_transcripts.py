"""Written dialogues, run through a session without sockets, however the server's octets are cut."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialogues import play

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.smtp"))


def whole(data: bytes) -> list[bytes]:
    """Leave *data* in one piece."""
    return [data] if data else []


def octets(data: bytes) -> list[bytes]:
    """Cut *data* into single octets."""
    return [data[i : i + 1] for i in range(len(data))]


@pytest.mark.parametrize("cut", [whole, octets])
@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path, cut) -> None:
    """The session says, and reports, exactly what the dialogue has."""
    play(path, cut)


@given(st.sampled_from(TRANSCRIPTS), st.randoms(use_true_random=False))
def test_b15_any_split(path: Path, random) -> None:
    """Replies split anywhere, or glued together, give the same events and commands."""

    def cut(data: bytes) -> list[bytes]:
        points = sorted({0, len(data), *(random.randint(0, len(data)) for _ in range(3))})
        return [data[a:b] for a, b in itertools.pairwise(points)]

    play(path, cut)
