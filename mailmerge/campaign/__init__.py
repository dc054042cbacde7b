"""The composition root: the only room that knows the order of the stages.

`Campaign` is the library's face and what the command line is a client of.
"""

from mailmerge.campaign.campaign import Campaign

__all__ = ["Campaign"]
