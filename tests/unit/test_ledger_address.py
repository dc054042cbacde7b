"""Addresses of ledgers on servers: nothing that is printed of one has its password."""

from __future__ import annotations

import pytest

from mailmerge.campaign.shared_ledger import server
from mailmerge.errors import LedgerError


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
