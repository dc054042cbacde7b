"""Mail merge you can trust with your name: the library's public names.

They are loaded when they are first used, so that ``import mailmerge`` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailmerge.addresses import Address, AddressError, Mailbox
    from mailmerge.campaign import Campaign
    from mailmerge.campaign.plan import Plan
    from mailmerge.campaign.results import Report
    from mailmerge.campaign.run import SendRequest
    from mailmerge.campaign.send_one import send_message
    from mailmerge.config.accounts import Account
    from mailmerge.errors import (
        AttachmentError,
        AuthError,
        CampaignFileError,
        ConnectionLost,
        InputError,
        InUseError,
        LedgerError,
        ListError,
        MailmergeError,
        ProtocolError,
        RowError,
        SessionError,
        TemplateError,
        TlsError,
    )
    from mailmerge.model import (
        Counts,
        Delivery,
        Diagnostic,
        Envelope,
        Message,
        Outcome,
        Recipient,
        Reply,
        Result,
        Status,
    )

_HOMES = {
    "config.accounts": ("Account",),
    "addresses": ("Address", "AddressError", "Mailbox"),
    "campaign": ("Campaign",),
    "campaign.plan": ("Plan",),
    "campaign.results": ("Report",),
    "campaign.run": ("SendRequest",),
    "campaign.send_one": ("send_message",),
    "errors": (
        "AttachmentError",
        "AuthError",
        "CampaignFileError",
        "ConnectionLost",
        "InUseError",
        "InputError",
        "LedgerError",
        "ListError",
        "MailmergeError",
        "ProtocolError",
        "RowError",
        "SessionError",
        "TemplateError",
        "TlsError",
    ),
    "model": (
        "Counts",
        "Delivery",
        "Diagnostic",
        "Envelope",
        "Message",
        "Outcome",
        "Recipient",
        "Reply",
        "Result",
        "Status",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Account",
    "Address",
    "AddressError",
    "AttachmentError",
    "AuthError",
    "Campaign",
    "CampaignFileError",
    "ConnectionLost",
    "Counts",
    "Delivery",
    "Diagnostic",
    "Envelope",
    "InUseError",
    "InputError",
    "LedgerError",
    "ListError",
    "Mailbox",
    "MailmergeError",
    "Message",
    "Outcome",
    "Plan",
    "ProtocolError",
    "Recipient",
    "Reply",
    "Report",
    "Result",
    "RowError",
    "SendRequest",
    "SessionError",
    "Status",
    "TemplateError",
    "TlsError",
    "send_message",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
