"""One pass over the whole list before anything is sent: every row is rendered, every problem is kept."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from mailmerge.campaign.composer import identity
from mailmerge.errors import CampaignFileError, RowError, TemplateError
from mailmerge.model import Diagnostic, Listed, Severity, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailmerge.campaign.composer import Composer
    from mailmerge.check.diagnostics import DiagnosticCollector, Group
    from mailmerge.check.lint import Lint
    from mailmerge.ledger.ledger import Ledger
    from mailmerge.model import Message, Recipient, Rendered
    from mailmerge.recipients import RecipientList
    from mailmerge.recipients.selection import Suppressed

_PROGRESS_EVERY = 500
_KEPT = ("rows", "blank_rows", "hidden_rows", "largest", "octets", "sender", "warnings")


class Preflight(Struct):
    """What the pass found; the rows themselves are in the ledger's listing."""

    problems: DiagnosticCollector
    rows: int = 0
    blank_rows: int = 0
    hidden_rows: int = 0
    largest: int = 0
    """Size of the largest message in octets."""
    octets: int = 0
    statuses: dict[Status, int] = field(default_factory=dict)
    sender: str = ""
    """From of the first message."""
    warnings: int = 0
    """How many different warnings an earlier pre-flight gave."""
    earlier: bool = False
    """It was done by an earlier run, for these very files."""

    def remembered(self, digest: str) -> str:
        """Write it down for a later run over the same files."""
        facts = {name: getattr(self, name) for name in _KEPT}
        statuses = {str(status): count for status, count in self.statuses.items()}
        facts["warnings"] = self.problems.count(Severity.WARNING)
        return json.dumps({"digest": digest, "statuses": statuses, **facts})

    @classmethod
    def recalled(cls, text: str, digest: str, problems: DiagnosticCollector) -> Preflight | None:
        """Read what `remembered` wrote, if it was about the same files and all was well."""
        try:
            kept = json.loads(text) if text else {}
            if kept.get("digest") != digest:
                return None
            statuses = {Status(name): int(count) for name, count in kept["statuses"].items()}
            return cls(problems, statuses=statuses, earlier=True, **{name: kept[name] for name in _KEPT})
        except (ValueError, KeyError, AttributeError):
            return None

    def count(self, status: Status) -> None:
        """Count one row."""
        self.rows += 1
        self.statuses[status] = self.statuses.get(status, 0) + 1


class Inspection:
    """Looks at rows one by one: what would become of each if the campaign were sent now.

    Args:
        composer: makes the messages.
        suppressed: addresses that are never written to.
        max_size: largest message the account takes, in octets; None: no limit known.
        problems: where findings are collected.

    """

    def __init__(
        self,
        composer: Composer,
        suppressed: Suppressed,
        max_size: int | None,
        problems: DiagnosticCollector,
    ) -> None:
        self._composer = composer
        self._suppressed = suppressed
        self._max_size = max_size
        self._problems = problems
        self.sender = ""
        """From of the first message."""
        # The Date of a message that is only looked at; each real attempt sets its own.
        self._date = datetime.now(UTC)

    @cached_property
    def _lint(self) -> Lint:
        return self._composer.lint()

    def look(self, recipient: Recipient) -> tuple[Listed, Message | None]:
        """Say what the row is, and give its message if there is one."""
        try:
            if not self._composer.selects(recipient):
                return Listed(recipient.row, recipient.key or "", "", Status.SKIPPED, "where"), None
            rendered = self._composer.render(recipient)
            return self._rendered(recipient, rendered)
        except (RowError, TemplateError) as error:
            self._problems.add(error.diagnostics)
            return self._invalid(recipient, error.diagnostics[0].message, error.address or ""), None

    def _rendered(self, recipient: Recipient, rendered: Rendered) -> tuple[Listed, Message | None]:
        key = identity(rendered)
        address = str(rendered.to[0].address)
        refused = self._refused(rendered)
        if refused:
            return Listed(recipient.row, key, address, Status.SUPPRESSED, f"{refused} is suppressed"), None
        message = self._composer.message(rendered, self._date)
        if self._max_size is not None and message.size > self._max_size:
            problem = _too_large(recipient.row, address, message.size, self._max_size)
            self._problems.add([problem])
            return self._invalid(recipient, problem.message, address, key), None
        self.sender = self.sender or str(rendered.from_)
        findings = self._lint.look(rendered, message)
        if findings:
            self._problems.add(findings)
            error = next((found for found in findings if found.severity is Severity.ERROR), None)
            if error is not None:
                return self._invalid(recipient, error.message, address, key), None
        recipients = len(message.envelope.rcpt_to)
        digest = recipient.digest()
        listed = Listed(recipient.row, key, address, Status.PENDING, "", recipients, digest)
        return listed, message

    def _refused(self, rendered: Rendered) -> str | None:
        everyone = (*rendered.to, *rendered.cc, *rendered.bcc)
        return next((str(m.address) for m in everyone if self._suppressed.covers(m.address)), None)

    def finish(self) -> None:
        """Add what only the whole list shows."""
        self._problems.add(self._lint.finish())

    @staticmethod
    def _invalid(recipient: Recipient, detail: str, address: str = "", key: str = "") -> Listed:
        return Listed(recipient.row, key or recipient.key or "", address, Status.INVALID, detail)


