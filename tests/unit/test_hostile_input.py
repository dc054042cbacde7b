"""D. Hostile templates, expressions, files and cells: each is told in words, and nothing else suffers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from mailmerge.cli import cli
from mailmerge.errors import InputError, MailmergeError
from mailmerge.model import Status

if TYPE_CHECKING:
    from campaigns import CampaignFactory

DIGITS = "9" * 5000


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("name|nofilter", "C433"),
        ("name is notest", "C433"),
        ("(" * 3000 + "1" + ")" * 3000, "C433"),
        ("not " * 3000 + "true", "C433"),
        (" or ".join(["name == 'a'"] * 3000), "C433"),
        ("name" + ".a" * 3000, "C433"),
        (f"{DIGITS} > 1", "C433"),
    ],
    ids=["filter", "test", "parentheses", "not", "or", "dots", "digits"],
)
def test_d6_an_expression_that_cannot_be_used_is_told(
    campaign_factory: CampaignFactory, where: str, code: str
) -> None:
    """An unknown filter, and what is too deep or too long for Python's compiler."""
    campaign = campaign_factory()
    campaign = type(campaign).load(
        campaign_factory.folder, {"data.where": where}, environ=campaign_factory.environ
    )

    with pytest.raises(MailmergeError) as caught:
        campaign.check()
    assert (caught.value.code, caught.value.exit_code) == (code, 2)


TEMPLATES = {
    "if": ("{% if name %}" * 500 + "x" + "{% endif %}" * 500, "T107"),
    "for": ("{% for a in [1] %}" * 30 + "x" + "{% endfor %}" * 30, "T107"),
    "parentheses": ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "T107"),
    "lists": ("{{ " + "[" * 2000 + "]" * 2000 + " }}", "T107"),
    "filters": ("{{ name" + "|upper" * 3000 + " }}", "T107"),
    "sum": ("{{ 1" + " + 1" * 5000 + " }}", "T107"),
    "digits": ("{{ " + DIGITS + " }}", "T108"),
}


@pytest.mark.parametrize("included", [False, True])
@pytest.mark.parametrize("case", TEMPLATES)
def test_d6_a_template_that_cannot_be_compiled_is_told(
    campaign_factory: CampaignFactory, case: str, included: bool
) -> None:
    """Also where another one includes it: with its file, and with the problems of the others."""
    text, code = TEMPLATES[case]
    files = {"part.txt": text, "body.txt": "{% include 'part.txt' %}"} if included else {"body.txt": text}
    campaign = campaign_factory(files)

    with pytest.raises(InputError) as caught:
        campaign.check()
    assert (caught.value.code, caught.value.exit_code) == (code, 2)
    assert caught.value.place is not None
    assert str(caught.value.place.path).endswith("part.txt" if included else "body.txt")


@pytest.mark.parametrize(
    "toml",
    [
        "a = " + "[" * 5000 + "]" * 5000,
        "a = " + "{a=" * 3000 + "1" + "}" * 3000,
        "a" + ".a" * 20_000 + " = 1",
        "[" + "a." * 20_000 + "a]\n",
        f"a = {DIGITS}",
        "a = '" + "x" * (5 << 20) + "'",
    ],
    ids=["arrays", "tables", "key", "heading", "digits", "size"],
)
def test_d6_a_campaign_file_that_cannot_be_read_is_told(campaign_factory: CampaignFactory, toml: str) -> None:
    """In words, and soon."""
    campaign_factory()
    path = campaign_factory.folder / "campaign.toml"
    path.write_text(f"{toml}\n{path.read_text()}" if toml[0] != "[" else path.read_text() + toml)

    with pytest.raises(MailmergeError) as caught:
        campaign_factory.open()
    assert (caught.value.code, caught.value.exit_code) == ("C403", 2)


@pytest.mark.parametrize("value", ["[" * 5000, DIGITS, "{a=" * 3000, "a." * 20_000])
def test_d6_a_setting_that_cannot_be_read_is_told(campaign_factory: CampaignFactory, value: str) -> None:
    """On the command line: exit 2, no traceback."""
    campaign_factory()
    done = CliRunner().invoke(
        cli, ["check", str(campaign_factory.folder), "--set", f"send.sessions={value}"], standalone_mode=False
    )

    assert isinstance(done.exception, MailmergeError)
    assert done.exception.exit_code == 2


LONG = {
    "width of %": "{{ '%999999999d' % 1 }}",
    "width of |format": "{{ '%999999999s'|format(name) }}",
    "precision": "{{ '%.999999999f' % 1 }}",
    "width from a cell": "{{ '%*d' % (x|int, 1) }}",
    "format": "{{ '{:999999999}'.format(1) }}",
    "format from a cell": "{{ '{:{}}'.format(name, x|int) }}",
    "center": "{{ name.center(x|int) }}",
    "|center": "{{ name|center(x|int) }}",
    "ljust": "{{ name.ljust(x|int) }}",
    "zfill": "{{ name.zfill(x|int) }}",
    "expandtabs": "a{{ '\\t'.expandtabs(900000000 if name == 'Bo' else 3) }}",
    "|indent": "{{ name|indent(x|int, true) }}",
    "replace": "{{ y.replace('', y) }}",
    "|replace": "{{ y|replace('a', y) }}",
    "join": "{{ y.join(y|list) }}",
    "|join": "{{ y|list|join(y) }}",
    "times": "{{ name * (x|int) }}",
}


@pytest.mark.parametrize("case", LONG)
def test_d5_no_cell_makes_an_endless_text(campaign_factory: CampaignFactory, case: str) -> None:
    """A width or a text of a cell may not fill the memory: that row is invalid, the others can be sent."""
    rows = [f"b@x.org,Bo,900000000,{'a' * 100_000}", "a@x.org,Ann,3,a"]
    campaign = campaign_factory({"body.txt": LONG[case]}, heading="email,name,x,y", rows=rows)
    counts = campaign.check().statuses

    fixed = "99999" in LONG[case]
    assert counts[Status.INVALID] == (2 if fixed else 1)
    assert counts[Status.PENDING] == (0 if fixed else 1)
