"""Where plans are kept between two commands: a folder that may be deleted at any time.

It is the user's cache folder, never the campaign's, which may come from anybody. All campaigns share it. The
names of a plan's two files have three parts. The digest of its owner shows what belongs to a campaign even
for files that nobody can read any more; by that of its premises, it is found; the last is its name::

    3f1c0b7a99d2-0123456789abcdef-fedcba9876543210.plan
    3f1c0b7a99d2-0123456789abcdef-fedcba9876543210.messages

Nothing in it is trusted: what is torn, of another version, somebody else's, or not a plain file is ignored.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Self

from msgspec import Struct

from mailmerge import files, options
from mailmerge.errors import FileError, PlanDamaged
from mailmerge.lazy_re import lazy_re
from mailmerge.plan.facts import Facts
from mailmerge.plan.sqlite_store import MESSAGES_SUFFIX, SUFFIX, SqlitePlanReader, SqlitePlanWriter
from mailmerge.plan.text_cache import TextCache

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from mailmerge.plan.store import PlanReader, PlanWriter

UNUSED_DAYS = 14
TEXTS = "texts"
"""Its folder of texts read from attachments; the names of the files begin like those of their plans."""
INPUT = "input"
"""Its folder of lists that came from standard input; their names begin like those of their plans."""
DOCUMENTS = "documents"
"""Its folder of files that were made for rows, with a folder for each campaign."""
_FILE = lazy_re(r"([0-9a-f]{12}-[0-9a-f]{16}-[0-9a-f]{16})\.(?:plan|messages)\Z")
_OWNER = lazy_re(r"[0-9a-f]{12}\Z")
_DOCUMENT = lazy_re(r"[0-9a-f]{64}\.[a-z]+\Z")
MOST_UNUSED = 1 << 30
"""Most octets of a campaign's made files that are in none of its plans any more, or not yet."""
_OTHER_PLACE = "set MAILMERGE_CACHE_DIR to a folder that you may write to"


class PlanOwner(Struct, frozen=True):
    """The campaign that a plan belongs to."""

    folder: str
    """Where its ledger is."""
    name: str

    @classmethod
    def of(cls, folder: Path, name: str) -> Self:
        """Return the owner of the plans of a campaign by its folder, however that was named."""
        return cls(str(folder.resolve()), name)

    @property
    def digest(self) -> str:
        """The beginning of the names of its files."""
        text = f"{self.folder}\n{self.name}".encode("utf-8", "surrogatepass")
        return hashlib.sha256(text).hexdigest()[:12]


