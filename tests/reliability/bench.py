"""A campaign in a folder, and the ways to run it: in this process, as a command, or to be killed."""

from __future__ import annotations

import random
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from campaigns import TO_PEOPLE, campaign_toml
from mailmerge.campaign import Campaign, shared_ledger
from mailmerge.campaign.opening import open_standing
from mailmerge.campaign.run import SendRequest
from mailmerge.ledger.account_usage import AccountUsage
from mailmerge.ledger.ledger import Ledger
from reliability.invariants import check_invariants
from servers.command import Mailmerge

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from faultd import Accepted
    from mailmerge.campaign.plan import Plan
    from mailmerge.campaign.results import Report
    from mailmerge.clock import Clock
    from mailmerge.ledger.reader import LedgerReader
    from mailmerge.model import Counts, Result, Status
    from mailmerge.sending.runs import Progress, StopFlag
    from reliability.moody import MoodyServer

NAME = "spring"


def people(count: int, *, first: int = 1) -> str:
    """Write a list of *count* people; person 7 is ``p7@example.net``."""
    rows = (f"p{number}@example.net,Person {number}\n" for number in range(first, first + count))
    return "email,name\n" + "".join(rows)


def address(number: int) -> str:
    """Return a person's address."""
    return f"p{number}@example.net"


class Bench:
    """One campaign with its account, home and list."""

    def __init__(
        self, folder: Path, server: MoodyServer | None = None, *, rows: int = 3, ledger: str | None = None
    ) -> None:
        self.mailmerge = Mailmerge(folder)
        self.server = server
        self.database = None if ledger is None else shared_ledger.server(ledger)
        """Where the ledger is, if it is not the file in the campaign's folder."""
        if ledger is not None:
            self.mailmerge.environ["MAILMERGE_LEDGER"] = ledger
        self.rows = rows
        self.folder = folder / NAME
        self.write(people_csv=people(rows))
        if server is not None:
            self.account()

    def account(self, **values: object) -> None:
        """Describe the account; *values* are its limits and the like."""
        assert self.server is not None
        self.mailmerge.account(self.server, **values)

    def knows_server(self, *, borne: bool = True) -> None:
        """Remember what an earlier run found out: whether the server accepts commands behind a message."""
        assert self.server is not None
        state = Path(self.mailmerge.environ["MAILMERGE_STATE_DIR"])
        state.mkdir(mode=0o700, exist_ok=True)
        with AccountUsage(state / "usage.db") as usage:
            usage.note_borne(self.server.host, self.server.port, datetime.now(UTC), borne=borne)

    def write(
        self, *, data: str = "", message: str = "", send: str = "", max_rejected: str = "100%", **files: str
    ) -> None:
        """Write the campaign; *data*, *message* and *send* are further lines of these sections."""
        toml = campaign_toml(
            top='account = "test"',
            data=data,
            message=f"{TO_PEOPLE}\n{message}",
            send=f'max_rejected = "{max_rejected}"\n{send}',
        )
        files = {"people_csv": people(self.rows), "campaign_toml": toml, **files}
        self.mailmerge.campaign(NAME, **files)

    @property
    def ledger_path(self) -> Path:
        """Where the ledger is."""
        return self.folder / ".mailmerge" / "ledger.db"

    @property
    def has_ledger(self) -> bool:
        """Whether a run has got as far as to make one."""
        return self.ledger_path.exists() if self.database is None else self.database.exists()

    def campaign(self) -> Campaign:
        """Read the campaign as a new process would."""
        return Campaign.load(self.folder, environ=self.mailmerge.environ)

    def send(
        self,
        *,
        clock: Clock | None = None,
        stop: StopFlag | None = None,
        observe: Callable[[Progress], None] = lambda _progress: None,
        confirm: Callable[[Plan], bool] = lambda _plan: True,
        **wanted: object,
    ) -> Report:
        """Run to the end, in this process."""
        request = SendRequest(**wanted)  # type: ignore[arg-type]
        report = self.campaign().send(
            request=request, confirm=confirm, observe=observe, stop=stop, clock=clock
        )
        assert report is not None
        return report

    @contextmanager
    def ledger(self) -> Iterator[LedgerReader]:
        """Look into the ledger."""
        with Ledger.open_read_only(self.ledger_path, NAME) as ledger:
            yield ledger

    def states(self) -> dict[str, Status]:
        """Return every row's state, by address."""
        return {result.address: result.status for result in self.results()}

    def results(self) -> list[Result]:
        """Return every row, as a report has it."""
        with open_standing(self.campaign().definition) as standing:
            return list(standing.results()) if standing else []

    def check(
        self,
        taken: Sequence[Accepted] | None = None,
        *,
        rows: int | None = None,
        resent: Collection[str] = (),
        settled: Collection[str] = (),
    ) -> Counts:
        """Check all invariants; the counts are returned for closer looks."""
        if self.server is not None:
            assert self.server.idle(), "the server still has clients"
        return check_invariants(
            self.campaign(),
            self.server.accepted if taken is None and self.server is not None else taken or [],
            rows=self.rows if rows is None else rows,
            resent=resent,
            settled=settled,
        )


def taken_order(server: MoodyServer) -> list[str]:
    """Return the addresses the server took messages for, in that order."""
    return [recipient.decode() for message in server.accepted for recipient in message.recipients]


def seeded(seed: int | None = None, options: Mapping[str, object] | None = None) -> random.Random:
    """Make a random source and print its seed, so that a failure can be repeated."""
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    print(f"seed {seed}", *(options or ()))  # noqa: T201  shown where a test fails
    return random.Random(seed)
