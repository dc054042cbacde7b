"""Checks that ask other machines, each only on request: DNS records, links."""
