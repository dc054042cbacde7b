"""The preview page made again whenever a file of the campaign changes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mailmerge.campaign.preview import Previewed, PreviewRequest, write_broken, write_preview
from mailmerge.errors import MailmergeError
from mailmerge.preview.live import FileStates, file_states

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailmerge.campaign.campaign import Campaign


class Watched:
    """A campaign that is edited while its page is looked at.

    Args:
        load: opens the campaign as it is now.
        page: the file to keep up to date.
        request: which rows it shows.

    Raises:
        CampaignFileError: there is no campaign to begin with.

    """

    def __init__(self, load: Callable[[], Campaign], page: Path, request: PreviewRequest) -> None:
        self._load = load
        self._page = page
        self._request = request
        self._campaign = load()
        self._made_from: FileStates = {}
        self._seen: FileStates = {}

    @property
    def name(self) -> str:
        """The campaign's name, as it was when it could be opened last."""
        return self._campaign.name

    def make(self) -> Previewed | MailmergeError:
        """Write the page from the files as they are; what stops that is shown on the page, and returned."""
        self._made_from = self._seen = self._look()
        try:
            self._campaign = self._load()
            return write_preview(self._campaign, self._page, self._request, live=True)
        except MailmergeError as error:
            write_broken(self._page, self._campaign.name, error, self._request.command)
            return error

    def changed(self) -> bool:
        """Say whether files changed since the page was made, and have been still since the last call."""
        now = self._look()
        still = now == self._seen
        self._seen = now
        return still and now != self._made_from

    def _look(self) -> FileStates:
        file = self._campaign.file
        bodies = [body for body in (file.message.text, file.message.html) if isinstance(body, Path)]
        files = [file.data.source, *file.data.suppress, *bodies, *([file.path] if file.path else [])]
        return file_states(map(Path, files), [file.folder] if file.path else [])