def _too_large(row: int, address: str, size: int, most: int) -> Diagnostic:
    return Diagnostic(
        "M501",
        f"the message has {size:,} octets, the account takes {most:,}",
        "attachments grow by 37 % when encoded for mail; send a link instead",
        row=row,
        address=address,
    )


def run_preflight(
    recipients: RecipientList,
    inspection: Inspection,
    ledger: Ledger,
    problems: DiagnosticCollector,
    *,
    duplicates: str = "first",
    keyed: bool = False,
    progress: Callable[[int], None] = lambda _rows: None,
) -> Preflight:
    """Look at every row and write the ledger's listing; *keyed* rows are told apart by a key column.

    Raises:
        CampaignFileError, TemplateError: the campaign itself is wrong; all problems at once.
        ListError: the list cannot be read to its end.

    """
    found = Preflight(problems)
    with ledger.new_listing(unique_addresses=keyed and duplicates != "allow") as listing:
        for recipient in recipients:
            listed, message = inspection.look(recipient)
            earlier = listing.add(listed)
            if earlier is not None:
                found.count(Status.DUPLICATE)
                if duplicates == "error":
                    problems.add([_duplicate(listed, earlier)])
            else:
                found.count(listed.status)
                if message is not None:
                    found.largest = max(found.largest, message.size)
                    found.octets += message.size
            if found.rows % _PROGRESS_EVERY == 0:
                progress(found.rows)
    inspection.finish()
    found.sender = inspection.sender
    found.blank_rows = recipients.blank_rows
    found.hidden_rows = recipients.hidden_rows
    return found


def _duplicate(listed: Listed, earlier: int) -> Diagnostic:
    return Diagnostic(
        "D140",
        f"row {listed.row} repeats {listed.address} of row {earlier}",
        'remove one of them, or set data.duplicates = "first"',
        severity=Severity.ERROR,
    )


def refuse_if_broken(problems: DiagnosticCollector) -> None:
    """Stop where the campaign itself, not single rows, is wrong.

    Raises:
        InputError: holding all campaign problems.

    """
    broken = problems.campaign_errors
    if broken:
        shown = [_counted(group) for group in broken]
        first = shown[0]
        kind = TemplateError if first.code.startswith("T") else CampaignFileError
        raise kind(first.message, code=first.code, hint=first.hint, problems=shown)


def _counted(group: Group) -> Diagnostic:
    if group.count == 1:
        return group.first
    return replace(group.first, message=f"{group.first.message} (in {group.count:,} rows; one of them:)")
