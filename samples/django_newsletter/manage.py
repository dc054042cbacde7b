"""Django's commands for this site.

export NEWSLETTER_SERVER=smtp.example.org NEWSLETTER_USER=news@example.org NEWSLETTER_SECRET=...
python manage.py migrate
python manage.py runserver            # the plan of a mailing: http://localhost:8000/mailings/spring/
python manage.py send_newsletters     # from cron: sends what was approved on that page
"""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")
    execute_from_command_line(sys.argv)
