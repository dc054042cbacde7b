"""Settings of the site; the last ones are for newsletters."""

import os
from pathlib import Path

BASE_DIR = Path(__file__).parent
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "only for trying the sample out")
DEBUG = False
ALLOWED_HOSTS = ["localhost", "testserver"]
ROOT_URLCONF = "newsletter.urls"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "newsletter",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"

NEWSLETTER_SERVER = os.environ.get("NEWSLETTER_SERVER", "smtp.example.org")
NEWSLETTER_PORT = int(os.environ.get("NEWSLETTER_PORT", "587"))
NEWSLETTER_USER = os.environ.get("NEWSLETTER_USER", "news@example.org")
NEWSLETTER_SECRET = os.environ.get("NEWSLETTER_SECRET", "")
NEWSLETTER_FROM = "News <news@example.org>"
NEWSLETTER_STATE = BASE_DIR / "state"  # back it up: it knows who was written to
