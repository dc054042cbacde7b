"""A TCP proxy that delays, for machines without root: delayproxy.py LISTEN_PORT HOST PORT RTT_MS.

Every byte is held for half the round trip in each direction; throughput is not limited. Round trips of the
dialogue cost what they should; TCP's own (slow start, windows) do not, so namespaces are the truer test.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import socket
import sys

_ENDLESS = 1 << 30


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Carry one direction until its end."""
    loop = asyncio.get_running_loop()
    queue: collections.deque[tuple[float, bytes]] = collections.deque()
    changed = asyncio.Event()

    async def deliver() -> None:
        while True:
            while not queue:
                changed.clear()
                await changed.wait()
            due, data = queue.popleft()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                writer.write_eof()
                return
            writer.write(data)

    delivery = asyncio.create_task(deliver())
    data = b"-"
    while data:
        try:
            data = await reader.read(1 << 18)
        except ConnectionError:
            data = b""
        queue.append((loop.time() + delay, data))
        changed.set()
    with contextlib.suppress(OSError):
        await delivery


async def main() -> None:
    """Serve until killed."""
    listen, host, port, rtt = sys.argv[1:]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
        for end in (writer, server_writer):
            end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.transport.set_write_buffer_limits(high=_ENDLESS)
        delay = float(rtt) / 2000
        await asyncio.gather(pump(reader, server_writer, delay), pump(server_reader, writer, delay))
        writer.close()
        server_writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", int(listen), limit=1 << 20)
    async with server:
        await server.serve_forever()


asyncio.run(main())
