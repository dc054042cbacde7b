"""Send one alert from a monitoring script, and say clearly what went wrong if it cannot be sent.

Set SMTP_SERVER, SMTP_PORT, SMTP_FROM, SMTP_AUTH (the secret) and SMTP_TO, then:
    python alert.py "disk full on db1"
"""

import os
import sys

from mailmerge import AuthError, ConnectionLost, InputError, MailmergeError, Status, send_message

try:
    outcome = send_message(os.environ["SMTP_TO"], f"ALERT: {sys.argv[1]}", f"{sys.argv[1]}\n")
except AuthError as error:
    sys.exit(f"sign-in refused: {error}. {error.hint or ''}")
except ConnectionLost as error:
    sys.exit(f"mail server not reached: {error}. {error.hint or ''}")
except InputError as error:
    sys.exit(f"wrong address or text: {error}. {error.hint or ''}")
except MailmergeError as error:
    sys.exit(f"not sent: {error}. {error.hint or ''}")
if outcome.status is not Status.ACCEPTED:
    sys.exit(f"{outcome.status} ({outcome.reason}): {outcome.reply or outcome.hint}")
print(f"accepted: {outcome.reply}")
