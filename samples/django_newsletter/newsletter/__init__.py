"""Newsletters to the readers in a database: a page shows the plan, a command sends it."""
