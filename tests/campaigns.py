"""A small campaign on disk: people, a body, a campaign.toml, and what a test wants different about them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mailmerge import Campaign

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    Files = Mapping[str, str | bytes | None]

HEADING = "email,name"
PEOPLE = f"{HEADING}\nana@example.com,Ana\nbo@example.net,Bo\ncy@example.org,Cy\n"
BODY = "Dear {{ name }},\n\nwelcome to the club.\n"
TO_PEOPLE = 'to = "{{ name }} <{{ email }}>"'

_KEYS = {
    "top": {"name": '"spring"'},
    "data": {"source": '"people.csv"'},
    "message": {"from": '"Me <me@example.org>"', "subject": '"Hello {{ name }}"'},
    "send": {},
}
_BODIES = {"text": "body.txt", "html": "body.html"}


def campaign_toml(
    *, top: str = "", data: str = "", message: str = "", send: str = "", rest: str = "", bodies: str = "text"
) -> str:
    """Write a campaign file: the lines given for a section, and each default whose key they do not set.

    *rest* are further sections, *bodies* the parts that the message has.
    """
    texts = "".join(f'{part} = "{_BODIES[part]}"\n' for part in bodies.split())
    sections = {"top": top, "data": data, "message": texts + message, "send": send}
    blocks = []
    for section, own in sections.items():
        lines = [f"{key} = {value}" for key, value in _KEYS[section].items() if not _sets(own, key)]
        lines += [own.strip("\n")] if own.strip("\n") else []
        if lines:
            blocks.append("\n".join(lines if section == "top" else [f"[{section}]", *lines]) + "\n")
    return "\n".join(blocks) + rest


def write_campaign(
    folder: Path,
    files: Files | None = None,
    *,
    rows: Sequence[str] | None = None,
    heading: str = HEADING,
    **sections: str,
) -> Path:
    """Write a campaign into *folder*, which is made.

    *files*, by name, are written besides or instead of ``people.csv``, ``body.txt`` and ``campaign.toml``;
    those that are None are left out. For short, *rows* are the lines of the list under its *heading*, and
    *sections* go to `campaign_toml`.
    """
    contents: dict[str, str | bytes | None] = {"people.csv": PEOPLE, "body.txt": BODY}
    if rows is not None:
        contents["people.csv"] = "".join(f"{line}\n" for line in (heading, *rows))
    contents |= files or {}
    bodies = " ".join(part for part, name in _BODIES.items() if contents.get(name) is not None)
    contents = {"campaign.toml": campaign_toml(bodies=bodies, **sections), **contents}
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        if content is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


class CampaignFactory:
    """Writes a campaign into ``folder``, and opens it with a home of its own beside it.

    A call takes what `write_campaign` takes. Called again, it writes over the files that are there.
    """

    def __init__(self, home: Path) -> None:
        self.folder = home / "spring"
        self.config = home / "config.toml"
        self.environ = {
            "MAILMERGE_STATE_DIR": str(home / "state"),
            "MAILMERGE_CACHE_DIR": str(home / "cache"),
            "MAILMERGE_CONFIG": str(self.config),
        }

    def __call__(self, files: Files | None = None, **wanted: object) -> Campaign:
        """Write the campaign and open it."""
        write_campaign(self.folder, files, **wanted)  # type: ignore[arg-type]
        return self.open()

    def open(self, **environ: str) -> Campaign:
        """Open it as it is on disk."""
        return Campaign.load(self.folder, environ={**self.environ, **environ})


def _sets(lines: str, key: str) -> bool:
    return re.search(rf"^{key}\s*=", lines, re.MULTILINE) is not None


def write_key(path: Path) -> None:
    """Write a new private key for DKIM that only its owner may read."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.touch(0o600)
    path.write_bytes(key)
