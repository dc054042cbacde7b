"""Diagnostics: find problems before anything is sent, and show them."""
