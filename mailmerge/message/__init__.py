"""From `Rendered` to `Message`: frozen when it is planned, thawed when it is shown or sent.

A MIME skeleton is made once, and each row adds only what differs. Everything that a cell can reach is encoded
here by our own encoders; the standard library's header parser and generator never see it. This package reads
attachments and images, and knows no template, clock or socket.
"""

from mailmerge.message.builder import MessageBuilder, Thawer
from mailmerge.message.header_fields import message_id

__all__ = ["MessageBuilder", "Thawer", "message_id"]
