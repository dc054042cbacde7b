"""The table of options, and the grammar of its values."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mailmerge.cli import SUMMARIES, cli
from mailmerge.model import Rate
from mailmerge.option_types import REQUIRED, Option
from mailmerge.options import CAMPAIGN, COMMAND_LINE, MESSAGE_COMMANDS, every_option
from mailmerge.validation import (
    RATE,
    SHARE,
    ValidationError,
    parse_rate,
    parse_share,
    parse_size,
    parse_span,
    percent,
    read_typed,
)

OPTIONS = list(every_option())
FLAGS = [option for option in OPTIONS if option.flag]


SUPPRESS = [f"suppress {name}" for name in ("add", "remove", "import", "list")]
COMMANDS = [*SUMMARIES, "ledger move", "ledger forget", *SUPPRESS]


def params(command: str) -> dict[str, click.Option]:
    """Return the options of a command by the names of its parameters."""
    found: click.Command | None = cli
    with click.Context(cli) as context:
        for word in command.split():
            assert isinstance(found, click.Group)
            found = found.get_command(context, word)
    assert found is not None
    return {param.name or "": param for param in found.params if isinstance(param, click.Option)}


# --- the table ------------------------------------------------------------------------------------------


def test_every_flag_of_every_command_is_in_the_table() -> None:
    """A command has the flags that the table gives it, and no other."""
    for command in COMMANDS:
        wanted = {option.parameter for option in FLAGS if command in option.commands}
        assert set(params(command)) == wanted, command


def test_no_command_has_a_flag_twice() -> None:
    """Within a command a flag means one thing."""
    for command in COMMANDS:
        flags = [option.long_flag for option in FLAGS if command in option.commands]
        assert len(flags) == len(set(flags)), command


def test_no_two_options_share_a_name_or_a_variable() -> None:
    """Names, parameters and variables are unique over the table."""
    for names in (
        [option.name for option in OPTIONS],
        [option.parameter for option in OPTIONS],
        [variable for option in OPTIONS for variable in option.variables],
    ):
        assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_an_option_is_declared_whole(option: Option) -> None:
    """Its help is a sentence without end, a flag has commands, and its default is one that it may be."""
    assert option.help
    assert not option.help.endswith(".")
    assert "default" not in option.help
    assert bool(option.flag) == bool(option.commands)
    assert set(option.commands) <= set(COMMANDS)
    assert option.default == REQUIRED or not option.fact or option.section is not None
    if option.written_default is not None:
        assert option.type.read(option.written_default) == option.default


@pytest.mark.parametrize("option", FLAGS, ids=lambda option: option.name)
def test_what_changes_the_campaign_identifies_the_run(option: Option) -> None:
    """A flag for a fact of the plan must be repeated by every command that continues this run."""
    assert option.identifies or not option.fact
    if option.identifies:
        assert {"send", "test"} & set(option.commands)


def test_the_kinds_of_values_become_kinds_of_flags() -> None:
    """Words to choose from, files, numbers with bounds, switches and repeated flags are what click knows."""
    send, preview, report = params("send"), params("preview"), params("report")
    assert isinstance(send["data_hidden"].type, click.Choice)
    assert list(send["data_hidden"].type.choices) == ["refuse", "skip", "send"]
    assert isinstance(send["data_source"].type, click.Path)
    assert (send["data_suppress"].multiple, send["data_source"].multiple) == (True, False)
    assert isinstance(preview["limit"].type, click.IntRange)
    assert (preview["port"].type.max, preview["port"].default) == (65535, 0)  # type: ignore[attr-defined]
    assert (send["yes"].is_flag, send["yes"].default) == (True, False)
    assert (report["page"].secondary_opts, report["page"].default) == (["--no-html"], True)
    assert send["quiet"].opts == ["-q", "--quiet"]
    assert send["wait_lock"].type is click.FLOAT


@pytest.mark.parametrize("command", MESSAGE_COMMANDS)
def test_a_flag_that_was_not_given_says_nothing(command: str) -> None:
    """What a file may say has no default on the command line, or the file could not say it."""
    with click.Context(cli) as context:
        found = cli.get_command(context, command)
    assert found is not None
    given = found.make_context(command, []).params
    keys = {option.parameter for option in FLAGS if option.section is not None and command in option.commands}
    assert {given[key] for key in keys} <= {None, ()}


def test_variables_follow_one_rule() -> None:
    """A key of a section has the variable of its name; tables and repeated sections have none."""
    assert CAMPAIGN["data"]["source"].variables == ("MAILMERGE_DATA_SOURCE",)
    assert CAMPAIGN[""]["name"].variables == ("MAILMERGE_NAME",)
    assert CAMPAIGN["data"]["types"].variables == CAMPAIGN["attach"]["path"].variables == ()
    assert next(option for option in COMMAND_LINE if option.key == "me").variables == ("SMTP_TO",)


# --- values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("60/m", Rate(60, 60)),
        ("2000/d", Rate(2000, 86400)),
        ("2000/day", Rate(2000, 86400)),
        ("50/5m", Rate(50, 300)),
        ("5000/180s", Rate(5000, 180)),
        (" 10 / s ", Rate(10, 1)),
        ("30/min", Rate(30, 60)),
        ("30/Minutes", Rate(30, 60)),
    ],
)
def test_rates_are_read(text: str, expected: Rate) -> None:
    """Counts per unit, or per a number of units."""
    assert parse_rate(text) == expected


@pytest.mark.parametrize(
    "text", ["", "60", "60/", "/m", "0/m", "60/0m", "-1/m", "60/x", "60m", "1e3/m", "1/1.5h"]
)
def test_what_is_not_a_rate_is_refused(text: str) -> None:
    """The message or the hint shows what a rate looks like."""
    with pytest.raises(ValidationError) as caught:
        parse_rate(text)
    assert "/d" in (caught.value.issues[0].hint or "")


@given(count=st.integers(1, 10**9 - 1), length=st.integers(1, 10**6 - 1), unit=st.sampled_from("smhd"))
def test_a_rate_is_read_back_from_its_text(count: int, length: int, unit: str) -> None:
    """What a plan or a provider's page prints of a rate can be written into a campaign file."""
    rate = parse_rate(f"{count}/{length}{unit}")
    assert str(RATE.read(str(rate))) == str(rate)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("5m", 300), ("1.5h", 5400), ("2d", 172800), (" 10 M ", 600), ("7", 7)]
)
def test_time_spans_are_read(text: str, seconds: float) -> None:
    """Units are s, m, h and d; a bare number counts seconds."""
    assert parse_span(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-1m", "5x", "1m5s", "1,5h"])
def test_what_is_not_a_time_span_is_refused(text: str) -> None:
    """The hint shows what one looks like."""
    with pytest.raises(ValidationError) as caught:
        parse_span(text)
    assert "30s" in (caught.value.issues[0].hint or "")


@pytest.mark.parametrize(
    ("value", "pauses"),
    [
        ("1m, 5m,1.5h", (60, 300, 5400)),
        (["1m", "2d"], (60, 172800)),
        ("never", ()),
        ([], ()),
        (" 30S ", (30,)),
    ],
)
def test_pauses_are_read(value: object, pauses: tuple[float, ...]) -> None:
    """As one text or as an array; never means none at all."""
    assert CAMPAIGN["send"]["retry"].type.read(value) == pauses


@pytest.mark.parametrize("text", ["", "1", "1m,", "0m", "5x", "-1m", "1m never"])
def test_what_is_not_a_pause_is_refused(text: str) -> None:
    """A pause needs its unit, and cannot be nothing."""
    with pytest.raises(ValidationError, match="contains an invalid pause"):
        CAMPAIGN["send"]["retry"].type.read(text)


@given(pauses=st.lists(st.integers(1, 10**6).map(float), max_size=5).map(tuple))
def test_pauses_are_read_back_from_their_text(pauses: tuple[float, ...]) -> None:
    """The default that documents show is the default."""
    kind = CAMPAIGN["send"]["retry"].type
    assert kind.read(kind.write(pauses)) == pauses


@given(text=st.from_regex(r"(0|[1-9][0-9]?)(\.[0-9]{0,9}[1-9])?|100", fullmatch=True))
def test_a_share_is_written_without_exponent(text: str) -> None:
    """However small a percentage is, it reads as it was typed."""
    share = parse_share(f"{text}%")
    shown = percent(share)
    assert shown == f"{text}%"


@pytest.mark.parametrize("value", ["0%", "101%", "5", "-1%", "5 %%", 5, 0.05, True, None, "1e1%", "100.1%"])
def test_what_is_not_a_share_is_refused(value: object) -> None:
    """A share is a percentage above nothing, with its sign."""
    with pytest.raises(ValidationError, match="must be a percentage above 0%"):
        SHARE.read(value)


@pytest.mark.parametrize(
    ("text", "octets"), [("25MB", 25_000_000), ("20MiB", 20_971_520), ("100 k", 100_000), ("17", 17)]
)
def test_sizes_are_read(text: str, octets: int) -> None:
    """Prefixes are decimal, with an i binary."""
    assert parse_size(text) == octets


@given(value=st.one_of(st.text(max_size=12), st.integers(), st.floats(), st.booleans(), st.none()))
def test_no_value_is_an_accident(value: Any) -> None:
    """Whatever TOML or a shell can bring, each option takes it or says what is wrong."""
    errors: list[ValidationError] = []
    for option in OPTIONS:
        for read in (option.type.read, lambda text, kind=option.type: read_typed(kind, str(text))):
            try:
                read(value)
            except ValidationError as error:
                errors.append(error)
    assert all(issue.message for error in errors for issue in error.issues)
    assert all(error.issues for error in errors)


@pytest.mark.parametrize("value", ["0", "65", "many"])
def test_a_number_of_processes_that_is_none_says_what_is(value: str) -> None:
    """The word that is accepted in place of a number is named with the numbers."""
    done = CliRunner().invoke(cli, ["check", "--jobs", value])
    assert done.exit_code == 2
    assert f"'{value}' is neither auto nor a number from 1 to 64" in done.output
