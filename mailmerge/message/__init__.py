"""From `Rendered` to `Message`: a MIME skeleton made once, and per row only what differs.

Everything a cell can reach is encoded here by our own encoders; the standard library's header parser and
generator never see it. This package reads attachments and images, and knows no template, clock or socket.
"""

from mailmerge.message.builder import MessageBuilder
from mailmerge.message.header_fields import message_id

__all__ = ["MessageBuilder", "message_id"]
