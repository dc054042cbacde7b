"""samples/django_newsletter under a real Django: a page shows the plan, a command sends, a table knows it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from servers.command import SAMPLES
from servers.mail import Received

START = """
import sys
import django

django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from newsletter.models import Delivery, Mailing, Reader
"""
FILL = """
call_command("migrate", verbosity=0)
call_command("makemigrations", check=True, dry_run=True, verbosity=0)
User.objects.create_superuser("editor")
for name, number in (("Ann", 1), ("<Bo>", 2), ("Cy", 3)):
    Reader.objects.create(email=f"reader{number}@example.org", name=name, subscribed=number < 3)
Mailing.objects.create(slug="spring", subject="Spring, {{ name }}", text="Dear {{ name }},\\nspring.")
"""
CLIENT = """
client = Client()
client.force_login(User.objects.get())
"""
SHOW = """
import json
found = [[d.reader.name, d.status, d.reply[:3]] for d in Delivery.objects.order_by("reader_id")]
print(json.dumps(found))
"""


class Site:
    """A copy of the sample, and programs that run in it, each in a process of its own."""

    def __init__(self, folder, environ) -> None:
        self.secret = environ["NEWSLETTER_SECRET"]
        self.folder = folder
        self.environ = {
            **environ,
            "PYTHONPATH": str(folder),
            "DJANGO_SETTINGS_MODULE": "site_settings",
        }

    def run(self, *lines: str, code: int = 0) -> str:
        return self._python("-c", START + "\n".join(lines), code=code)

    def manage(self, *words: str, code: int = 0) -> str:
        return self._python("manage.py", *words, code=code)

    def _python(self, *words: str, code: int) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", *words],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == code, done.stderr
        assert self.secret not in done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr


@pytest.fixture
def site(tmp_path, sandbox):
    """Set the site up for the sandbox server, with three readers and a mailing."""
    folder = tmp_path / "site"
    shutil.copytree(SAMPLES / "django_newsletter", folder)
    environ = {
        "NEWSLETTER_SERVER": "127.0.0.1",
        "NEWSLETTER_PORT": str(sandbox.port),
        "NEWSLETTER_USER": sandbox.user,
        "NEWSLETTER_SECRET": sandbox.password,
        "SSL_CERT_FILE": str(sandbox.ca_file),
    }
    made = Site(folder, {**os.environ, **environ})
    made.run(FILL)
    return made


def received(sandbox) -> list[tuple[str, str]]:
    messages = [Received(m.mail_from, m.rcpt_to, m.content) for m in sandbox.messages]
    return [(message.rcpt_to[0], str(message.parse()["Subject"])) for message in messages]


def test_a_mailing_goes_out_once_it_was_approved(site, sandbox):
    """Readers who want it get it, each outcome is in the table; whoever subscribes later gets it later."""
    assert site.manage("send_newsletters") == ""
    site.run(CLIENT, "assert client.post('/mailings/spring/').status_code == 302")
    assert site.manage("send_newsletters").splitlines() == ["spring: 2 to send", "spring: 2 accepted"]
    assert received(sandbox) == [
        ("reader1@example.org", "Spring, Ann"),
        ("reader2@example.org", "Spring, <Bo>"),
    ]
    assert json.loads(site.run(SHOW)) == [["Ann", "accepted", "250"], ["<Bo>", "accepted", "250"]]

    assert site.manage("send_newsletters").splitlines() == ["spring: 0 to send"]
    site.run("Reader.objects.filter(name='Cy').update(subscribed=True)")
    assert site.manage("send_newsletters").splitlines() == ["spring: 1 to send", "spring: 3 accepted"]
    assert received(sandbox)[2:] == [("reader3@example.org", "Spring, Cy")]


def test_the_page_shows_the_plan_and_sends_nothing(site, sandbox):
    """It has counts and messages, escaped; only who may change mailings sees it."""
    page = site.run(CLIENT, "print(client.get('/mailings/spring/').content.decode())")
    assert "2 of 2 readers would be written to now; 0 have it already." in page
    assert "reader2@example.org: Spring, &lt;Bo&gt;" in page
    assert "Dear &lt;Bo&gt;,\nspring." in page.replace("\r\n", "\n")
    assert "<Bo>" not in page
    site.run("assert Client().get('/mailings/spring/').status_code == 403")
    assert received(sandbox) == []


def test_what_is_wrong_is_said_on_the_page_and_by_the_command(site, sandbox):
    """A template with a mistake is shown with a hint, and nothing is sent."""
    site.run("Mailing.objects.update(text='Dear {{ nmae }}', approved=True)")
    page = site.run(
        CLIENT,
        "answer = client.get('/mailings/spring/')",
        "print(answer.status_code, answer.content.decode())",
    )
    assert page.startswith("422 ")
    assert "nmae" in page
    assert "CommandError: spring: nothing sent: " in site.manage("send_newsletters", code=1)
    assert received(sandbox) == []
