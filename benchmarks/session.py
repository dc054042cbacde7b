"""One SMTP session: messages a second over lines of different lengths, and processor time a message."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import fixtures
from measure import run_json
from sinks import NAMES

if TYPE_CHECKING:
    from network import Network
    from setting import Setting
    from table import Results

CLIENTS = Path(__file__).parent / "clients"
MESSAGES = 400
SIZE = 10_000
ROUNDS_AT_ZERO = 3
_SENTENCE = (
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore."
)


def measure_sessions(setting: Setting, network: Network, ports: dict[str, int], results: Results) -> None:
    """Fill in the rows of all lines and servers, and judge them."""
    messages = write_messages(setting.folder / "messages.bin")
    results.note(f"Sessions run over {network.name}; servers: {', '.join(sorted(ports))}.")
    if not setting.node:
        results.note("nodemailer: not measured, node or the package is missing")
    for rtt in setting.rtts:
        network.set_line(rtt)
        for sink in (name for name in NAMES if name in ports):
            rounds = 1 if rtt else ROUNDS_AT_ZERO
            _one_place(setting, network, sink, ports[sink], rtt, messages, rounds, results)
    if network.shapes:
        _narrow_line(setting, network, ports["csink"], messages, results)
    else:
        results.note("100 Mbit/s line: not measured, it needs root and TUN")
    network.set_line(0)
    _judge(results)


def _one_place(
    setting: Setting,
    network: Network,
    sink: str,
    port: int,
    rtt: int,
    messages: Path,
    rounds: int,
    results: Results,
) -> None:
    what = f"{NAMES[sink]}, RTT {rtt} ms"
    found: dict[str, list[dict[str, Any]]] = {}
    names = ["stdlib", "ours", *([] if sink == "smtp-sink" else ["window"]), "nodemailer", "aiosmtplib"]
    if shutil.which("smtp-source"):
        names.append("smtp-source")
    for _ in range(rounds):
        for name in names:
            if name == "nodemailer" and not setting.node:
                continue
            seconds = setting.seconds
            count = round(max(4, found["stdlib"][0]["rate"] * seconds)) if name == "smtp-source" else 0
            longer = 3 if name == "window" and rtt else 1  # its window opens first
            run = run_client(setting, network, name, port, messages, longer * seconds, count=count)
            found.setdefault(name, []).append(run)
    for name, runs in found.items():
        results.put("one session, messages/s", what, name, median(run["rate"] for run in runs))
        if sink == "postfix":
            cpu = median(run["cpu_us"] for run in runs)
            results.put("client's processor time, us/message", what, name, cpu)
        refused = sum(run.get("refused", 0) for run in runs)
        if refused:
            results.note(f"{what}: {refused} messages of {name} were refused")
    if "window" in names:
        with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
            for column, mode in (("ours", "overlap"), ("window", "window")):
                command = _ours(setting, mode, Path(folder, mode))
                longer = 3 if mode == "window" and rtt else 1
                run = _run(setting, network, command, port, messages, longer * setting.seconds)
                results.put(
                    "one session with ledger (every promise on disk), messages/s", what, column, run["rate"]
                )


def run_client(
    setting: Setting,
    network: Network,
    name: str,
    port: int,
    messages: Path,
    seconds: float,
    *,
    count: int = 0,
) -> dict[str, Any]:
    """Run one client and return what it reports."""
    python = str(setting.python)
    commands = {
        "ours": _ours(setting, "overlap"),
        "window": _ours(setting, "window"),
        "stdlib": ([python, str(CLIENTS / "smtplib_client.py")], []),
        "aiosmtplib": ([python, str(CLIENTS / "aiosmtplib_client.py")], []),
        "smtp-source": ([python, str(CLIENTS / "smtp_source_client.py")], [str(count)]),
        "nodemailer": (["node", str(CLIENTS / "nodemailer.cjs")], [str(setting.modules)]),
    }
    return _run(setting, network, commands[name], port, messages, seconds)


def _ours(
    setting: Setting, mode: str, folder: Path | None = None, rate: float = 0
) -> tuple[list[str], list[str]]:
    more = [mode]
    if folder is not None:
        folder.mkdir(exist_ok=True)
        more += [str(folder), *([str(rate)] if rate else [])]
    return [str(setting.python), str(CLIENTS / "ours.py")], more


def _run(
    setting: Setting,
    network: Network,
    command: tuple[list[str], list[str]],
    port: int,
    messages: Path,
    seconds: float,
) -> dict[str, Any]:
    host, reached = network.reach(port)
    before, after = command
    whole = [*network.on_client(), *before, host, str(reached), str(seconds), str(messages), *after]
    result: dict[str, Any] = run_json(whole, timeout=120 + 10 * seconds, cwd=setting.folder)
    return result


def _narrow_line(setting: Setting, network: Network, port: int, messages: Path, results: Results) -> None:
    network.set_line(50, 100)
    content = sum(len(text) for _, text in fixtures_messages(messages)) / MESSAGES
    what = "free server, RTT 50 ms, 100 Mbit/s"
    for name in ("stdlib", "ours", "window"):
        seconds = 3 * setting.seconds if name == "window" else setting.seconds
        run = run_client(setting, network, name, port, messages, seconds)
        results.put("one session, messages/s", what, name, run["rate"])
        if name == "window":
            share = run["rate"] * content * 8 / 100e6
            results.at_least("share of a 100 Mbit/s line, RTT 50 ms, free server, window", share, 0.9)


def measure_throttle(setting: Setting, network: Network, port: int, results: Results) -> None:
    """Ask for a pace at RTT 50 and see what comes of it."""
    messages = write_messages(setting.folder / "messages.bin")
    network.set_line(50)
    for mode, rate in (("overlap", 10), ("window", 10), ("window", 50), ("window", 150)):
        with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
            command = _ours(setting, mode, Path(folder), rate)
            run = _run(setting, network, command, port, messages, setting.throttle_seconds)
        column = "window" if mode == "window" else "ours"
        what = f"{rate}/s asked, RTT 50 ms"
        results.put("throttle, messages/s", what, column, run["pace"])
        results.at_least(f"throttle: share of {rate}/s in {mode}, RTT 50 ms", run["pace"] / rate, 0.97)
        results.at_most(f"throttle: most in any second of {rate}/s in {mode}", run["most"], rate)
    network.set_line(0)


def _judge(results: Results) -> None:
    def ratio(what: str, column: str, base: str, section: str = "one session, messages/s") -> float | None:
        over, under = results.get(section, what, column), results.get(section, what, base)
        return over / under if over and under else None

    cpu = "client's processor time, us/message"
    for sink in NAMES.values():
        what = f"{sink}, RTT 50 ms"
        results.at_least(f"{what}: overlap / smtplib", ratio(what, "ours", "stdlib"), 3.7)
    results.at_least(
        "Postfix, RTT 50 ms: window / smtplib", ratio("Postfix, RTT 50 ms", "window", "stdlib"), 100
    )
    here, there = (
        results.get("one session, messages/s", f"Postfix, RTT {rtt} ms", "window") for rtt in (50, 0)
    )
    share = here / there if here and there else None
    results.at_least("Postfix, RTT 50 ms: window / the server's own limit (window at RTT 0)", share, 0.9)
    for column, wanted in (("ours", 0.25), ("window", 0.1)):
        mode = "overlap" if column == "ours" else "window"
        for rtt in (0, 50):
            what = f"Postfix, RTT {rtt} ms"
            results.at_most(
                f"client's processor time against smtplib's, {what}, {mode}",
                ratio(what, column, "stdlib", cpu),
                wanted,
            )


def write_messages(path: Path) -> Path:
    """Write the same personal messages of about 10 KB for every client."""
    if path.exists():
        return path
    with path.open("wb") as file:
        for row in fixtures.rows(MESSAGES):
            content = _message(row).encode("ascii")
            recipient = row["email"].encode("ascii")
            file.write(b"%d %d\n" % (len(recipient), len(content)) + recipient + content)
    return path


def _message(row: fixtures.Row) -> str:
    mark = f"=_{row['token']}"
    text = "\r\n".join(f"{number} {_SENTENCE}"[:74] for number in range(SIZE * 3 // 10 // 76))
    html = "\r\n".join(f"<p>{number} {_SENTENCE}"[:70] + "</p>" for number in range(SIZE * 6 // 10 // 76))
    lines = [
        "From: Newsletter <news@example.com>",
        f"To: <{row['email']}>",
        f"Subject: Your {row['points']} points",
        f"Message-ID: <{row['token']}@example.com>",
        "Date: Sat, 22 Nov 2025 10:00:00 +0000",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/alternative; boundary="{mark}"',
        f"\r\n--{mark}\r\nContent-Type: text/plain\r\n\r\nDear customer {row['id']},\r\n\r\n{text}",
        f"--{mark}\r\nContent-Type: text/html\r\n\r\n<p>Dear customer {row['id']},</p>\r\n{html}",
        f"--{mark}--",
    ]
    return "\r\n".join(lines) + "\r\n"


def fixtures_messages(path: Path) -> list[tuple[str, bytes]]:
    """Read the messages back as the clients do."""
    sys.path.insert(0, str(CLIENTS))
    from dialogue import read

    messages: list[tuple[str, bytes]] = read(path)
    return messages
