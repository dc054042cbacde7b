"""Designs and drafts made with other programs: their placeholders, and what their editors do to our tags."""

from __future__ import annotations

from typing import Final

MESSAGE_SUFFIXES: Final = frozenset({".eml", ".emltpl", ".mht", ".mhtml"})
"""Suffixes of files that contain messages."""
