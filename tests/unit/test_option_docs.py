"""The table of options as documents: docs/options.md, and the JSON Schema that editors use."""

from __future__ import annotations

import json
import subprocess
import tomllib
from datetime import date
from decimal import Decimal
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, get_args

import click
import jsonschema
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mailmerge.campaign.scaffold import make_campaign, sample_list
from mailmerge.cli.reference import schema as command
from mailmerge.config.option_docs import as_markdown, json_schema
from mailmerge.options import ACCOUNT, CAMPAIGN, SchemaName, StockTemplate
from mailmerge.recipients import open_list
from mailmerge.validation import ValidationError

ROOT = Path(__file__).parents[2]
KEYS = [option for options in (*CAMPAIGN.values(), ACCOUNT) for option in options.values()]


def validator(name: SchemaName = "campaign") -> jsonschema.Draft202012Validator:
    """Return what checks a document against a schema of ours, which must be a schema itself."""
    schema = json_schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def load(path: Path) -> Any:
    """Read a TOML file as editors see it: its dates are strings to JSON Schema."""
    return json.loads(json.dumps(tomllib.loads(path.read_text("utf-8")), default=str))


def test_the_page_is_up_to_date() -> None:
    """``docs/options.md`` is what ``scripts/write-options-page`` would write."""
    assert (ROOT / "docs" / "options.md").read_text("utf-8") == as_markdown()


def test_the_page_names_every_key_flag_and_variable() -> None:
    """Nothing that can be said is missing from the page, and angle brackets are not taken for HTML."""
    page = as_markdown().replace(r"\|", "|")  # as a table of GitHub's Markdown shows it
    for option in KEYS:
        assert f"| `{option.key}` | " in page
        assert f"`{option.flag}`" in page or not option.flag
        assert all(f"`{variable}`" in page for variable in option.variables)
    assert "'Name &lt;address&gt;'" in page
    assert "<" not in page


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("samples/*/campaign.toml")), ids=lambda path: path.parent.name
)
def test_the_samples_are_valid(path: Path) -> None:
    """An editor finds nothing wrong with a sample."""
    assert [error.message for error in validator().iter_errors(load(path))] == []


@pytest.mark.parametrize("kind", get_args(StockTemplate))
def test_what_init_makes_is_valid(kind: StockTemplate, tmp_path: Path) -> None:
    """An editor finds nothing wrong with a new campaign, and finds the schema that its first line names."""
    make_campaign(tmp_path / "new", open_list(sample_list()), kind=kind)
    path = tmp_path / "new" / "campaign.toml"
    assert [error.message for error in validator().iter_errors(load(path))] == []
    mark, _, name = path.read_text("utf-8").partition("\n")[0].partition(" ")
    assert mark == "#:schema"
    assert json.loads((path.parent / name).read_text("utf-8")) == json_schema()


def test_taplo_reads_the_schema(tmp_path: Path) -> None:
    """What editors ask (Even Better TOML is Taplo) accepts what `init` makes, and finds a mistake."""
    taplo = _taplo()
    make_campaign(tmp_path / "new", open_list(sample_list()))
    path = tmp_path / "new" / "campaign.toml"
    assert _lint(taplo, path) == (0, [])
    path.write_text(
        path.read_text("utf-8") + '[data.defaults]\n[check]\nignroe = ["D204"]\n', encoding="utf-8"
    )
    code, said = _lint(taplo, path)
    assert code == 1
    assert any("'ignroe' was unexpected" in line for line in said)
    config = tmp_path / "config.toml"
    (tmp_path / "accounts.schema.json").write_text(json.dumps(json_schema("accounts")), encoding="utf-8")
    for port, ends in (("587", 0), ('"smtp"', 1)):
        config.write_text(f"#:schema ./accounts.schema.json\n{CONFIG.format(port)}", encoding="utf-8")
        assert _lint(taplo, config)[0] == ends


CONFIG = """\
[accounts.work]
host = "smtp.example.org"
port = {}
rate = ["60/m"]
[ledgers.office]
url = "postgresql://db.example.org/mail"
"""


def _taplo() -> Path:
    """Return the program of the package of that name, on the systems for which there is one."""
    try:
        files = distribution("taplo").files or []
    except PackageNotFoundError:
        pytest.skip("taplo is not installed (make test installs it where there is one)")
    return next(Path(str(file.locate())) for file in files if file.name == "taplo")


