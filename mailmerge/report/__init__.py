"""Outcomes as summary, files and a page."""
