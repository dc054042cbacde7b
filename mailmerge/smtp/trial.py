"""The trial of BDAT: whether this server skips the chunk of a BDAT that it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailmerge.smtp.state import Step, Trial, Trigger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailmerge.model import Reply
    from mailmerge.smtp.reply_queue import Handler, ReplyQueue, Slot
    from mailmerge.smtp.state import SessionState

_CHUNK = b"XXXX\r\n"
"""Six octets that no server has as a command: executed instead of skipped they bring one reply too many."""
_PASSED = [2, 5, 2, 2]


class BdatTrial:
    """Says one BDAT that must be refused, and judges the replies around it."""

    def __init__(self, state: SessionState, replies: ReplyQueue) -> None:
        self.handlers: Mapping[Step, Handler] = dict.fromkeys(
            (Step.TRIAL_MAIL, Step.TRIAL_CHUNK, Step.TRIAL_RSET, Step.TRIAL_NOOP), self._on_reply
        )
        self._state = state
        self._replies = replies
        self._digits: list[int] = []

    @property
    def possible(self) -> bool:
        """Whether the server offers what a window needs, and has not been tried."""
        offers = self._state.offers
        return self._state.trial is Trial.UNTRIED and offers.pipelining and offers.chunking

    def begin(self, sender: bytes) -> None:
        """Say the four commands in one group, as the messages of a window will be (RFC 2920 section 3.1).

        *sender* is the path of the first message, in angle brackets.
        """
        self._digits.clear()
        self._replies.ask(Step.TRIAL_MAIL, b"MAIL FROM:" + sender)
        # No RCPT was said, so the server has to refuse; the chunk travels behind its command as one line.
        self._replies.ask(Step.TRIAL_CHUNK, b"BDAT %d LAST\r\n%b" % (len(_CHUNK), _CHUNK[:-2]))
        self._replies.ask(Step.TRIAL_RSET, b"RSET")
        self._replies.ask(Step.TRIAL_NOOP, b"NOOP")
        self._state.on(Trigger.TRIAL_SAID)

    def _on_reply(self, slot: Slot, reply: Reply) -> None:
        self._digits.append(reply.severity)
        if slot.step is Step.TRIAL_NOOP:
            passed = self._digits == _PASSED
            self._state.on(Trigger.TRIAL_PASSED if passed else Trigger.TRIAL_FAILED)
