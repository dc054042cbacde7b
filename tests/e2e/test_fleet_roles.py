"""What docs/fleet.md says of roles: its SQL on a real PostgreSQL, and who can do what with it."""

from __future__ import annotations

import re
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from servers.command import statuses

if TYPE_CHECKING:
    from servers.kept import KeepingSandbox
    from servers.postgres import Postgres

PAGE = Path(__file__).parents[2] / "docs" / "fleet.md"
PEOPLE = ("ann@example.org", "bo@example.org")


def may(postgres: Postgres, user: str, statement: str) -> bool:
    """Return whether a user may do that."""
    address = f"host=127.0.0.1 port={postgres.port} dbname=postgres user={user} password={user}"
    with psycopg.connect(address, autocommit=True) as connection:
        try:
            connection.execute(statement)
        except psycopg.errors.InsufficientPrivilege:
            return False
    return True


def test_each_role_can_do_its_work_and_no_more(mailmerge, postgres: Postgres, relay: KeepingSandbox) -> None:
    """A fleet with a planner, a worker, an editor of opt-outs and a dashboard, each with its own role."""
    owner = postgres.new_database()
    mailmerge.account(relay)
    roles = ("planner", "worker", "optouts", "counts")
    with mailmerge.config.open("a") as file:
        file.write(f'\n[ledgers.owner]\nurl = "{owner}"\n')
        for role in roles:
            address = f"postgresql://{role}1:{role}1@127.0.0.1:{postgres.port}/postgres"
            file.write(f'\n[ledgers.{role}]\nurl = "{address}"\n')
    folder = mailmerge.campaign(people_csv="email,name\n" + "".join(f"{one},X\n" for one in PEOPLE))
    mailmerge("send", "spring", "--yes", "--ledger", "owner", "--fleet", "--detach", "--limit", "1")
    mailmerge("cancel", "spring", "--ledger", "owner")
    (script,) = re.findall(r"```sql roles\n(.*?)```", PAGE.read_text(), re.DOTALL)
    with psycopg.connect(owner, autocommit=True) as connection:
        for _ in range(2):
            connection.execute(script)
        for role in roles:
            connection.execute(f"DROP ROLE IF EXISTS {role}1")
            connection.execute(f"CREATE ROLE {role}1 LOGIN PASSWORD '{role}1' IN ROLE mailmerge_{role}")
    worker = mailmerge.start("worker", "--ledger", "worker", "--accounts", "test")
    added = mailmerge("suppress", "add", "bo@example.org", "--ledger", "optouts")
    done = mailmerge("send", "spring", "--yes", "--ledger", "planner", "--fleet")
    worker.send_signal(signal.SIGTERM)
    said = worker.communicate()[1].decode()

    assert (added.code, done.code) == (0, 0), (done, said)
    assert Counter(message.rcpt_to for message in relay.messages) == {("ann@example.org",): 1}
    assert statuses(folder) == ["accepted", "suppressed"], said
    refused = {
        "worker1": ("SELECT * FROM mailmerge.plan_finding",
                    "INSERT INTO mailmerge.opt_out VALUES (0, 'x', 0)",
                    "DELETE FROM mailmerge.opt_out", "DELETE FROM mailmerge.attempt",
                    "INSERT INTO mailmerge.plan_message VALUES (1, 1, '', 1, '')"),
        "optouts1": ("SELECT * FROM mailmerge.attempt", "SELECT * FROM mailmerge.plan_message",
                     "SELECT * FROM mailmerge.work"),
        "counts1": ("SELECT * FROM mailmerge.attempt", "SELECT * FROM mailmerge.delivery",
                    "SELECT * FROM mailmerge.opt_out"),
    }  # fmt: skip
    found = {user: [may(postgres, user, one) for one in statements] for user, statements in refused.items()}
    assert not any(map(any, found.values())), found
    assert may(postgres, "counts1", "SELECT campaign, status, rows FROM mailmerge.progress")
    with psycopg.connect(owner, autocommit=True) as connection:
        for role in roles:
            connection.execute(f"DROP OWNED BY mailmerge_{role}, {role}1")
            connection.execute(f"DROP ROLE mailmerge_{role}, {role}1")
