"""Rendered rows become messages: compiled once, encoded per row."""
