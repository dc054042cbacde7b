"""Diagnostics: finding problems before anything is sent, and showing them."""
