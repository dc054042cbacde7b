"""The facade `Campaign` and its commands: what is done in which order, and nothing else.

`Campaign` is the library's main class; the command line is one of its clients.
"""

from mailmerge.campaign.campaign import Campaign

__all__ = ["Campaign"]