def _lint(taplo: Path, path: Path) -> tuple[int, list[str]]:
    """Let Taplo look at a file, as an editor does; give its exit code and the lines with errors."""
    done = subprocess.run(
        [taplo, "lint", "--colors=never", path], cwd=path.parent, capture_output=True, text=True, check=False
    )
    return done.returncode, [line for line in done.stderr.splitlines() if line.startswith("error")]


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"nmae": "x"}, []),
        ({"data": {"sorce": "x"}}, ["data"]),
        ({"data": {"hidden": "skp"}}, ["data", "hidden"]),
        ({"send": {"rate": ["60/m", 5]}}, ["send", "rate"]),
        ({"send": {"max_rejected": "5"}}, ["send", "max_rejected"]),
        ({"attach": [{"name": "x"}]}, ["attach", 0]),
        ({"attach": [{"path": "x.pdf"}, {"path": "x.pdf", "template": "x.html"}]}, ["attach", 1]),
        ({"attach": [{"template": "x.html", "missing": "skip"}]}, ["attach", 0]),
        ({"attach": [{"path": "x.pdf", "password": "{{ pin }}"}]}, ["attach", 0]),
    ],
)
def test_a_mistake_is_seen_where_it_is(document: Any, path: list[object]) -> None:
    """Unknown keys and wrong values are told by an editor before any command runs."""
    assert [list(error.absolute_path) for error in validator().iter_errors(document)] == [path]


def test_accounts_are_described() -> None:
    """The accounts of config.toml have a schema of their own."""
    good = {"accounts": {"work": {"host": "smtp.example.org", "port": 587, "rate": ["60/m"]}}}
    assert [error.message for error in validator("accounts").iter_errors(good)] == []
    bad = {"accounts": {"work": {"port": 0}}}
    assert [list(error.absolute_path) for error in validator("accounts").iter_errors(bad)] == [
        ["accounts", "work", "port"]
    ]


def test_keys_are_described() -> None:
    """What an editor shows beside a key is the help of the command line."""
    sheet = json_schema()["properties"]["data"]["properties"]["sheet"]
    assert sheet["description"] == "The sheet of a workbook; default: the only one with addresses."
    assert json_schema()["properties"]["send"]["properties"]["max_rejected"]["default"] == "5%"


_texts = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        [
            "60/m",
            "2000/Day",
            "5 / 3 min",
            "1m, 5m",
            "never",
            "5%",
            "0.5 %",
            "25MB",
            "7k",
            "D204",
            "utf-8",
            "a\nb",
        ]
    ),
    st.sampled_from(
        ["tls", "none", "first", "skip", "auto", "me@x.org", "Me <me@x.org>", "@x.org", "smtp.x.org"]
    ),
)
_scalars = st.one_of(_texts, st.integers(-5, 70000), st.booleans(), st.decimals(0, 9, places=2))
_values = st.one_of(
    _scalars,
    st.lists(_texts, max_size=3),
    st.dictionaries(st.sampled_from(["a", "X-A", "b c"]), _scalars, max_size=2),
)


@given(value=_values)
def test_what_the_program_takes_an_editor_takes(value: Any) -> None:
    """No key has a value that works and is underlined in red."""
    shown = json.loads(
        json.dumps(value, default=lambda other: float(other) if isinstance(other, Decimal) else str(other))
    )
    for option in KEYS:
        try:
            option.type.read(value)
        except ValidationError:
            continue
        jsonschema.validate(shown, dict(option.type.schema))


def test_dates_are_strings_to_an_editor() -> None:
    """TOML's dates may be variables of templates."""
    assert CAMPAIGN[""]["vars"].type.read({"due": date(2026, 12, 1)})
    jsonschema.validate({"due": "2026-12-01"}, dict(CAMPAIGN[""]["vars"].type.schema))


@pytest.mark.parametrize("name", get_args(SchemaName))
def test_the_command_prints_it(name: SchemaName) -> None:
    """``mailmerge schema`` prints what editors read; alone, that of a campaign."""
    arguments = [] if name == "campaign" else [name]
    assert json.loads(CliRunner().invoke(command, arguments).output) == json_schema(name)
    assert isinstance(command.params[0], click.Argument)
