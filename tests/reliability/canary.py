"""Every form in which a secret could show, and the search for it."""

from __future__ import annotations

import base64
import html
import json
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PASSWORD = 'cAnary"pä55\\ w%rd+/=_-$<&>5'
TOKEN = "ya29.cAnary-t0ken_~+/=="


def forms(secret: str, user: str) -> dict[str, bytes]:
    """Return the octets to look for, by what they are."""
    data = secret.encode()
    found = {
        "raw": data,
        "JSON": json.dumps(secret)[1:-1].encode(),
        "JSON, as it is": json.dumps(secret, ensure_ascii=False)[1:-1].encode(),
        "repr": repr(secret)[1:-1].encode(),
        "repr of octets": repr(data)[2:-1].encode(),
        "HTML": html.escape(secret).encode(),
        "URL": quote(secret).encode(),
        "URL, all of it": quote(secret, safe="").encode(),
        "reversed": data[::-1],
        "hexadecimal": data.hex().encode(),
        "AUTH PLAIN": base64.b64encode(f"\0{user}\0{secret}".encode()),
        "XOAUTH2": base64.b64encode(f"user={user}\1auth=Bearer {secret}\1\1".encode()),
    }
    for lead in range(3):  # base64 of anything that contains the secret has one of these inside
        for name, encode in (("base64", base64.b64encode), ("base64, for URLs", base64.urlsafe_b64encode)):
            core = encode(bytes(lead) + data)[(lead * 8 + 5) // 6 : (lead + len(data)) * 8 // 6]
            found[f"{name} behind {lead}"] = core
    return found


def leaks(user: str, secrets: Iterable[str], texts: dict[str, bytes], folder: Path) -> list[str]:
    """Look for every form of every secret in *texts* and in all files below *folder*; give what was found."""
    places = dict(texts)
    for path in folder.rglob("*"):
        if path.is_file():
            places[str(path.relative_to(folder))] = path.read_bytes()
    return [
        f"{name} of {secret[:6]}... in {place}"
        for secret in secrets
        for name, form in forms(secret, user).items()
        for place, data in places.items()
        if form in data
    ]
