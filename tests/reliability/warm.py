"""A process that has everything imported and forks a sender for each line it reads: cheap to kill.

Run as a script. A line is a JSON object: ``folder`` and ``environ`` of the campaign, ``ahead`` (seconds the
wall clock is set forward), ``die_at`` (the sender kills itself at that system call; 0: it does not). The
answers are ``pid N`` when the sender has been forked and ``end STATUS CALLS`` when it has ended.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path

from mailmerge.campaign import Campaign
from mailmerge.campaign import run as campaign_run
from mailmerge.errors import MailmergeError

sys.path.insert(0, str(Path(__file__).parents[1]))
from reliability.clocks import SkippingClock

# What reaches the kernel from the sending process: between two of these nothing can be lost.
CALLS = {"execute", "executemany", "sendmsg", "send", "recv", "connect", "connect_ex", "close", "replace"}
BUG = 1


class Countdown:
    """Counts the calls that reach the kernel from the plan on, before and after each; dies at one."""

    def __init__(self, die_at: int) -> None:
        self.count = 0
        self._die_at = die_at

    def __call__(self, _frame: object, event: str, what: object) -> None:
        """Be told of a call by the interpreter."""
        if event in {"c_call", "c_return"} and getattr(what, "__name__", "") in CALLS:
            self.count += 1
            if self.count == self._die_at:
                os.kill(os.getpid(), signal.SIGKILL)


def run(order: dict[str, object], countdown: Countdown) -> int:
    """Send as ordered and give the exit code."""
    clock = SkippingClock(float(str(order["ahead"])))

    def confirm(_plan: object) -> bool:
        if order.get("count"):
            sys.setprofile(countdown)
        return True

    try:
        campaign = Campaign.load(Path(str(order["folder"])), environ=order["environ"])  # type: ignore[arg-type]
        report = campaign.send(request=campaign_run.SendRequest(), confirm=confirm, clock=clock)
        return 2 if report is None else report.exit_code
    except MailmergeError as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        return error.exit_code
    finally:
        sys.setprofile(None)


def child(order: dict[str, object], results: int) -> None:
    """Be the sender; never return."""
    countdown = Countdown(int(str(order.get("die_at", 0))))
    try:
        code = run(order, countdown)
    except BaseException:  # noqa: BLE001  a bug of ours: shown, and told by its code
        traceback.print_exc()
        code = BUG
    os.write(results, str(countdown.count).encode())
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    """Serve until the input ends."""
    import mailmerge.sending.sender
    import mailmerge.smtp.connection  # noqa: F401

    for line in sys.stdin:
        order = json.loads(line)
        results, other = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(results)
            child(order, other)
        os.close(other)
        print(f"pid {pid}", flush=True)  # noqa: T201
        _, status = os.waitpid(pid, 0)
        calls = os.read(results, 100).decode() or "0"
        os.close(results)
        print(f"end {os.waitstatus_to_exitcode(status)} {calls}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
