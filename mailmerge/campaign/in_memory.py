"""A campaign whose list and templates are objects of a program, not files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Required, TypedDict

from msgspec.structs import replace

from mailmerge.campaign.definition import Definition, ledger_of
from mailmerge.campaign.workspace import Workspace, folder_of_name, user_state_folder
from mailmerge.config import campaign_file
from mailmerge.config.environment import Environment
from mailmerge.plan.cache import user_cache_folder
from mailmerge.suggest import Invocation

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailmerge.config.accounts import Account
    from mailmerge.options import Duplicates
    from mailmerge.recipients import RecipientList
    from mailmerge.values import Plain

    Texts = str | Sequence[str]
    Paths = Path | str | Sequence[Path | str]


class CampaignOptions(TypedDict, total=False):
    """The keyword arguments of `Campaign.from_rows` and `Campaign.from_dataframe`; None means not given."""

    subject: Required[str]
    """Template of the subject line."""
    text: str | None
    """Template of the text part."""
    html: str | None
    """Template of the HTML part."""
    sender: str | None
    """``Name <address>``; default: the account's own."""
    to: Texts | None
    """Templates of the recipients; default: ``{{ email }}``."""
    cc: Texts | None
    bcc: Texts | None
    reply_to: Texts | None
    headers: Mapping[str, str] | None
    """More headers."""
    locale: str | None
    """The locale of dates, money and numbers; default: ``en``."""
    vars: Mapping[str, Plain] | None
    """Values for all templates."""
    attach: Paths | None
    """Files for every row; templates of paths."""
    key: str | None
    """The column that identifies a row; default: the address."""
    where: str | None
    """Only rows for which this Jinja expression is true."""
    group_by: str | None
    """One message for all rows with the same value of this Jinja expression, such as a column."""
    duplicates: Duplicates | None
    """Rows that repeat an address; default: ``first``, with *group_by* ``allow``."""
    suppress: Paths | None
    """Files with addresses that are never written to."""
    rate: Texts | None
    """Pace, such as ``60/m``; default: the account's."""
    name: str | None
    """The campaign's name, its identity in the ledger; default: the name of the *state* folder."""
    account: Account | str | None
    """Who sends, or the name of an account or preset; default: the server that ``SMTP_SERVER`` names."""
    state: Path | str | None
    """The folder for ledger, lock and reports; default: one for *name* in the user's state folder."""
    out: Path | str | None
    """The folder for reports; default: ``out`` in the folder of the state."""
    folder: Path | str | None
    """Where templates find includes and images, and ``.env`` is; default: the working directory."""
    environ: Mapping[str, str] | None
    """Variables for accounts and secrets; default: the process's own."""
    options: Mapping[str, object] | None
    """More values by their names in a campaign file, such as ``send.retry`` or ``data.types``."""


_NAMES: Final = {
    "subject": "message.subject",
    "text": "message.text",
    "html": "message.html",
    "sender": "message.from",
    "to": "message.to",
    "cc": "message.cc",
    "bcc": "message.bcc",
    "reply_to": "message.reply_to",
    "headers": "message.headers",
    "locale": "message.locale",
    "vars": "vars",
    "attach": "attach",
    "key": "data.key",
    "where": "data.where",
    "group_by": "data.group_by",
    "duplicates": "data.duplicates",
    "suppress": "data.suppress",
    "rate": "send.rate",
}
"""The name of each of them in a campaign file."""


def define(make_list: Callable[..., RecipientList], shown: str, given: CampaignOptions) -> Definition:
    """Describe a campaign that has no file and no folder of its own; writes nothing.

    Args:
        make_list: makes the list, with *key*, *types* and *defaults* of its columns.
        shown: its name in messages.
        given: the program's arguments.

    Raises:
        TypeError: an argument is not known.
        ValueError: neither *name* nor *state* is given.
        CampaignFileError: with every problem in the values.
        ListError: the list cannot be read.

    """
    unknown = [name for name in given if name not in CampaignOptions.__annotations__]
    if unknown:
        raise TypeError(f"not a known argument of a campaign: {', '.join(unknown)}")
    folder, state, account = Path(given.get("folder") or "."), given.get("state"), given.get("account")
    name = given.get("name") or (Path(state).resolve().name if state else None)
    if not name:
        raise ValueError("a campaign without a folder needs a name, or a state folder")
    environment = Environment.read(folder, given.get("environ"))
    values: dict[str, object] = {"name": name, "data.source": shown}
    values |= {option: _plain(given.get(argument)) for argument, option in _NAMES.items()}
    for body in ("message.text", "message.html"):
        if isinstance(template := values[body], str):
            # A string with a line break is the template itself, not the name of its file.
            values[body] = template.rstrip("\n") + "\n"
    if isinstance(account, str):
        values["account"] = account
    values |= given.get("options") or {}
    file = campaign_file.from_options(folder, values, environ=environment.real, typed=False)
    user_state = user_state_folder(environment)
    place = Path(state) if state else folder_of_name(user_state, file.name)
    cache = place / "cache" if state else user_cache_folder(environment)
    workspace = Workspace(place, Path(given.get("out") or place / "out"), user_state, cache)
    # A command line can show what has happened, even if the list does not exist; it cannot send.
    named = {"data.source": place / shown, "name": file.name}
    invocation = replace(Invocation.programmed(None, named, out=given.get("out")), unsaid=True)
    return Definition(
        file,
        environment,
        workspace,
        invocation,
        given_list=make_list(key=file.data.key, types=file.data.types, defaults=file.data.defaults),
        given_account=None if isinstance(account, str) else account,
        given_ledger=ledger_of(file, environment, invocation),
    )


def _plain(value: Any) -> Any:
    """Return the value that a campaign file could have: strings for paths, lists for sequences."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value
