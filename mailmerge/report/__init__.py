"""Outcomes as summary, CSV and JSON lines."""
