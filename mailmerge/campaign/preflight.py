"""One pass over the whole list before anything is sent: every row is rendered, every problem is kept."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from mailmerge.campaign.composer import identity
from mailmerge.campaign.plan import Plan
from mailmerge.check.diagnostics import DiagnosticCollector
from mailmerge.errors import CampaignFileError, RowError, TemplateError
from mailmerge.model import Counts, Diagnostic, Listed, Severity, Status
from mailmerge.recipients import sha256
from mailmerge.recipients.selection import Suppressed

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailmerge.campaign.composer import Composer
    from mailmerge.campaign.definition import Definition
    from mailmerge.check.diagnostics import Group
    from mailmerge.check.lint import Lint
    from mailmerge.config.accounts import Account
    from mailmerge.ledger.ledger import Ledger
    from mailmerge.model import FrozenMessage, Recipient, Rendered
    from mailmerge.recipients import RecipientList

_PROGRESS_EVERY = 500
_KEPT = ("rows", "blank_rows", "hidden_rows", "largest", "sender", "warnings")


class Preflight(Struct):
    """What the pass found; the rows themselves are in the ledger's listing."""

    problems: DiagnosticCollector
    rows: int = 0
    blank_rows: int = 0
    hidden_rows: int = 0
    largest: int = 0
    """Size of the largest message in octets."""
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


class Looked(Struct, frozen=True):
    """What one row would be if the campaign were sent now."""

    listed: Listed
    rendered: Rendered | None = None
    """None: its data cannot be rendered, or it was not selected."""
    frozen: FrozenMessage | None = None
    """Its message; None: it would not be sent."""


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

    @cached_property
    def _lint(self) -> Lint:
        return self._composer.lint()

    def look(self, recipient: Recipient) -> Looked:
        """Say what the row is, and give its message if there is one."""
        try:
            if not self._composer.selects(recipient):
                return Looked(Listed(recipient.row, recipient.key or "", "", Status.SKIPPED, "where"))
            rendered = self._composer.render(recipient)
        except (RowError, TemplateError) as error:
            return self._invalid(recipient, error)
        try:
            return self._rendered(recipient, rendered)
        except RowError as error:
            return self._invalid(recipient, error, rendered)

    def _invalid(
        self, recipient: Recipient, error: RowError | TemplateError, rendered: Rendered | None = None
    ) -> Looked:
        self._problems.add(error.diagnostics)
        detail = error.diagnostics[0].message
        listed = Listed(recipient.row, recipient.key or "", error.address or "", Status.INVALID, detail)
        return Looked(listed, rendered)

    def _rendered(self, recipient: Recipient, rendered: Rendered) -> Looked:
        key = identity(rendered)
        address = str(rendered.to[0].address)
        refused = self._refused(rendered)
        if refused:
            detail = f"{refused} is suppressed"
            return Looked(Listed(recipient.row, key, address, Status.SUPPRESSED, detail), rendered)
        frozen = self._composer.freeze(rendered, key=key)
        wrong = self._wrong(rendered, frozen, address)
        if wrong is not None:
            return Looked(Listed(recipient.row, key, address, Status.INVALID, wrong.message), rendered)
        recipients = len(frozen.envelope.rcpt_to)
        listed = Listed(recipient.row, key, address, Status.PENDING, "", recipients, recipient.digest())
        return Looked(listed, rendered, frozen)

    def _wrong(self, rendered: Rendered, frozen: FrozenMessage, address: str) -> Diagnostic | None:
        """Read the message, keep what is found, and give what forbids to send it."""
        if self._max_size is not None and frozen.size > self._max_size:
            problem = _too_large(frozen.row, address, frozen.size, self._max_size)
            self._problems.add([problem])
            return problem
        self.sender = self.sender or str(rendered.from_)
        findings = self._lint.look(rendered, frozen)
        if not findings:
            return None
        self._problems.add(findings)
        return next((found for found in findings if found.severity is Severity.ERROR), None)

    def _refused(self, rendered: Rendered) -> str | None:
        everyone = (*rendered.to, *rendered.cc, *rendered.bcc)
        return next((str(m.address) for m in everyone if self._suppressed.covers(m.address)), None)

    def finish(self) -> None:
        """Add what only the whole list shows."""
        self._problems.add(self._lint.finish())


def _too_large(row: int, address: str, size: int, most: int) -> Diagnostic:
    return Diagnostic(
        "M501",
        f"the message has {size:,} octets, the account accepts {most:,}",
        "attachments grow by 37 % when they are encoded; send a link instead",
        row=row,
        address=address,
    )


def examine(
    definition: Definition,
    ledger: Ledger,
    recipients: RecipientList,
    composer: Composer,
    *,
    account: Account | None = None,
    reuse: bool = False,
    progress: Callable[[int], None] = lambda _rows: None,
) -> Plan:
    """Run the pre-flight into *ledger* and say what it found.

    With *reuse*, a pre-flight of these very files that an earlier run did is as good as a new one.
    """
    file = definition.file
    problems = DiagnosticCollector(file.check.ignore)
    problems.add((*definition.environment.warnings, *recipients.warnings))
    suppressed = Suppressed(file.data.suppress)
    max_size = account.max_size if account else None
    digest = _files_digest(definition, recipients, composer, suppressed, max_size) if reuse else ""
    found = Preflight.recalled(ledger.preflight, digest, problems) if digest else None
    if found is None:
        if ledger.preflight:
            ledger.note_preflight("")
        found = run_preflight(
            recipients,
            Inspection(composer, suppressed, max_size, problems),
            ledger,
            problems,
            duplicates=file.data.duplicates,
            keyed=file.data.key is not None,
            progress=progress,
        )
        if digest and not problems.campaign_errors:
            ledger.note_preflight(found.remembered(digest))
    return Plan(
        campaign=definition.name,
        source=recipients.shown,
        dialect=recipients.dialect,
        problems=problems,
        counts=ledger.counts(),
        statuses=Counts(found.statuses),
        rows=found.rows,
        blank_rows=found.blank_rows,
        hidden_rows=found.hidden_rows,
        largest=found.largest,
        sender=found.sender or composer.sender,
        checked_earlier=found.earlier,
        earlier_warnings=found.warnings,
    )


def _files_digest(
    definition: Definition,
    recipients: RecipientList,
    composer: Composer,
    suppressed: Suppressed,
    max_size: int | None,
) -> str:
    """Hash everything that the pre-flight looks at; empty where something cannot be known beforehand."""
    file, data = definition.file, definition.file.data
    per_row_files = any("{" in rule.path for rule in file.attach)
    if definition.given_list is not None or per_row_files:
        return ""
    facts = [
        sha256(recipients.path),
        composer.version,
        suppressed.digest.hexdigest(),
        *map(str, (data.sheet, data.key, data.where, data.duplicates, data.hidden, data.encoding)),
        *sorted(file.check.ignore),
        *map(str, (sorted(data.types.items()), sorted(data.defaults.items()), max_size)),
    ]
    return hashlib.sha256("\x1f".join(facts).encode()).hexdigest()


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
            looked = inspection.look(recipient)
            earlier = listing.add(looked.listed)
            if earlier is not None:
                found.count(Status.DUPLICATE)
                if duplicates == "error":
                    problems.add([_duplicate(looked.listed, earlier)])
            else:
                found.count(looked.listed.status)
                if looked.frozen is not None:
                    found.largest = max(found.largest, looked.frozen.size)
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
