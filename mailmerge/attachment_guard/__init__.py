"""Whom an attachment names: the text of a file, and the row to which it seems to belong."""
