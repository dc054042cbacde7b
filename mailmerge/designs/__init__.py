"""Designs and drafts made with other programs: their placeholders, and what their editors do to ours."""

from __future__ import annotations

from typing import Final

MESSAGE_SUFFIXES: Final = frozenset({".eml", ".emltpl", ".mht", ".mhtml"})
"""What files of messages are called."""
