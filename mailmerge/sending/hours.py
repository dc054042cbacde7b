"""The gate that is open when the schedule of a run allows messages to be sent."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mailmerge.errors import CampaignFileError
from mailmerge.schedule import Schedule, moment_of

if TYPE_CHECKING:
    from datetime import datetime

    from mailmerge.clock import Clock
    from mailmerge.config.accounts import Account
    from mailmerge.options import SendOptions

_LOOK_AGAIN = 30.0
"""Seconds after which the wall clock is read again: it may have been set."""


def schedule_of(send: SendOptions, account: Account, now: datetime, *, begun: bool = False) -> Schedule:
    """Return the schedule of when the messages of a campaign may be sent.

    Args:
        send: the campaign's options for sending.
        account: its time zone applies if the campaign does not specify one.
        now: decides which 09:00 is meant.
        begun: whether the start time has passed and some messages were sent: do not wait for the next 09:00.

    Raises:
        CampaignFileError: messages could never be sent.

    """
    name = send.timezone or account.timezone
    zone = None
    if name:
        from zoneinfo import ZoneInfo

        zone = ZoneInfo(name)
    start = None if begun or send.at is None else moment_of(send.at, now, zone)
    schedule = Schedule(start, send.window, send.quiet_hours, zone)
    if schedule.is_never_open(now):
        raise CampaignFileError(
            f"the schedule leaves no hour of the week for sending: {schedule.told()}",
            code="C405",
            hint="make send.quiet_hours shorter than send.window, or than the day",
        )
    return schedule


class HoursGate:
    """Tells the sender until when no message may be submitted; asks the schedule only when necessary.

    Args:
        schedule: when messages may be sent.
        clock: the time.

    """

    def __init__(self, schedule: Schedule, clock: Clock) -> None:
        self._schedule = schedule
        self._clock = clock
        self._holds_until = 0.0 if schedule else math.inf
        self._opens = 0.0

    def __call__(self) -> float:
        """Return the steady clock's time at which the gate opens; a past time: it is open."""
        now = self._clock.monotonic()
        if now >= self._holds_until:
            wall = self._clock.now()
            opens = self._schedule.open_from(wall)
            holds: datetime = opens or self._schedule.closes_at(wall)
            self._holds_until = now + min((holds - wall).total_seconds(), _LOOK_AGAIN)
            self._opens = now + (opens - wall).total_seconds() if opens else 0.0
        return self._opens
