"""What the tests of the delivery promises share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from reliability.bench import Bench
from reliability.killing import Warm
from reliability.moody import MoodyServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


settings.register_profile("soak", max_examples=5_000, deadline=None, print_blob=True)


@pytest.fixture
def server() -> Iterator[MoodyServer]:
    """A server in a good mood, with PIPELINING."""
    with MoodyServer() as moody:
        yield moody


@pytest.fixture
def bench(server: MoodyServer, tmp_path: Path) -> Bench:
    """A campaign of three rows, its account at that server."""
    return Bench(tmp_path / "bench", server)


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """A process that forks senders."""
    with Warm(tmp_path_factory.mktemp("warm") / "log") as process:
        yield process
