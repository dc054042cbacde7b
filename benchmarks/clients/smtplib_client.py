"""The standard library's smtplib: one session, sendmail() per message."""

from __future__ import annotations

import smtplib
from itertools import cycle

from dialogue import SENDER, Watch, arguments

host, port, seconds, messages, _ = arguments()
with smtplib.SMTP(host, port, local_hostname="bench.example", timeout=60) as session:
    session.ehlo()
    watch = Watch(seconds)
    count = 0
    for recipient, content in cycle(messages):
        session.sendmail(SENDER, [recipient], content)
        count += 1
        if watch.over():
            break
    watch.report(count)
