"""What DKIM signatures cost: one message of 19 KB without files, its header as newsletters have it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from measure import run_json

if TYPE_CHECKING:
    from setting import Setting
    from table import Results

HERE = Path(__file__).parent
ROUNDS, TIMES, OCTETS = 5, 300, 19_000
KINDS = {
    "RSA, 2,048 bits": ("RSA -pkeyopt rsa_keygen_bits:2048", 1.0),
    "Ed25519": ("ED25519", 0.2),
}
NAMES = ("Date", "Message-ID", "From", "To", "Subject", "List-Id", "MIME-Version", "Content-Type")


def measure_signatures(setting: Setting, results: Results) -> None:
    """Fill in milliseconds of processor time a message for each kind of key."""
    timed = run_json([setting.python, HERE / "signatures.py"])
    for kind, (_, wanted) in KINDS.items():
        results.put("a DKIM signature, ms/message of 19 KB", kind, "ours", timed[kind])
        results.at_most(f"a DKIM signature by {kind}", timed[kind], wanted, " ms")


def _time() -> None:
    """Sign messages that differ in every line; the best of several turns counts."""
    from mailmerge import DkimKey
    from mailmerge.message.dkim_keys import read_signatures

    best: dict[str, float] = {}
    header = "".join(f"{name}: {'value ' * 10}\r\n" for name in NAMES)
    line = '<td style=3D"padding:  0 4px">  {} a cell of a  table</td>\r\n'
    bodies = []
    for number in range(TIMES):
        text = "".join(line.format(number + at) for at in range(OCTETS // len(line)))
        bodies.append((b"first piece\r\n", text.encode()))
    with tempfile.TemporaryDirectory() as name:
        for kind, (made, _) in KINDS.items():
            path = Path(name, f"{made[:3]}.pem")
            command = ["openssl", "genpkey", "-algorithm", *made.split(), "-out", str(path)]
            subprocess.run(command, check=True, capture_output=True)
            signatures = read_signatures((DkimKey(selector="s", key_file=path),))
            assert signatures is not None
            for _ in range(ROUNDS):
                began = time.process_time()
                for number, body in enumerate(bodies):
                    head = header.replace("value ", f"value {number} ", 3).encode()
                    signatures.fields(head, body, "me@example.org", datetime.now(UTC))
                took = (time.process_time() - began) / TIMES * 1000
                best[kind] = min(took, best.get(kind, took))
    print(json.dumps(best))


if __name__ == "__main__":
    sys.path.append(str(HERE.parent))
    _time()
