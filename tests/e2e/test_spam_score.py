"""SpamAssassin, by its own rules and without any network, in what we give people to start from."""

from __future__ import annotations

import re
import subprocess
from typing import get_args

import pytest

from mailmerge import Campaign
from mailmerge.options import StockTemplate
from servers.command import SAMPLES, sample
from servers.programs import require
from stock import stock_campaign

NAMES = sorted(path.parent.name for path in SAMPLES.glob("*/campaign.toml"))
SCORE = re.compile(r"^X-Spam-Status: \w+, score=(-?[\d.]+) (?s:.*?)^X-Ours: (\S+)", re.MULTILINE)
SEPARATOR = b"From MAILER-DAEMON Fri Nov 27 09:00:00 2026\nX-Ours: %s\n"
LIMIT = 1.0


@pytest.mark.program("spamassassin")
def test_what_people_start_from_is_no_spam(tmp_path):
    """Each stock template and each sample scores below 1.0 of the 5.0 that spam has."""
    campaigns = {
        f"template-{kind}": stock_campaign(tmp_path / f"stock-{kind}", kind)
        for kind in get_args(StockTemplate)
    }
    for name in NAMES:
        folder = sample(name, tmp_path)
        toml = folder / "campaign.toml"  # a ledger of somebody's configuration is not needed
        toml.write_text(re.sub(r"^ledger = .*\n", "", toml.read_text("utf-8"), flags=re.MULTILINE), "utf-8")
        campaigns[f"sample-{name}"] = Campaign.load(
            folder, environ={"MAILMERGE_STATE_DIR": str(tmp_path / "s")}
        )
    mbox = tmp_path / "messages.mbox"
    with mbox.open("wb") as file:
        for name, campaign in campaigns.items():
            content = next(iter(campaign.messages())).content.replace(b"\r\n", b"\n")
            file.write(SEPARATOR % name.encode() + content.replace(b"\nFrom ", b"\n>From ") + b"\n\n")

    done = subprocess.run(
        [require("spamassassin"), "-L", "-t", "-x", "--mbox", mbox],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=True,
    )

    scores = {name: float(score) for score, name in SCORE.findall(done.stdout.decode("utf-8", "replace"))}
    assert scores.keys() == campaigns.keys()
    assert {name: score for name, score in scores.items() if score >= LIMIT} == {}
