"""Addresses of ledgers on servers: nothing that is printed of one has its password."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mailmerge.campaign.shared_ledger import server
from mailmerge.errors import LedgerError

if TYPE_CHECKING:
    from servers.postgres import Postgres


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:ge/heim@h/mail",
        "postgresql://me:ge?heim@h:x/mail",
        "postgresql://me:ge@heim@h/mail",
        "postgresql://me:ge%zzheim@h/mail",
        "postgresql://me:geheim@[::1/mail",
        "postgresql://me:geheim@h:x/mail",
        "postgresql://me:geheim@h/mail?sslmod=x",
        "host=h password=ge heim",
        "host=h password='geheim",
    ],
)
def test_an_address_that_is_not_valid_is_refused_without_its_password(address: str) -> None:
    """Neither where it is shown nor in what libpq says of it is any piece of the password."""
    place = server(address)
    with pytest.raises(LedgerError) as caught:
        place.exists()
    text = f"{place} {caught.value.message} {caught.value.hint}"

    assert "is not valid" in text
    assert "ge" not in text.replace("ledger", "")
    assert "heim" not in text


def test_options_of_an_address_count_beside_ours(postgres: Postgres) -> None:
    """What the user sets applies; whoever is stopped in a transaction loses its locks in time."""
    place = server(f"{postgres.url()}?options=-c%20work_mem%3D5MB%20-c%20synchronous_commit%3Doff")
    with place.database() as db:
        settings = [db.row(f"SHOW {name}")[0] for name in ("work_mem", "synchronous_commit")]
        stopped = db.row("SHOW idle_in_transaction_session_timeout")[0]

    assert (settings, stopped) == (["5MB", "on"], "1min")
