"""Mail merge you can trust with your name: the library's public names.

They are loaded when they are first used, so that ``import mailmerge`` costs next to nothing. The imports
below are the only list of them: type checkers read it directly, and `__getattr__` looks up in it which module
a name comes from.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailmerge.addresses import Address as Address
    from mailmerge.addresses import AddressError as AddressError
    from mailmerge.addresses import Mailbox as Mailbox
    from mailmerge.campaign import Campaign as Campaign
    from mailmerge.campaign.bounces import BounceRequest as BounceRequest
    from mailmerge.campaign.bounces import BounceSummary as BounceSummary
    from mailmerge.campaign.check import OnlineChecks as OnlineChecks
    from mailmerge.campaign.continuation import CampaignStatus as CampaignStatus
    from mailmerge.campaign.continuation import Continuation as Continuation
    from mailmerge.campaign.fleet import Fleet as Fleet
    from mailmerge.campaign.fleet import FleetCampaign as FleetCampaign
    from mailmerge.campaign.fleet import FleetSlot as FleetSlot
    from mailmerge.campaign.fleet import FleetStatus as FleetStatus
    from mailmerge.campaign.fleet import Worker as Worker
    from mailmerge.campaign.in_memory import CampaignOptions as CampaignOptions
    from mailmerge.campaign.plan import OptOutSource as OptOutSource
    from mailmerge.campaign.plan import Plan as Plan
    from mailmerge.campaign.preview import Previewed as Previewed
    from mailmerge.campaign.preview import PreviewRequest as PreviewRequest
    from mailmerge.campaign.rehearsal import Rehearsal as Rehearsal
    from mailmerge.campaign.results import Report as Report
    from mailmerge.campaign.results import ReportOptions as ReportOptions
    from mailmerge.campaign.run import SendRequest as SendRequest
    from mailmerge.campaign.send_one import send_message as send_message
    from mailmerge.campaign.trial import TrialReport as TrialReport
    from mailmerge.campaign.trial import TrialResult as TrialResult
    from mailmerge.campaign.workspace import Workspace as Workspace
    from mailmerge.check.diagnostics import DiagnosticCollector as DiagnosticCollector
    from mailmerge.check.online import LinkCheck as LinkCheck
    from mailmerge.clock import Clock as Clock
    from mailmerge.config.accounts import Account as Account
    from mailmerge.config.campaign_file import CampaignFile as CampaignFile
    from mailmerge.config.environment import Environment as Environment
    from mailmerge.config.unsubscribe_keys import verify_unsubscribe as verify_unsubscribe
    from mailmerge.errors import AttachmentError as AttachmentError
    from mailmerge.errors import AuthError as AuthError
    from mailmerge.errors import CampaignFileError as CampaignFileError
    from mailmerge.errors import CampaignHalted as CampaignHalted
    from mailmerge.errors import ConnectionLost as ConnectionLost
    from mailmerge.errors import FileError as FileError
    from mailmerge.errors import InputError as InputError
    from mailmerge.errors import InUseError as InUseError
    from mailmerge.errors import LedgerError as LedgerError
    from mailmerge.errors import ListError as ListError
    from mailmerge.errors import MailmergeError as MailmergeError
    from mailmerge.errors import PlanDamaged as PlanDamaged
    from mailmerge.errors import ProtocolError as ProtocolError
    from mailmerge.errors import RowError as RowError
    from mailmerge.errors import SessionError as SessionError
    from mailmerge.errors import TemplateError as TemplateError
    from mailmerge.errors import TlsError as TlsError
    from mailmerge.fleet.jobs import PresentWorker as PresentWorker
    from mailmerge.fleet.terms import FleetRequest as FleetRequest
    from mailmerge.fleet.worker import WorkerEvent as WorkerEvent
    from mailmerge.ledger.attempts import Settlement as Settlement
    from mailmerge.ledger.bounces import MailSummary as MailSummary
    from mailmerge.model import Attempt as Attempt
    from mailmerge.model import Columns as Columns
    from mailmerge.model import Counts as Counts
    from mailmerge.model import Delivery as Delivery
    from mailmerge.model import Diagnostic as Diagnostic
    from mailmerge.model import Envelope as Envelope
    from mailmerge.model import Grant as Grant
    from mailmerge.model import Message as Message
    from mailmerge.model import Missing as Missing
    from mailmerge.model import Outcome as Outcome
    from mailmerge.model import Phase as Phase
    from mailmerge.model import Pipeline as Pipeline
    from mailmerge.model import Place as Place
    from mailmerge.model import Rate as Rate
    from mailmerge.model import Recipient as Recipient
    from mailmerge.model import Reply as Reply
    from mailmerge.model import Result as Result
    from mailmerge.model import Scope as Scope
    from mailmerge.model import Severity as Severity
    from mailmerge.model import SignIn as SignIn
    from mailmerge.model import Status as Status
    from mailmerge.model import TlsMode as TlsMode
    from mailmerge.option_types import Algorithm as Algorithm
    from mailmerge.option_types import DkimKey as DkimKey
    from mailmerge.options import AttachOptions as AttachOptions
    from mailmerge.options import CheckOptions as CheckOptions
    from mailmerge.options import DataOptions as DataOptions
    from mailmerge.options import Duplicates as Duplicates
    from mailmerge.options import Hidden as Hidden
    from mailmerge.options import Jobs as Jobs
    from mailmerge.options import MessageOptions as MessageOptions
    from mailmerge.options import SendOptions as SendOptions
    from mailmerge.providers import OAuthEndpoints as OAuthEndpoints
    from mailmerge.providers import Provider as Provider
    from mailmerge.providers import ProviderGroup as ProviderGroup
    from mailmerge.providers import ProviderServer as ProviderServer
    from mailmerge.recipients import RecipientList as RecipientList
    from mailmerge.recipients import Understanding as Understanding
    from mailmerge.recipients import UnderstoodColumn as UnderstoodColumn
    from mailmerge.report.summary import Explanation as Explanation
    from mailmerge.report.summary import Summary as Summary
    from mailmerge.sandbox.faults import FaultPlan as FaultPlan
    from mailmerge.sandbox.faults import NoPipelining as NoPipelining
    from mailmerge.sandbox.faults import Refusal as Refusal
    from mailmerge.schedule import Hours as Hours
    from mailmerge.schedule import Schedule as Schedule
    from mailmerge.sending.runs import Progress as Progress
    from mailmerge.sending.runs import Reason as Reason
    from mailmerge.sending.runs import RunEnd as RunEnd
    from mailmerge.sending.runs import StopFlag as StopFlag
    from mailmerge.smtp.deadlines import Deadlines as Deadlines
    from mailmerge.suggest import Invocation as Invocation
    from mailmerge.suggest import Suggestion as Suggestion
    from mailmerge.unsubscribe import UnsubscribeError as UnsubscribeError
    from mailmerge.unsubscribe import UnsubscribeKey as UnsubscribeKey
    from mailmerge.unsubscribe import Unsubscription as Unsubscription
    from mailmerge.values import Cell as Cell
    from mailmerge.values import Plain as Plain

    __version__: str


def __getattr__(name: str) -> Any:
    homes = _homes()
    value: Any
    if name == "__all__":
        value = sorted(homes)
    elif name == "__version__":
        from mailmerge.version import program_version

        value = program_version()
    elif name in homes:
        from importlib import import_module

        value = getattr(import_module(homes[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*sorted(_homes()), "__version__"]


def _homes() -> dict[str, str]:
    """Read the list above: the module of each name."""
    import re
    from importlib.util import find_spec

    loader: Any = getattr(find_spec(__name__), "loader", None)
    found = re.findall(
        r"^    from (mailmerge\.\S+) import (\w+) as \2$", loader.get_source(__name__), re.MULTILINE
    )
    return {name: module for module, name in found}
