"""Removing the personal data of a campaign, wherever this machine knows that there is any."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from mailmerge.campaign.opening import Access, compare, open_run, registry_path
from mailmerge.campaign.shared_ledger import servers
from mailmerge.errors import LedgerError
from mailmerge.ledger.place import FilePlace
from mailmerge.ledger.registry import CampaignRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.campaign.definition import Definition
    from mailmerge.ledger.ledger import Ledger
    from mailmerge.ledger.place import LedgerPlace

_PURGED = "L709"


def purge(definition: Definition) -> bool:
    """Remove the personal data in a campaign's ledger, and what else this machine knows about it.

    That includes the ledger that it was moved away from, if that is the file in its folder or a server of the
    user's configuration, and the plans in a database.

    Returns:
        Whether there is a ledger.

    Raises:
        LedgerError: it is missing, or what is to be changed cannot be written; or a server that may have been
            its ledger once cannot be reached (L755): all else is removed then.

    """
    definition.workspace.check_folders()  # a campaign is purged once, so never partially
    found, unreached = definition.ledger_place.exists(), list[str]()
    if found:
        unreached = _purge_ledgers(definition)
    else:
        compare(definition, None)
    definition.workspace.remove_personal_files()
    definition.plan_cache.purge()
    if unreached:
        raise LedgerError(
            f"the personal data here is removed; {' and '.join(unreached)} cannot be reached, and may still "
            "have some if the campaign was there before",
            code="L755",
            hint="run the same command again when it can be reached, or remove it from config.toml",
        )
    return found


def _purge_ledgers(definition: Definition) -> list[str]:
    """Remove what ledgers have of it; return those that may have something, and cannot be reached."""
    try:
        with open_run(definition, Access.DECIDE) as opened:
            unreached = _purge_sealed(definition, opened.ledger.secret)
            opened.forget_messages()
            for name in opened.ledger.set_aside_names():
                with definition.ledger_place.open_for_writing(name, create=False) as earlier:
                    _remove_of(earlier)
            _remove_of(opened.ledger)
            return unreached
    except LedgerError as error:
        if error.code != _PURGED:  # purged before: what was written since is removed anyway
            raise
        return _purge_sealed(definition, b"")


def _remove_of(ledger: Ledger) -> None:
    """Remove what one ledger has of a campaign, with what is next to it on a server."""
    if ledger.server is not None:
        from mailmerge.ledger.work import forget
        from mailmerge.plan.server_store import remove

        ledger.refuse_while_fleet()
        forget(ledger.server, ledger.number)
        remove(ledger.server, ledger.number)
    ledger.purge()


def _purge_sealed(definition: Definition, secret: bytes) -> list[str]:
    """Remove what ledgers still have that the campaign was moved away from; return those out of reach."""
    unreached: list[str] = []
    here = definition.ledger_place
    for place in _earlier_places(definition):
        with contextlib.ExitStack() as stack:
            try:
                if not place.exists():
                    continue
                lock = stack.enter_context(place.lock(definition.name))
                old = stack.enter_context(place.open_for_writing(definition.name, create=False, lock=lock))
            except LedgerError as error:
                if error.code == "L720":
                    unreached.append(str(place))
                    continue
                if error.code in {"L705", _PURGED}:
                    continue
                raise
            if old.moved_to and (old.secret == secret or old.moved_to == str(here)):
                _remove_of(old)
    return unreached


def _earlier_places(definition: Definition) -> Iterator[LedgerPlace]:
    """Yield the ledgers that the campaign may have been in before."""
    here, own = definition.ledger_place, FilePlace(definition.workspace.ledger_path)
    if not isinstance(here, FilePlace):
        yield own
    path = registry_path(definition)
    if not path.exists():
        return
    with CampaignRegistry(path, read_only=True) as registry:
        home = registry.home(definition.workspace.folder, definition.name)
    if home is not None:  # else it has been in the file of its folder alone
        yield from (place for place in servers(definition.environment) if str(place) != str(here))