class PlanCache:
    """The kept plans of one campaign, and what all campaigns share: the folder and its sweeping.

    Args:
        folder: where plans are kept; created with the first one.
        owner: the campaign.

    """

    def __init__(self, folder: Path, owner: PlanOwner) -> None:
        self.folder = folder
        self._owner = owner

    @property
    def documents(self) -> Path:
        """The folder of files that were made for rows of this campaign."""
        return self.folder / DOCUMENTS / self._owner.digest

    def path(self, name: str) -> Path:
        """Return the path of a plan's database, for people."""
        found = next((place for place in self._places() if place.endswith("-" + name)), name)
        return self.folder / (found + SUFFIX)

    def find(self, wanted: str, now: datetime) -> PlanReader | None:
        """Open the latest plan that can be trusted; None: none exists, so it has to be made.

        Args:
            wanted: the digest of its premises (the plan counts as used now), or its name.
            now: the time.

        """
        for place in self._places():
            premises, name = place.split("-")[1:]
            if wanted not in {premises, name}:
                continue
            with contextlib.suppress(PlanDamaged):
                reader = SqlitePlanReader(self.folder / place)
                if reader.name == name:
                    if wanted == premises:
                        files.mark_used(self.folder / (place + SUFFIX), now.timestamp())
                    return reader
                reader.close()
        return None

    def latest(self) -> PlanReader | None:
        """Open the plan that was used last and can be trusted, whatever it was made from; None: none."""
        for place in self._places():
            with contextlib.suppress(PlanDamaged):
                return SqlitePlanReader(self.folder / place)
        return None

    def _places(self) -> list[str]:
        """Return what the names of this campaign's plans begin with, the one that was used last first."""
        try:
            found = files.contents(self.folder)
        except FileError:
            return []
        ours = [name for name in found if name.endswith(SUFFIX) and name.startswith(self._owner.digest)]
        ours.sort(key=lambda name: found[name].st_mtime, reverse=True)
        return [name.removesuffix(SUFFIX) for name in ours if _FILE.match(name)]

    def writer(self, premises: str, made: datetime) -> PlanWriter:
        """Begin a plan; its name is known when it is finished.

        Args:
            premises: the digest of its premises, by which it is found again.
            made: now, in UTC.

        Raises:
            FileError: it cannot be kept here.

        """
        try:
            files.private_folder(self.folder)
            owner = json.dumps((self._owner.folder, self._owner.name))  # paths may have lone surrogates
            return SqlitePlanWriter(self.folder / f"{self._owner.digest}-{premises}", made, owner)
        except FileError as error:
            error.hint = f"{error.hint}, or {_OTHER_PLACE}" if error.hint else _OTHER_PLACE
            raise

    def texts(self, now: datetime) -> TextCache:
        """Return what was read of this campaign's files; it counts as used *now*."""
        path = self.folder / TEXTS / f"{self._owner.digest}-texts"
        files.mark_used(path, now.timestamp())
        return TextCache(path)

    def remove_messages(self, name: str) -> None:
        """Remove a plan's frozen messages, since nothing is left to send; open readers can continue.

        Where they cannot be removed they stay, and are swept later.
        """
        with contextlib.suppress(FileError):
            files.remove_file(self.path(name).with_suffix(MESSAGES_SUFFIX))

    def sweep(
        self, now: datetime, in_use: Callable[[PlanOwner, str], bool] = lambda _owner, _name: False
    ) -> None:
        """Remove the plans of all campaigns that nobody has used for `UNUSED_DAYS` days, and older ones.

        An older plan has the premises of one that was used later. A plan that somebody reads stays. What
        cannot be looked at or removed is left to the next sweep.

        Args:
            now: the time.
            in_use: returns whether the last run of this owner's campaign was made with the plan of this name.

        """
        oldest = now.timestamp() - UNUSED_DAYS * 86400
        with contextlib.suppress(FileError):
            found = files.contents(self.folder)
            latest: dict[str, float] = {}
            places: dict[str, float] = {}
            for place in {match[1] for match in map(_FILE.match, found) if match}:
                used = found.get(place + SUFFIX) or found[place + MESSAGES_SUFFIX]
                places[place] = used.st_mtime
                premises = place.rpartition("-")[0]
                latest[premises] = max(used.st_mtime, latest.get(premises, 0.0))
            for place, last in places.items():
                is_older = last < latest[place.rpartition("-")[0]]
                if (is_older or last < oldest) and not self._is_named(place, in_use):
                    self._remove_unused(place)
            files.sweep(self.folder)
            for folder in (self.folder / INPUT, self.folder / TEXTS):
                for name, facts in files.contents(folder).items():
                    if facts.st_mtime < oldest and not name.startswith("."):
                        files.remove_unused(folder / name)
            self._sweep_documents(oldest)

    def _sweep_documents(self, oldest: float) -> None:
        """Remove files that were made for rows, are in no plan, and are too old or too many.

        Another campaign's folder is only looked into when nothing was made for it for as long.
        """
        if (opened := files.existing(self.folder / DOCUMENTS)) is None:
            return
        with opened:
            owners = {name: opened.look(name) for name in opened.names() if _OWNER.match(name)}
        for owner, facts in owners.items():
            if facts is None or (facts.st_mtime >= oldest and owner != self._owner.digest):
                continue
            folder = self.folder / DOCUMENTS / owner
            files.sweep(folder)
            found = {name: one for name, one in files.contents(folder).items() if _DOCUMENT.match(name)}
            unused = sorted(
                found.keys() - self._planned_documents(owner), key=lambda name: -found[name].st_mtime
            )
            room = MOST_UNUSED
            for name in unused:
                room -= found[name].st_size
                if found[name].st_mtime < oldest or room < 0:
                    files.remove_file(folder / name)

    def _planned_documents(self, owner: str) -> set[str]:
        """Return the names of the files that a campaign's plans have."""
        names: set[str] = set()
        inside = os.fsencode(self.folder / DOCUMENTS / owner) + os.sep.encode()
        for name in files.contents(self.folder):
            if not (name.startswith(f"{owner}-") and name.endswith(SUFFIX) and _FILE.match(name)):
                continue
            with (
                contextlib.suppress(PlanDamaged),
                SqlitePlanReader(self.folder / name.removesuffix(SUFFIX)) as plan,
            ):
                facts = Facts.decode(plan.facts)
                paths = facts.looked_at.paths if facts else ()
                names |= {
                    os.fsdecode(one.path[len(inside) :]) for one in paths if one.path.startswith(inside)
                }
        return names

    def purge(self) -> None:
        """Remove every plan of this campaign, whoever reads it, its lists from standard input, and its files.

        Raises:
            FileError: one cannot be removed.

        """
        for folder in (self.folder, self.folder / INPUT, self.folder / TEXTS):
            files.clear(folder, re.compile(re.escape(self._owner.digest) + "-"), drafts=False)
        files.clear(self.documents, re.compile(".*", re.DOTALL), drafts=False)

    def _is_named(self, place: str, in_use: Callable[[PlanOwner, str], bool]) -> bool:
        try:
            with SqlitePlanReader(self.folder / place) as reader:
                owner = PlanOwner(*json.loads(reader.owner))
                return in_use(owner, reader.name)
        except PlanDamaged:
            return False

    def _remove_unused(self, place: str) -> None:
        if files.remove_unused(self.folder / (place + SUFFIX)):
            files.remove_unused(self.folder / (place + MESSAGES_SUFFIX))


def user_cache_folder(environ: Mapping[str, str]) -> Path:
    """Return the user's cache folder, shared by all campaigns."""
    for variable in options.CACHE_FOLDER.environment:
        if moved := environ.get(variable):
            return Path(moved)
    from platformdirs import user_cache_path

    return user_cache_path("mailmerge", appauthor=False)
