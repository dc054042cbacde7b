"""Timing on a shared machine: everything compared takes turns, and ratios are medians over the turns."""

from __future__ import annotations

import gc
import json
import statistics
import subprocess
import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

TIMEOUT = 3600


@dataclass(frozen=True)
class Timing:
    """What one contender took."""

    microseconds: float
    """Per row: the median over all turns."""
    ratio: float
    """To the first contender, turn by turn: the median."""


def take_turns(
    contenders: Mapping[str, Callable[[Any], object]],
    rows: Iterator[Any],
    *,
    seconds: float,
    block: int = 25,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, Timing]:
    """Let each contender do the same block of rows in turn, until *seconds* are used up; no row comes twice.

    The order rotates, so that nobody always finds the caches warm. The first contender is what the others
    are measured by.
    """
    names = list(contenders)
    spent: dict[str, list[float]] = {name: [] for name in names}
    for row in islice(rows, block):
        for name in names:
            contenders[name](row)
    gc.collect()
    gc.freeze()
    began = time.perf_counter()
    turn = 0
    while turn < 5 or time.perf_counter() - began < seconds:
        part = list(islice(rows, block))
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            do = contenders[name]
            before = clock()
            for row in part:
                do(row)
            spent[name].append((clock() - before) / len(part))
        turn += 1
    base = spent[names[0]]
    return {
        name: Timing(
            statistics.median(times) * 1e6,
            statistics.median(time / one for time, one in zip(times, base, strict=True)),
        )
        for name, times in spent.items()
    }


def run_json(command: Sequence[Any], *, timeout: float = TIMEOUT, **options: Any) -> Any:
    """Run a program that prints one line of JSON last, and return it.

    Raises:
        RuntimeError: it failed; with its last words.

    """
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        **options,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing was said").splitlines()
        raise RuntimeError(f"{command[1]}: {said[-1]}")
    return json.loads(lines[-1])
