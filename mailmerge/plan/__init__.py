"""What will be sent: a list, its templates and files as one frozen message per row, until something changes.

A plan is disposable: it is made again whenever it is missing, damaged, or no longer true. What has happened
is in the ledger. ``store`` has the interface for the code that fills and reads a plan.
"""
