"""A scheduled task, run by cron once a day: write to everybody whose invoice is overdue, each invoice once.

Set SMTP_SERVER, SMTP_PORT, SMTP_USER and SMTP_AUTH (the secret), then:
    python reminder.py invoices.db /var/lib/reminders
"""

import logging
import os
import sqlite3
import sys
from pathlib import Path

from mailmerge import Account, Campaign, MailmergeError, Settlement, Status

database, state = sqlite3.connect(sys.argv[1]), Path(sys.argv[2])
database.row_factory = sqlite3.Row
logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)


def note(settlement: Settlement) -> None:
    """Write down in our own database what happened; the ledger in *state* knows it already."""
    row = (str(settlement.status), settlement.attempt.key)
    with database:
        database.execute("UPDATE invoices SET reminder = ? WHERE number = ?", row)


account = Account(
    host=os.environ["SMTP_SERVER"],
    port=int(os.environ["SMTP_PORT"]),
    user=os.environ["SMTP_USER"],
    secret=lambda: os.environ["SMTP_AUTH"],  # asked for when the server wants it, as a vault would be
    any_from=True,
)
overdue = database.execute("SELECT * FROM invoices WHERE due < date('now', 'localtime') ORDER BY number")
rows = [dict(row) for row in overdue]
if not rows:
    sys.exit(0)
try:
    campaign = Campaign.from_rows(
        rows,
        subject="Invoice {{ number }} is overdue",
        text="Dear {{ name }},\n\ninvoice {{ number }} was due on {{ due }}: please have a look.",
        sender="Accounts <accounts@lindgren.example>",
        key="number",
        duplicates="allow",  # several invoices of one customer are several letters
        account=account,
        state=state,
    )
    report = campaign.send(on_outcome=note)
except MailmergeError as error:
    sys.exit(f"nothing sent: {error}. {error.hint or ''}")
if report is None or report.counts[Status.ACCEPTED] < report.counts.total:
    sys.exit("not every reminder was accepted: see out/report.html in the folder of the state")
