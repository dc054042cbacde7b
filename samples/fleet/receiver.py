"""A server that takes every message and keeps none; says now and then how many came, over how many sessions.

python receiver.py HOST PORT
"""

import signal
import sys
import threading

from mailmerge.sandbox import SandboxServer


def main(host: str, port: int) -> None:
    """Take messages until SIGTERM or Ctrl-C."""
    sessions: set[int] = set()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    server = SandboxServer(
        host=host, port=port, tls="none", user=None, keep=lambda message: sessions.add(message.connection)
    )
    told = 0
    with server:
        print(f"receiver: listening on {host}:{server.port}", flush=True)
        while not ended.wait(1.0) or server.received_count > told:
            if server.received_count > told:
                told = server.received_count
                print(f"receiver: {told} messages over {len(sessions)} sessions", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
