"""From a `Recipient` to `Rendered`: Jinja2 over subject, bodies, mailboxes, headers and file names.

Values are data, never syntax: a cell is inserted into the output of a template and is never compiled, never
parsed as a header, and cannot add a recipient. This package reads no files except templates, and knows no
clock and no message format.
"""

from mailmerge.render.environments import marked
from mailmerge.render.renderer import Renderer
from mailmerge.render.sources import MessageTemplates, TemplateSource

__all__ = ["MessageTemplates", "Renderer", "TemplateSource", "marked"]
