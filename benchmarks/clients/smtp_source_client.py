"""Postfix's smtp-source: one session, its own text of the same size; the count is a further argument."""

from __future__ import annotations

import json
import resource
import subprocess
import time

from dialogue import SENDER, arguments

host, port, _, messages, more = arguments()
count, size = int(more[0]), len(messages[0][1])
began = time.perf_counter()
command = ["smtp-source", "-s", "1", "-d", "-m", str(count), "-l", str(size), "-f", SENDER]
subprocess.run([*command, "-t", "user@example.com", f"{host}:{port}"], check=True)
wall = time.perf_counter() - began
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
used = (usage.ru_utime + usage.ru_stime) / count * 1e6
print(json.dumps({"rate": count / wall, "cpu_us": used, "count": count}))
