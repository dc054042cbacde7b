"""A run that is continued: resume_one.py FOLDER send ROWS, then resume_one.py FOLDER resume: a line of JSON.

The first sends to nobody until ROWS messages are accepted, and ends like a process that is killed. The second
prints how many seconds passed from its start, imports included, until it offered the first message.
"""

from __future__ import annotations

import time

BEGAN = time.perf_counter()

import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

from whole_one import Yes  # noqa: E402

from mailmerge import Campaign  # noqa: E402
from mailmerge.campaign import run as runs  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterable


class Killed(Yes):
    """A connection on which the sender is killed after so many messages."""

    left = 0

    def release(self, tokens: Iterable[int]) -> None:
        """Accept what is promised, or end the process: what is promised now stays in doubt."""
        accepted = tuple(tokens)
        Killed.left -= len(accepted)
        if Killed.left <= 0:
            os._exit(0)
        super().release(accepted)


class First(Yes):
    """A connection that ends the process when it is offered a message."""

    def submit(self, _message: object, _token: int) -> None:
        """Print how long that took."""
        print(json.dumps(time.perf_counter() - BEGAN), flush=True)
        os._exit(0)


def main() -> None:
    """Send, or resume."""
    folder, what = Path(sys.argv[1]), sys.argv[2]
    replaced: Any = runs
    if what == "send":
        Killed.left = int(sys.argv[3])
    connection = Killed if what == "send" else First
    replaced.connection_factory = lambda *_args, **_options: connection
    Campaign.load(folder).send(confirm=lambda _plan: True)
    raise RuntimeError("the run came to its end")


if __name__ == "__main__":
    main()
