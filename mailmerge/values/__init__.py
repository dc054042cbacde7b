"""What a cell is: text, or a `Value` with its displayed text, canonical text and Python value.

No other place turns a cell into text, reads text as a value, or decides when two are equal. Pure: no template
engine, no file, no locale. ``docs/values.md`` explains what it means for templates, operator by operator.

- `value`: the types
- `comparison`, `arithmetic`: ``==``, ``<``, ``+`` and the other operators
- `notation`: how each type is written, and what is read as one
- `truth`: what counts as true
- `lookup`: ``in``, tables, sorting and grouping
"""

from mailmerge.values.arithmetic import (
    MOST_DIGITS,
    absolute,
    calculate,
    refuse_long,
    repeated,
    rounded,
    signed,
)
from mailmerge.values.comparison import LONGEST_WORD, Truths, equal, ordered, present, truth
from mailmerge.values.lookup import MISSING, contains, find, order_keys, same_as, total
from mailmerge.values.value import (
    BadValue,
    Cell,
    Date,
    DateTime,
    Duration,
    Number,
    Plain,
    Time,
    Truth,
    Value,
    canonical,
    cell_of,
    described,
    displayed,
    kind_of,
    name_of,
    plain,
    unlike,
    value_of,
)

__all__ = [
    "LONGEST_WORD",
    "MISSING",
    "MOST_DIGITS",
    "BadValue",
    "Cell",
    "Date",
    "DateTime",
    "Duration",
    "Number",
    "Plain",
    "Time",
    "Truth",
    "Truths",
    "Value",
    "absolute",
    "calculate",
    "canonical",
    "cell_of",
    "contains",
    "described",
    "displayed",
    "equal",
    "find",
    "kind_of",
    "name_of",
    "order_keys",
    "ordered",
    "plain",
    "present",
    "refuse_long",
    "repeated",
    "rounded",
    "same_as",
    "signed",
    "total",
    "truth",
    "unlike",
    "value_of",
]
