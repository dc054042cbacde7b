"""What other programs say of DKIM signatures, asked without a network: each gets the records from us."""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import subprocess
from typing import TYPE_CHECKING

from servers import programs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    Records = Mapping[str, str]
    """The text of each TXT record, by its name."""

PERL = r"""
use strict; use JSON::PP; use Mail::DKIM::Verifier; use Mail::DKIM::DNS; use Net::DNS;
my $asked = decode_json(do { local $/; <STDIN> });
{ no warnings 'redefine';
*Mail::DKIM::DNS::query = sub {
    my ($name, $type) = @_;
    my $text = $asked->{records}{$name} or return;
    return Net::DNS::RR->new(owner => $name, type => 'TXT', txtdata => [unpack '(a200)*', $text]);
}; }
my @found;
for my $message (@{$asked->{messages}}) {
    my $verifier = Mail::DKIM::Verifier->new();
    $verifier->PRINT($message); $verifier->CLOSE();
    push @found, [map { $_->result } $verifier->signatures];
}
print encode_json(\@found);
"""
NODE = r"""
const { dkimVerify } = require('mailauth/lib/dkim/verify');
let text = ''; process.stdin.on('data', chunk => text += chunk).on('end', async () => {
    const { records, messages } = JSON.parse(text), found = [];
    const resolver = async name => { if (records[name]) return [[records[name]]];
        const error = new Error('no such name'); error.code = 'ENOTFOUND'; throw error; };
    for (const message of messages) {
        const { results } = await dkimVerify(Buffer.from(message, 'latin1'), { resolver });
        found.push(results.map(one => one.status.result));
    }
    process.stdout.write(JSON.stringify(found));
});
"""


def perl(messages: Sequence[bytes], records: Records) -> list[list[str]]:
    """Ask Mail::DKIM; Ed25519 needs a module that Debian does not always have, see `knows_ed25519`."""
    return _asked(["perl", "-e", PERL], messages, records)


def mailauth(messages: Sequence[bytes], records: Records) -> list[list[str]]:
    """Ask npm's mailauth."""
    folder = programs.require_npm("mailauth")
    return _asked(["node", "-e", NODE], messages, records, NODE_PATH=str(folder))


def _asked(
    command: list[str], messages: Sequence[bytes], records: Records, **environ: str
) -> list[list[str]]:
    programs.require(command[0])
    asked = json.dumps({"records": dict(records), "messages": [text.decode("latin-1") for text in messages]})
    done = subprocess.run(
        command,
        input=asked.encode(),
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", **environ},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    found: list[list[str]] = json.loads(done.stdout)
    return found


def dkimpy(messages: Sequence[bytes], records: Records) -> list[list[str]]:
    """Ask dkimpy."""
    import dkim

    def lookup(name: bytes, timeout: int = 5) -> bytes:
        del timeout
        return records.get(name.decode().rstrip("."), "").encode()

    found = []
    for message in messages:
        count = message.partition(b"\r\n\r\n")[0].count(b"DKIM-Signature:")
        verifier = dkim.DKIM(message)
        results = []
        for number in range(count):
            try:
                results.append("pass" if verifier.verify(number, dnsfunc=lookup) else "fail")
            except dkim.DKIMException as error:
                results.append(f"fail: {error}")
        found.append(results)
    return found


def opendkim(messages: Sequence[bytes], records: Records, folder: Path) -> list[list[str]]:
    """Ask OpenDKIM's library, which every milter of that name uses; it knows RSA only."""
    name = ctypes.util.find_library("opendkim")
    if name is None:
        programs.refuse("libopendkim is not installed (scripts/install-test-programs)")
    library = ctypes.CDLL(name)
    for function in ("dkim_init", "dkim_verify", "dkim_getsighdr_d"):
        getattr(library, function).restype = ctypes.c_void_p
    keys = folder / "records"
    keys.write_text("".join(f"{name} {text}\n" for name, text in records.items()))
    handle = ctypes.c_void_p(library.dkim_init(None, None))
    method, path = ctypes.c_int(_QUERY_FILE), ctypes.create_string_buffer(str(keys).encode())
    assert library.dkim_options(handle, _SET, _QUERY_METHOD, ctypes.byref(method), ctypes.sizeof(method)) == 0
    assert library.dkim_options(handle, _SET, _QUERY_INFO, path, len(path)) == 0
    found = [[_opendkim_one(library, handle, message)] for message in messages]
    library.dkim_close(handle)
    return found


_SET, _QUERY_METHOD, _QUERY_INFO, _QUERY_FILE = 1, 6, 7, 1  # of dkim.h


def _opendkim_one(library: ctypes.CDLL, handle: ctypes.c_void_p, message: bytes) -> str:
    status = ctypes.c_int()
    one = ctypes.c_void_p(library.dkim_verify(handle, b"one", None, ctypes.byref(status)))
    assert status.value == 0
    library.dkim_chunk(one, message, ctypes.c_size_t(len(message)))
    library.dkim_chunk(one, None, ctypes.c_size_t(0))
    result = library.dkim_eom(one, None)
    library.dkim_free(one)
    return "pass" if result == 0 else f"status {result}"
