"""Rules: what a careful reader would notice in the messages of a campaign, without the network.

There is one module for each group of rules. A rule is a function that yields findings, and registers itself
with a decorator for what it looks at; `load` imports every module in this folder. So a new rule is only its
function here and the page of its code in ``catalogue.toml``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mailmerge.check.html_document import HtmlDocument
    from mailmerge.check.message_view import Finding, ListTally, MessageLayout, MessageView

    MessageRule = Callable[[MessageView], Iterator[Finding]]
    LayoutRule = Callable[[MessageLayout], Iterator[Finding]]
    DocumentRule = Callable[[HtmlDocument], Iterator[Finding]]
    ListRule = Callable[[ListTally], Iterator[Finding]]

EACH_MESSAGE: list[MessageRule] = []
ABOUT_FILES: set[MessageRule] = set()
"""Those of them that find nothing in a message without files."""
EACH_LAYOUT: list[LayoutRule] = []
EACH_DOCUMENT: list[DocumentRule] = []
WHOLE_LIST: list[ListRule] = []


def each_message(rule: MessageRule) -> MessageRule:
    """Register a rule that checks every row's message: it has to be quick."""
    EACH_MESSAGE.append(rule)
    return rule


def each_message_with_files(rule: MessageRule) -> MessageRule:
    """Register a rule that checks every row's message that has attachments or images."""
    ABOUT_FILES.add(rule)
    return each_message(rule)


def each_layout(rule: LayoutRule) -> LayoutRule:
    """Register a rule that checks the first message of each layout.

    What comes from the templates alone is the same in all rows that take the same branches.
    """
    EACH_LAYOUT.append(rule)
    return rule


def each_document(rule: DocumentRule) -> DocumentRule:
    """Register a rule that checks the parsed HTML of the first message of each layout."""
    EACH_DOCUMENT.append(rule)
    return rule


def whole_list(rule: ListRule) -> ListRule:
    """Register a rule that is run after the last row."""
    WHOLE_LIST.append(rule)
    return rule


def load() -> None:
    """Import every module of rules, in alphabetical order."""
    import pkgutil

    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
