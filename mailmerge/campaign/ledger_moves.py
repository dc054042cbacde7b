"""A campaign has one ledger: where another one is named than this machine knows, nothing is done.

`move` copies it from one to the other, and seals the old one, so that nobody continues with that by mistake.
The old one is sealed first: whatever ends the move in between, two ledgers are never in use at the same time,
and the same command finishes it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from mailmerge.errors import LedgerError
from mailmerge.ledger.place import FilePlace
from mailmerge.suggest import suggested

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mailmerge.campaign.definition import Definition
    from mailmerge.ledger.ledger import Ledger
    from mailmerge.ledger.place import LedgerPlace
    from mailmerge.ledger.reader import LedgerReader
    from mailmerge.ledger.registry import CampaignRegistry
    from mailmerge.ledger.server_place import ServerPlace


def refuse_elsewhere(definition: Definition, ledger: LedgerReader | None, registry: CampaignRegistry) -> None:
    """Refuse a ledger that is not the campaign's own, as far as this machine knows.

    Args:
        definition: the campaign.
        ledger: its part of the ledger that is named now; None: there is none.
        registry: what this machine knows.

    Raises:
        LedgerError: it has another one.

    """
    if ledger is not None and ledger.moved_to:
        raise _elsewhere(definition, ledger.moved_to)
    if refuse_home_elsewhere(definition, registry):
        return
    if not isinstance(definition.ledger_place, FilePlace) and (ledger is None or not ledger.handed_over):
        own = FilePlace(definition.workspace.ledger_path)
        with _looking(own, definition.name) as file:
            if file is not None and file.handed_over and not file.moved_to:
                raise _elsewhere(definition, str(own))


def refuse_home_elsewhere(definition: Definition, registry: CampaignRegistry) -> bool:
    """Refuse a ledger if this machine knows the campaign in another one; return whether it knows any.

    Raises:
        LedgerError: it knows another one.

    """
    home = registry.home(definition.workspace.folder, definition.name)
    if home is not None and home[0] != str(_known_as(definition.ledger_place)):
        raise _elsewhere(definition, home[1])
    return home is not None


def refuse_before_opening(definition: Definition, registry: CampaignRegistry) -> None:
    """Do the same before a ledger that does not exist yet would be made.

    Raises:
        LedgerError: the campaign has another one.

    """
    place, name = definition.ledger_place, definition.name
    if not isinstance(place, FilePlace) or registry.home(definition.workspace.folder, name) is not None:
        with _looking(place, name) as ledger:
            refuse_elsewhere(definition, ledger, registry)


def refuse_shared_name(definition: Definition, ledger: LedgerReader, registry: CampaignRegistry) -> None:
    """Refuse a folder whose name another one of this machine has in the same database.

    Raises:
        LedgerError: there is one, and it is still there.

    """
    if ledger.server is None or definition.only_ledger:
        return
    folder, name = definition.workspace.folder, definition.name
    if registry.home(folder, name) is not None:
        return
    if others := registry.other_homes(folder, name, ledger.known_as):
        hint = _move_hint(
            definition, "give this one another `name`", "to continue here, and no longer there: {command}"
        )
        raise LedgerError(
            f'campaign "{name}" in {ledger.path} is that of {others[0]}, not of {folder}',
            code="L756",
            hint=hint,
        )


def forget_lost(definition: Definition, registry: CampaignRegistry) -> bool:
    """Forget a campaign's ledger on a server that does not answer; return whether that was the case.

    Raises:
        LedgerError: the campaign has another ledger, as far as this machine knows.

    """
    place, home = definition.ledger_place, registry.home(definition.workspace.folder, definition.name)
    if home is None or isinstance(place, FilePlace) or not place.is_out_of_reach():
        return False
    if home[1] != str(place):
        raise _elsewhere(definition, home[1])
    registry.forget_home(definition.workspace.folder, definition.name)
    return True


def note_home(definition: Definition, ledger: LedgerReader, registry: CampaignRegistry) -> None:
    """Remember that a campaign has this ledger, where it is not simply the one in its folder."""
    folder, name = definition.workspace.folder, definition.name
    if not isinstance(definition.ledger_place, FilePlace) or registry.home(folder, name) is not None:
        registry.note_home(folder, name, ledger.known_as, str(definition.ledger_place))


def source_of(
    definition: Definition, registry: CampaignRegistry, others: Iterable[ServerPlace]
) -> LedgerPlace | None:
    """Return the ledger that a campaign is to be moved from; None: it is not known in any other one.

    Raises:
        LedgerError: it is on a server that is not configured.

    """
    home = registry.home(definition.workspace.folder, definition.name)
    own = FilePlace(definition.workspace.ledger_path)
    if home is None:
        if not isinstance(definition.ledger_place, FilePlace):
            return own if own.exists() else None
        return _unfinished(definition, others)
    if home[0] == str(_known_as(definition.ledger_place)):
        return None
    if home[0] == str(_known_as(own)) or Path(home[0]).is_absolute():
        return FilePlace(Path(home[0]))
    for place in others:
        with contextlib.suppress(LedgerError):
            if place.known_as == home[0]:
                return place
    raise _nowhere(home[1])


def _unfinished(definition: Definition, others: Iterable[ServerPlace]) -> ServerPlace | None:
    """Return the server for which an unfinished move has sealed the file in the folder."""
    with _looking(definition.ledger_place, definition.name) as file:
        moved_to = "" if file is None else file.moved_to
    if not moved_to:
        return None
    found = next((place for place in others if str(place) == moved_to), None)
    if found is None:
        raise _nowhere(moved_to)
    return found


def _nowhere(shown: str) -> LedgerError:
    return LedgerError(
        f"the campaign's ledger is {shown}, which no [ledgers.NAME] of your config.toml names",
        code="L714",
        hint="add it there, with its url, then run the same command again",
    )


def move(definition: Definition, source: LedgerPlace, registry: CampaignRegistry) -> None:
    """Move a campaign from another ledger into the one that is named now, and seal the other one.

    Raises:
        LedgerError: it could not be copied unchanged; the old one is unchanged.
        InUseError: another process, or a fleet, is working on it.

    """
    name, target = definition.name, definition.ledger_place
    with source.lock(name) as lock, _source(definition, source, lock) as old:
        if old is None:
            return
        old.refuse_while_fleet()  # otherwise its workers would keep sending next to the new ledger
        old.repair()
        registry.refuse_older(old, source.known_as)
        if old.moved_to and old.moved_to != str(target):
            raise _elsewhere(definition, old.moved_to)
        # What can be refused (no server, no rights, another campaign) is refused before anything is sealed.
        with target.lock(name) as other:
            there = _is_there(old, target)
            old.seal(str(target))
            if not there:
                _transfer(old, target)
            with target.open_for_writing(name, create=False, lock=other) as new:
                registry.moved(old, new)
                registry.note_home(definition.workspace.folder, name, new.known_as, str(target))


def _transfer(old: Ledger, target: LedgerPlace) -> None:
    """Write a campaign into another ledger; reopen the old one only if it certainly did not arrive."""
    with target.database_to_fill() as empty:
        try:
            old.transfer_to(empty)
        except BaseException as error:
            if not (empty.unsure or (isinstance(target, FilePlace) and _has(target, old))):
                old.seal("")
                raise
            if not isinstance(error, LedgerError):
                raise
            raise LedgerError(
                f"{error.message}; whether the campaign has arrived there is not known",
                code=error.code,
                hint="it cannot be continued until the same command has finished the move",
            ) from error


def _has(place: LedgerPlace, old: Ledger) -> bool:
    """Return whether a ledger may have this very campaign, under whatever name, to be continued."""
    try:
        with _looking(place, old.campaign) as found:
            return found is not None and found.secret == old.secret and not found.moved_to
    except LedgerError:
        return True


@contextlib.contextmanager
def _source(definition: Definition, source: LedgerPlace, lock: object) -> Iterator[Ledger | None]:
    """Open the ledger that a campaign is moved from; None: it never arrived there."""
    name, target = definition.name, definition.ledger_place
    try:
        old = source.open_for_writing(name, create=False, lock=lock)
    except LedgerError as error:
        if error.code != "L705" or isinstance(source, FilePlace):
            raise
        with _looking(target, name) as sealed:
            came_from_here = sealed is not None and sealed.moved_to == str(source)
            if sealed is None or not came_from_here or source.knows(sealed.secret):
                raise
        with target.lock(name) as own, target.open_for_writing(name, create=False, lock=own) as here:
            here.seal("")
        yield None
        return
    with old:
        yield old


def _is_there(old: Ledger, target: LedgerPlace) -> bool:
    """Return whether an earlier move, which was stopped, has written the campaign.

    Raises:
        LedgerError: another campaign of this name is there, or an older copy of this one.

    """
    with _looking(target, old.campaign) as found:
        if found is None or not found.handed_over or (found.moved_to and found.secret == old.secret):
            return False
        gone_on = old.moved_to and found.handed_over >= old.handed_over  # on another machine, since then
        if found.secret == old.secret and (gone_on or found.content() == old.content()):
            return True
    raise LedgerError(
        f'the ledger {target} already has a campaign "{old.campaign}"',
        code="L724",
        hint="give this one another name, or forget that one first",
    )


@contextlib.contextmanager
def _looking(place: LedgerPlace, name: str) -> Iterator[LedgerReader | None]:
    try:
        reader = place.open_read_only(name) if place.exists() else None
    except LedgerError as error:
        if error.code != "L705":
            raise
        reader = None
    with reader or contextlib.nullcontext():
        yield reader


def _known_as(place: LedgerPlace) -> object:
    known = place.known_as
    return known.resolve() if isinstance(known, Path) else known


def _move_hint(definition: Definition, first: str, moving: str) -> str:
    """Say what to do, or how to move the campaign: by the command, or by the method for a program."""
    if not definition.invocation.typed:
        return f"{first}, or use the method `move_ledger`"
    return f"{first}; {moving.format(command=suggested(definition.invocation, 'ledger move'))}"


def _elsewhere(definition: Definition, shown: str) -> LedgerError:
    hint = _move_hint(definition, "name that one", "to move the campaign from there to this one: {command}")
    return LedgerError(
        f'the ledger of campaign "{definition.name}" is {shown}, not {definition.ledger_place}',
        code="L714",
        hint=hint,
    )
