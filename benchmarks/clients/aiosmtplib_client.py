"""aiosmtplib: one session, sendmail() awaited per message."""

from __future__ import annotations

import asyncio
from itertools import cycle

import aiosmtplib
from dialogue import SENDER, Watch, arguments


async def main() -> None:
    """Send until the time is over."""
    host, port, seconds, messages, _ = arguments()
    session = aiosmtplib.SMTP(
        hostname=host, port=port, local_hostname="bench.example", timeout=60, start_tls=False
    )
    await session.connect()
    await session.ehlo()
    watch = Watch(seconds)
    count = 0
    for recipient, content in cycle(messages):
        await session.sendmail(SENDER, [recipient], content)
        count += 1
        if watch.over():
            break
    watch.report(count)
    await session.quit()


asyncio.run(main())
