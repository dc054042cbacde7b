"""Sending with a memory: ledger, throttle, account usage, sender."""
