"""What all clients share: the messages, and how the result is told."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

SENDER = "news@example.com"
WARM_UP = 2


def arguments() -> tuple[str, int, float, list[tuple[str, bytes]], list[str]]:
    """Return host, port, seconds, the messages with their recipients, and what else was said."""
    host, port, seconds, path, *more = sys.argv[1:]
    return host, int(port), float(seconds), read(Path(path)), more


def read(path: Path) -> list[tuple[str, bytes]]:
    """Read the messages: per message two lengths in digits, a line each, then recipient and content."""
    data, messages, place = path.read_bytes(), [], 0
    while place < len(data):
        end = data.index(b"\n", place)
        first, second = map(int, data[place:end].split())
        place = end + 1
        messages.append((data[place : place + first].decode(), data[place + first : place + first + second]))
        place += first + second
    return messages


class Watch:
    """Measures wall and processor time from its making on."""

    def __init__(self, seconds: float) -> None:
        self._usage = resource.getrusage(resource.RUSAGE_SELF)
        self._began = time.perf_counter()
        self._until = self._began + seconds

    def over(self) -> bool:
        """Return whether the time is used up."""
        return time.perf_counter() >= self._until

    def report(self, count: int, **more: object) -> None:
        """Print messages a second, and processor time a message."""
        wall = time.perf_counter() - self._began
        usage = resource.getrusage(resource.RUSAGE_SELF)
        used = usage.ru_utime + usage.ru_stime - self._usage.ru_utime - self._usage.ru_stime
        print(json.dumps({"rate": count / wall, "cpu_us": used / count * 1e6, "count": count, **more}))
