"""The facade `Campaign` and its commands: what is done in which order, and nothing else.

`Campaign` is the library's face and what the command line is a client of.
"""

from mailmerge.campaign.campaign import Campaign

__all__ = ["Campaign"]
