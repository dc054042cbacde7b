"""Whom an attachment names: what is read of a file, and whose it seems to be."""
