"""From a row to a message: who takes how much longer than rendering the same templates."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fixtures
from measure import run_json

if TYPE_CHECKING:
    from setting import Setting
    from table import Results

HERE = Path(__file__).parent
PEERS = ("stdlib", "django", "redmail")
ROWS_FOR_NODE = 2000
WANTED = {"plain": 1.25, "pdf": 1.25, "image": 1.25, "short": 1.3}


def measure_building(setting: Setting, results: Results) -> None:
    """Fill in one row for each kind of message, and judge them."""
    pdf_to_plain = []
    for variant, shown in fixtures.VARIANTS.items():
        alone = _one(setting, setting.python, variant, "floor", "ours", "unsandboxed")
        beside = _one(setting, setting.python, variant, "floor", "ours", *PEERS)
        rival = _one(setting, setting.rival, variant, "floor", "rival")
        _enter(results, shown, "ours", alone["ours"])
        for name, timing in {**beside, **rival}.items():
            if name not in {"floor", "ours"}:
                _enter(results, shown, name, timing)
        if setting.node:
            _enter(results, shown, "nodemailer", _nodemailer(setting, variant)["nodemailer"])
        results.at_most(f"build, {shown} / rendering", alone["ours"][1], WANTED[variant])
        times_faster = beside["stdlib"][1] / beside["ours"][1]
        results.at_least(
            f"build, {shown}: times faster than email.message", times_faster, 40 if variant == "pdf" else 15
        )
        if variant in {"plain", "pdf"}:
            pdf_to_plain.append(alone["ours"][1])
        if variant == "plain":
            sandbox = 1 / alone["unsandboxed"][1]
            results.note(
                f"Rendering, which builds are measured by, is Jinja2's own sandbox with StrictUndefined: "
                f"{alone['floor'][0]:.0f} us a newsletter here, {sandbox:.2f} times what it takes without."
            )
    results.at_most("build with PDF / plain build", pdf_to_plain[1] / pdf_to_plain[0], 1.05)


def _enter(results: Results, what: str, name: str, timing: list[float]) -> None:
    results.put("build, messages/s of one core", what, name, 1e6 / timing[0])
    results.put("build / rendering alone (nodemailer: nunjucks)", what, name, timing[1])


def _one(setting: Setting, python: Path, variant: str, *names: str) -> dict[str, list[float]]:
    command = [python, HERE / "build_one.py", variant, setting.build_seconds, *names]
    timings: dict[str, list[float]] = run_json(command)
    return timings


def _nodemailer(setting: Setting, variant: str) -> dict[str, list[float]]:
    mailing = fixtures.mailing(variant)
    given: dict[str, Any] = {
        "subject": mailing.subject,
        "text": mailing.text,
        "html": mailing.html_with("cid:logo@campaign"),
        "variables": mailing.variables,
        "sender": fixtures.SENDER,
        "sender_name": fixtures.SENDER_NAME,
        "unsubscribe": fixtures.UNSUBSCRIBE,
    }
    with tempfile.TemporaryDirectory(dir=setting.folder) as name:
        folder = Path(name)
        (folder / "mailing.json").write_text(json.dumps(given), "utf-8")
        (folder / "rows.json").write_text(json.dumps(list(fixtures.rows(ROWS_FOR_NODE))), "utf-8")
        for file, data in (("brochure.pdf", mailing.pdf), ("logo.png", mailing.image)):
            if data:
                (folder / file).write_bytes(data)
        command = ["node", HERE / "build_nodemailer.mjs", folder, setting.build_seconds, setting.modules]
        timings: dict[str, list[float]] = run_json(command)
    return timings
