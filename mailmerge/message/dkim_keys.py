"""The private keys of an account's DKIM signatures: read from PEM files that only their owner can read."""

from __future__ import annotations

import sys
from base64 import b64encode
from stat import S_IMODE
from typing import TYPE_CHECKING, Any, Final

from mailmerge.errors import CampaignFileError
from mailmerge.extras import require
from mailmerge.folders import read_plain
from mailmerge.masking import Secret
from mailmerge.message.dkim import DkimSignatures, DkimSigner
from mailmerge.suggest import word
from mailmerge.text import quoted

if TYPE_CHECKING:
    from pathlib import Path

    from mailmerge.option_types import Algorithm, DkimKey

_LARGEST: Final = 100_000
_SHORTEST, _LONGEST = 2048, 4096
_OPTIONS: Final = {"rsa-sha256": "RSA -pkeyopt rsa_keygen_bits:2048", "ed25519-sha256": "ED25519"}


def read_signatures(keys: tuple[DkimKey, ...]) -> DkimSignatures | None:
    """Return the DKIM signatures for the keys of an account; None: it has none.

    Raises:
        CampaignFileError: a key cannot be read, is not a private key, or others can read it (C515); it is
            too short or too long (C516) or of another kind (C517); the extra is not installed (X902).

    """
    return DkimSignatures([_signer(key) for key in keys]) if keys else None


def public_record(key: DkimKey) -> str:
    """Return the text of the TXT record that publishes the key's public half (RFC 6376 section 3.6.1).

    Raises:
        CampaignFileError: as `read_signatures`.

    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    private = _private(key)
    kind = _algorithm(private).partition("-")[0]
    public = private.public_key()
    octets = (
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if kind == "rsa"
        else public.public_bytes_raw()
    )
    return f"v=DKIM1; k={kind}; p={b64encode(octets).decode('ascii')}"


def _signer(key: DkimKey) -> DkimSigner:
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    private = _private(key)
    lines = [line for line in _text(key.key_file).splitlines() if line and "-" not in line]
    guard = Secret(lines[len(lines) // 2], origin=str(key.key_file))
    algorithm = _algorithm(private)
    if algorithm == "ed25519-sha256":
        return DkimSigner(key.selector, key.domain, algorithm, private.sign, 64, guard)
    padding, digest = PKCS1v15(), SHA256()
    return DkimSigner(
        key.selector,
        key.domain,
        algorithm,
        lambda data: private.sign(data, padding, digest),
        private.key_size // 8,
        guard,
    )


def _algorithm(private: Any) -> Any:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    return "rsa-sha256" if isinstance(private, RSAPrivateKey) else "ed25519-sha256"


def _private(key: DkimKey) -> Any:
    """Return the private key, after checking that it can sign."""
    require("dkim", "DKIM signatures")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path, text = key.key_file, _text(key.key_file)
    try:
        private = load_pem_private_key(text.encode(), None)
    except TypeError:
        new = _beside(path)
        hint = f"remove the password: openssl pkey -in {word(str(path))} -out {word(str(new))}{_named(new)}"
        raise _unfit(path, "is encrypted", hint) from None
    except (ValueError, UnsupportedAlgorithm):
        what = f"is not a private key in PEM format{_what(text)}"
        raise _unfit(path, what, _make(_beside(path))) from None
    if not isinstance(private, RSAPrivateKey | Ed25519PrivateKey):
        raise _unfit(path, "is neither an RSA nor an Ed25519 key", _make(_beside(path)), "C517")
    found = _algorithm(private)
    if key.algorithm not in {None, found}:
        hint = f'write algorithm = "{found}", or {_make(_beside(path), key.algorithm)}'
        raise _unfit(path, f"is not for {key.algorithm}", hint, "C517")
    if isinstance(private, RSAPrivateKey) and not _SHORTEST <= private.key_size <= _LONGEST:
        wanted = f"DKIM needs {_SHORTEST:,} to {_LONGEST:,} (RFC 8301)"
        raise _unfit(path, f"has {private.key_size:,} bits: {wanted}", _make(_beside(path)), "C516")
    return private


def _text(path: Path) -> str:
    try:
        content = read_plain(path, _LARGEST)
        mode = S_IMODE(path.stat().st_mode)
    except OSError as error:
        new = path if isinstance(error, FileNotFoundError) else _beside(path)
        what = f"cannot be read: {(error.strerror or str(error)).lower()}"
        raise _unfit(path, what, _make(new, key_file=path)) from None
    if mode & 0o077 and sys.platform != "win32":  # there the folder's own rules say who may read it
        raise _unfit(path, "can be read by others", f"run: chmod 600 {word(str(path))}")
    return content.decode("ascii", "replace")


def _beside(path: Path) -> Path:
    """Return a new file next to one that must not be overwritten: it may be needed elsewhere."""
    return path.with_name(f"{path.stem}-new.pem")


def _make(new: Path, algorithm: Algorithm = "rsa-sha256", *, key_file: Path | None = None) -> str:
    make = f"make one: openssl genpkey -algorithm {_OPTIONS[algorithm]} -out {word(str(new))}"
    return make if new == key_file else make + _named(new)


def _named(new: Path) -> str:
    return f", and specify it: key_file = {quoted(new.name)}"


def _what(text: str) -> str:
    """Return what a file is instead, if its first line shows it."""
    if "PUBLIC KEY" in text:
        return ": it is the public key"
    if "CERTIFICATE" in text:
        return ": it is a certificate"
    return ": it is an OpenSSH key" if "OPENSSH" in text else ""


def _unfit(path: Path, what: str, hint: str, code: str = "C515") -> CampaignFileError:
    return CampaignFileError(f"the DKIM key {path} {what}", code=code, hint=hint)
