"""The facts of a plan: every change that would make another plan is explained, and nothing else is."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from campaigns import write_campaign
from mailmerge import options
from mailmerge.config.campaign_file import Overrides, load
from mailmerge.errors import RowError
from mailmerge.message.attachments import FileStore
from mailmerge.message.file_search import FileProblem, FileSearch
from mailmerge.message.inline import InlineImages
from mailmerge.plan.composer import Composer, recipe
from mailmerge.plan.facts import Facts, Premises, premises
from mailmerge.plan.path_log import LookedAtPaths, PathLog
from mailmerge.recipients import open_list, sha256
from mailmerge.version import installed_versions, program_version

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailmerge.config.campaign_file import CampaignFile

CAMPAIGN: dict[str, str | bytes | None] = {
    "campaign.toml": """name = "spring"
[vars]
club = "The Club"
[data]
source = "people.csv"
[message]
from = "Me <me@example.org>"
to = "{{ name }} <{{ email }}>"
subject = "Hello {{ name }}"
text = "body.txt"
html = "body.html"
[[attach]]
path = "invoices/{{ id }}.pdf"
missing = "skip"
[[attach]]
path = "maps/*.png"
missing = "skip"
""",
    "people.csv": "email,name,id\nana@example.org,Ana,416\nbo@example.org,Bo,417\ncy@example.org,Cy,418\n",
    "body.txt": """Dear {{ name }}
{% include "footer.txt" ignore missing %}
{% include ["own.txt", "all.txt"] %}
""",
    "all.txt": "for all\n",
    "body.html": """<html lang="en"><img src="logo.png" alt="us">
<p>{% include name ~ ".html" ignore missing %}</p></html>
""",
    "logo.png": b"\x89PNG\r\n\x1a\n",
    "Ana.html": "for Ana",
    "invoices/416.pdf": b"pdf 416",
    "maps/a.png": b"map",
    "maps/notes.txt": "no map",
}


def old(path: Path) -> None:
    """Let a file, or a folder, look as if it had been changed an hour ago."""
    os.utime(path, ns=(1, time.time_ns() - 3_600_000_000_000))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A campaign with everything that planning looks at, none of it touched lately."""
    folder = write_campaign(tmp_path / "spring", CAMPAIGN)
    for path in [*folder.rglob("*"), folder]:
        old(path)
    return folder


def plan(folder: Path, log: PathLog | None = None, **overrides: object) -> Facts:
    """Look at all that planning looks at, as it does."""
    file, log = load(folder, Overrides(options=overrides)), log or PathLog()
    source = file.data.source
    facts = log.stat(str(source))
    log.hashed(str(source), facts, sha256(source))
    recipients = open_list(source)
    composer = Composer(recipe(file), recipients.columns, files=log)
    for recipient in recipients:
        with contextlib.suppress(RowError):  # an attachment that leads out of the folder
            composer.freeze(composer.render(recipient), key="")
    return Facts(premises(file), log.looked_at())


def changes(folder: Path, facts: Facts, **overrides: object) -> list[str]:
    """Compare as a later command does: with what was kept."""
    kept = Facts.decode(facts.encode())
    assert kept == facts
    return kept.changes(premises(load(folder, Overrides(options=overrides))))


def write(name: str, content: str | bytes = "other") -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return change


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def both(*steps: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda folder: [step(folder) for step in steps]


def exchange(name: str) -> Callable[[Path], object]:
    """Put another file of the same size and time in a file's place."""

    def change(folder: Path) -> None:
        path, found = folder / name, (folder / name).stat()
        other = folder / "other"
        other.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
        os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
        other.replace(path)

    return change


def link(name: str, to: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(to)

    return change


def copied_over(name: str) -> Callable[[Path], object]:
    """Put a copy of a file in its place."""

    def change(folder: Path) -> None:
        (folder / "copy").write_bytes((folder / name).read_bytes())
        (folder / "copy").replace(folder / name)

    return change


def touch_all(folder: Path) -> None:
    for path in folder.rglob("*"):
        path.touch()


CHANGES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "the list": (write("people.csv"), ["people.csv changed"]),
    "the list, removed": (remove("people.csv"), ["people.csv was removed"]),
    "a template": (write("body.txt"), ["body.txt changed"]),
    "a template, same size and time": (exchange("body.txt"), ["body.txt changed"]),
    "an include": (write("all.txt"), ["all.txt changed"]),
    "an include, removed": (remove("all.txt"), ["all.txt was removed"]),
    "an include that was missing": (write("footer.txt"), ["footer.txt appeared"]),
    "a template before another": (write("own.txt"), ["own.txt appeared"]),
    "an include named by a cell": (write("Ana.html"), ["Ana.html changed"]),
    "an include named by a cell that was missing": (write("Bo.html"), ["Bo.html appeared"]),
    "an image": (write("logo.png"), ["logo.png changed"]),
    "an attachment": (write("invoices/416.pdf"), ["invoices/416.pdf changed"]),
    "an attachment that was missing": (write("invoices/417.pdf"), ["invoices/417.pdf appeared"]),
    "an attachment, removed": (remove("invoices/416.pdf"), ["invoices/416.pdf was removed"]),
    "an attachment that became a folder": (
        both(remove("invoices/416.pdf"), lambda folder: (folder / "invoices/416.pdf").mkdir()),
        ["invoices/416.pdf changed"],
    ),
    "one file more": (write("maps/b.png"), ["1 more file matches maps/*.png"]),
    "three files more": (
        both(*(write(f"maps/{name}.png") for name in "bcd")),
        ["3 more files match maps/*.png"],
    ),
    "one file fewer": (remove("maps/a.png"), ["maps/a.png was removed", "1 file fewer matches maps/*.png"]),
    "another file": (
        both(remove("maps/a.png"), write("maps/b.png")),
        ["maps/a.png was removed", "other files match maps/*.png"],
    ),
    "a link instead": (both(write("new.txt"), link("all.txt", "new.txt")), ["all.txt changed"]),
    "several": (
        both(write("people.csv"), write("body.html")),
        ["body.html changed", "people.csv changed"],
    ),
}
SAME: dict[str, Callable[[Path], object]] = {
    "nothing": lambda _: None,
    "touched": touch_all,
    "written again": lambda folder: [
        path.write_bytes(path.read_bytes()) for path in folder.rglob("*") if path.is_file()
    ],
    "copied over": both(*map(copied_over, ("people.csv", "body.txt", "logo.png"))),
    "a file that nobody looks at": write("notes.txt"),
    "a file that does not match": both(write("maps/more.txt"), remove("maps/notes.txt")),
    "a file in a folder of attachments": write("invoices/999.pdf"),
    "a hidden file": write("maps/.DS_Store"),
    "an option that is no fact": lambda folder: (folder / "campaign.toml").write_text(
        str(CAMPAIGN["campaign.toml"]) + '[send]\nrate = "1/m"\n'
    ),
}


@pytest.mark.parametrize(("change", "told"), CHANGES.values(), ids=CHANGES)
def test_a_change_is_told(folder: Path, change: Callable[[Path], object], told: list[str]) -> None:
    """What planning looked at and has changed since is explained, and nothing else is."""
    facts = plan(folder)
    assert changes(folder, facts) == []
    change(folder)

    assert changes(folder, facts) == told


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_what_makes_no_difference_is_not_told(folder: Path, change: Callable[[Path], object]) -> None:
    """Files with the same content, and files that planning did not look at, change nothing."""
    facts = plan(folder)
    change(folder)

    assert changes(folder, facts) == []


@pytest.mark.parametrize("name", ["people.csv", "body.txt", "all.txt", "logo.png", "invoices/416.pdf"])
def test_an_edit_within_the_same_tick_is_told(folder: Path, name: str) -> None:
    """A file that was young when it was read is read again: an edit need not show in size, time or inode."""
    path = folder / name
    path.touch()
    found, content = path.stat(), path.read_bytes()
    facts = plan(folder)
    assert changes(folder, facts) == []
    with path.open("r+b") as file:
        file.write(bytes([content[0] ^ 1]))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_ino) == (found.st_size, found.st_ino)

    assert changes(folder, facts) == [f"{name} changed"]


def test_a_file_that_was_young_at_the_first_look_stays_young(tmp_path: Path) -> None:
    """Hashed long after the first look, it is compared by its content all the same."""
    path, times = tmp_path / "people.csv", [0]
    path.write_text("a")
    found = path.stat()
    log = PathLog(lambda: times[0])
    for seconds in (1, 60):
        times[0] = found.st_mtime_ns + seconds * 1_000_000_000
        log.stat(str(path)) if seconds == 1 else log.hashed(str(path), found, sha256(path))
    facts = Facts(Premises(str(tmp_path), "", {}), log.looked_at())
    assert facts.changes(facts.premises) == []
    path.write_text("b")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))

    assert facts.changes(facts.premises) == ["people.csv changed"]


def test_a_match_within_the_same_tick_is_told(folder: Path) -> None:
    """A folder that was young when it was listed is listed again."""
    maps = folder / "maps"
    maps.touch()
    found = maps.stat()
    facts = plan(folder)
    (maps / "b.png").write_bytes(b"b")
    os.utime(maps, ns=(found.st_atime_ns, found.st_mtime_ns))

    assert changes(folder, facts) == ["1 more file matches maps/*.png"]


def test_old_files_are_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where size, time and inode are as they were, and the file was not young, nothing is opened."""
    facts = plan(folder)
    kept, now = Facts.decode(facts.encode()), premises(load(folder))
    opened = []
    monkeypatch.setattr("builtins.open", lambda *call, **_: opened.append(call))
    monkeypatch.setattr("os.scandir", lambda *call, **_: opened.append(call))

    assert kept is not None
    assert (kept.changes(now), opened) == ([], [])


def test_a_change_while_planning_is_told(folder: Path) -> None:
    """What was not the same for all rows is told from then on, also when it is as it was at first."""
    log = PathLog()
    plan(folder, log)
    before = (folder / "all.txt").read_bytes()
    (folder / "all.txt").write_text("meanwhile")
    (folder / "maps/b.png").write_text("meanwhile")
    facts = plan(folder, log)
    (folder / "all.txt").write_bytes(before)

    assert "all.txt changed while the plan was made" in changes(folder, facts)
    assert "maps changed while the plan was made" in changes(folder, facts)


@pytest.mark.skipif(sys.platform == "win32", reason="makes links")
@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ((link("invoices/417.pdf", "../logo.png"), link("invoices/417.pdf", "416.pdf")), "changed"),
        ((link("invoices/417.pdf", "nowhere"), write("invoices/nowhere")), "appeared"),
        ((link("invoices/417.pdf", "/etc/hostname"), link("invoices/417.pdf", "416.pdf")), "changed"),
        ((link("footer.txt", "/etc/hostname"), link("footer.txt", "all.txt")), "changed"),
        ((link("footer.txt", "nowhere"), write("nowhere")), "appeared"),
    ],
    ids=["elsewhere", "nowhere", "outside", "include outside", "include nowhere"],
)
def test_a_link_is_followed(folder: Path, steps: tuple[Callable[[Path], object], ...], told: str) -> None:
    """A link is what it leads to, also where it leads out of the folder and is refused."""
    before, after = steps
    before(folder)
    facts = plan(folder)
    assert changes(folder, facts) == []
    after(folder)

    assert [change.partition(" ")[2] for change in changes(folder, facts)] == [told]


PATTERNS = {
    "a*/b.txt": (("ab/b.txt", "ac/b.txt"), ("b/b.txt", "ab/c.txt")),
    "**/*.pdf": (("x.pdf", "new/x.pdf", "sub/deep/x.pdf"), ("x.txt", ".hidden/x.pdf", "sub/.x.pdf")),
    "sub/**": (("sub/x", "sub/deep/x", "sub/new/x"), ("x", "new/x")),
    "sub/*/[ab].txt": (("sub/deep/a.txt", "sub/new/b.txt"), ("sub/a.txt", "sub/deep/c.txt", "sub/x/y/a.txt")),
    "none/*.txt": (("none/a.txt",), ("none.txt", "none/b.pdf")),
    "*.txt": (("a.txt",), ("sub/a.txt", "a.pdf")),
}


@pytest.mark.parametrize(
    ("pattern", "name", "told"),
    [
        (pattern, name, told)
        for pattern, cases in PATTERNS.items()
        for told, names in zip((True, False), cases, strict=True)
        for name in names
    ],
)
def test_a_pattern_is_matched_again(tmp_path: Path, pattern: str, name: str, told: bool) -> None:
    """A new file is told if the pattern matches it, wherever that is, and not if it does not."""
    for folder in ("ab", "ac", "sub/deep"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "kept").write_text("x")
    for path in [*tmp_path.rglob("*"), tmp_path]:
        old(path)
    log = PathLog()
    FileSearch(log).find(tmp_path, pattern, "skip")
    looked_at = log.looked_at()
    write(name)(tmp_path / "ab" / "..") if "/" not in name else None
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("x")

    found = Facts(Premises(str(tmp_path), "", {}), looked_at).changes(Premises(str(tmp_path), "", {}))
    assert bool(found) == told, found


def test_a_file_that_becomes_a_folder(tmp_path: Path) -> None:
    """Where a folder has the name that a file had, files in it match."""
    (tmp_path / "ab").write_text("x")
    log = PathLog()
    FileSearch(log).find(tmp_path, "a*/b.txt", "skip")
    facts = Facts(Premises(str(tmp_path), "", {}), log.looked_at())
    (tmp_path / "ab").unlink()
    write("ab/b.txt")(tmp_path)

    assert facts.changes(facts.premises) == ["1 more file matches a*/b.txt"]


def test_a_folder_in_the_place_of_a_file(tmp_path: Path) -> None:
    """A folder that was looked at is the same whatever is put into it, until it is not a folder any more."""
    write("sub/x")(tmp_path)
    log = PathLog()
    with pytest.raises(FileProblem, match="is a folder"):
        FileSearch(log).find(tmp_path, "sub")
    facts = Facts(Premises(str(tmp_path), "", {}), log.looked_at())
    write("sub/y")(tmp_path)
    assert facts.changes(facts.premises) == []
    shutil.rmtree(tmp_path / "sub")
    write("sub")(tmp_path)

    assert facts.changes(facts.premises) == ["sub changed"]


@pytest.mark.skipif(sys.platform == "win32", reason="makes a link")
def test_what_a_link_leads_to_is_hashed_once(tmp_path: Path) -> None:
    """A file that was read by its own path is known by that of the link, too: touched, it is the same."""
    write("a.pdf")(tmp_path)
    (tmp_path / "b.pdf").symlink_to("a.pdf")
    log = PathLog()
    [found] = FileSearch(log).find(tmp_path, "b.pdf")
    FileStore(log).attachment(found, "b.pdf")
    facts = Facts(Premises(str(tmp_path), "", {}), log.looked_at())
    old(tmp_path / "a.pdf")

    assert facts.changes(facts.premises) == []


def test_an_image_that_was_missing(tmp_path: Path) -> None:
    """An image that a row's cell names is looked for under both its spellings."""
    log = PathLog()
    with pytest.raises(FileProblem, match="no image"):
        InlineImages(tmp_path, "v1", FileStore(log)).rewrite('<img src="a%20b.png">')
    facts = Facts(Premises(str(tmp_path), "", {}), log.looked_at())
    write("a b.png")(tmp_path)
    assert facts.changes(facts.premises) == ["a b.png appeared"]
    write("a%20b.png")(tmp_path)

    assert facts.changes(facts.premises) == ["a b.png appeared", "a%20b.png appeared"]


def test_many_patterns_in_one_folder(tmp_path: Path) -> None:
    """Where each row has a pattern of its own they are not all matched again: the folder is told."""
    (tmp_path / "pdf").mkdir()
    old(tmp_path / "pdf")
    log = PathLog()
    for n in range(300):
        FileSearch(log).find(tmp_path, f"pdf/{n}-*.pdf", "skip")
    facts = Facts(Premises(str(tmp_path), "", {}), log.looked_at())
    assert facts.changes(facts.premises) == []
    (tmp_path / "pdf").touch()
    assert facts.changes(facts.premises) == []
    (tmp_path / "pdf/x").write_text("x")

    assert facts.changes(facts.premises) == ["files in pdf changed"]


@pytest.mark.skipif(sys.platform == "win32", reason="not a name there")
def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    """A file whose name is not UTF-8 is kept, compared and told."""
    name = os.fsdecode(b"caf\xe9.pdf")
    (tmp_path / name).write_text("x")
    log = PathLog()
    FileSearch(log).find(tmp_path, "*.pdf", "skip")
    facts = Facts(Premises(str(tmp_path), "", {}), log.looked_at())
    (tmp_path / name).unlink()

    kept = Facts.decode(facts.encode())
    assert kept is not None
    assert kept.changes(facts.premises) == ["caf\\udce9.pdf was removed", "1 file fewer matches *.pdf"]


def test_no_more_is_looked_for_than_wanted(tmp_path: Path) -> None:
    """Of very many changes only some are told."""
    log = PathLog()
    for n in range(100):
        log.exists(str(tmp_path / f"{n}.pdf"))
    facts = Facts(Premises(str(tmp_path), "", {}), log.looked_at())
    for n in range(100):
        (tmp_path / f"{n}.pdf").write_text("x")

    assert len(facts.changes(facts.premises)) == 20
    assert facts.changes(facts.premises, most=1) == ["0.pdf appeared"]


def test_looking_changes_no_answer(tmp_path: Path) -> None:
    """Whoever notes the looks gives the same answers and the same errors."""
    (tmp_path / "a.pdf").write_text("x")
    for path in ("a.pdf", "*.pdf", "[!b].pdf"):
        assert FileSearch(PathLog()).find(tmp_path, path) == FileSearch().find(tmp_path, path)
    for path, code in (("b.pdf", "A301"), ("../x", "A302"), (".", "A303")):
        with pytest.raises(FileProblem) as raised:
            FileSearch(PathLog()).find(tmp_path, path)
        assert raised.value.code == code


def test_the_order_of_looks_makes_no_difference(tmp_path: Path) -> None:
    """Several that look at the same files in another order note the same."""
    (tmp_path / "a.pdf").write_text("x")
    one, other = PathLog(), PathLog()
    looks = ["a.pdf", "b.pdf", "*.pdf", "x/*.pdf", "a.pdf"]
    for log, paths in ((one, looks), (other, looks[::-1])):
        for path in paths:
            FileSearch(log).find(tmp_path, path, "skip")

    assert one.looked_at() == other.looked_at() != LookedAtPaths()


# --- what is known beforehand ------------------------------------------------------------------------------


def test_which_options_are_facts() -> None:
    """Exactly these options make another plan; pace, account, suppression and reports do not."""
    sections = {**options.CAMPAIGN, "accounts": options.ACCOUNT}
    facts = {option.name for table in sections.values() for option in table.values() if option.fact}

    assert facts == {
        *("name", "vars"),
        *(f"data.{key}" for key in options.CAMPAIGN["data"] if key not in {"suppress", "original"}),
        *(f"message.{key}" for key in options.CAMPAIGN["message"]),
        *(f"attach.{key}" for key in options.CAMPAIGN["attach"]),
        "check.ignore",
        "accounts.from",
    }
    assert not any(option.fact for option in (*options.COMMAND_LINE, *options.ENVIRONMENT_ONLY))


def test_an_option_is_told_in_its_own_letters(folder: Path) -> None:
    """``check -v`` shows Chinese as Chinese; only what is not Unicode is escaped."""
    chinese = premises(load(folder, Overrides(options={"message.subject": "期中成绩"})))
    broken = premises(load(folder, Overrides(options={"message.subject": "\udcff"})))

    assert 'option message.subject = "期中成绩"' in Facts(chinese, LookedAtPaths()).told()
    assert 'option message.subject = "\\udcff"' in Facts(broken, LookedAtPaths()).told()


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"data.where": "name != 'Bo'"}, ["option data.where changed"]),
        ({"message.subject": "Bye"}, ["option message.subject changed"]),
        (
            {"message.to": ["{{ email }}"], "data.key": "id"},
            ["option data.key changed", "option message.to changed"],
        ),
        ({"attach": ["logo.png"]}, ["option attach[0].path changed", "option attach[0].missing changed"]),
        ({"name": "summer"}, ["the campaign was called spring"]),
        ({"send.rate": "1/m", "data.suppress": ["never.txt"], "account": "gmail"}, []),
    ],
)
def test_an_option_that_changed_is_told(folder: Path, overrides: dict[str, object], told: list[str]) -> None:
    """An option that is a fact is told by its name, and gives the plan another one; others do neither."""
    before, now = premises(load(folder)), premises(load(folder, Overrides(options=overrides)))
    found = Facts(before, LookedAtPaths()).changes(now)

    assert set(told) <= set(found)
    assert bool(found) == bool(told)
    assert (before.digest() == now.digest()) == (not told)


def test_each_option_that_is_a_fact_counts(folder: Path) -> None:
    """Whatever value of whichever option that is a fact is another: it is another plan."""
    file = load(folder)
    names = [premises(file).digest()]
    for part in ("data", "message", "check", "attach"):
        section = file.attach[0] if part == "attach" else getattr(file, part)
        for field in type(section).__struct_fields__:
            if options.CAMPAIGN[part][field.removesuffix("_")].fact:
                other = replace(section, **{field: f"other {field}"})
                changed = {part: (other, *file.attach[1:]) if part == "attach" else other}
                names.append(premises(replace(file, **changed)).digest())
    names.append(premises(replace(file, vars={})).digest())
    names.append(premises(replace(file, name="summer")).digest())

    assert len(names) == len(set(names)) == 43


def test_the_same_campaign_from_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the folder is named, the plan is the same."""
    whole = premises(load(folder)).digest()
    monkeypatch.chdir(folder)
    inside = premises(load(Path())).digest()
    monkeypatch.chdir(folder.parent)
    beside = premises(load(Path("spring"))).digest()
    (folder.parent / "link").symlink_to("spring")

    assert whole == inside == beside == premises(load(Path("link"))).digest()


def test_a_plan_made_from_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths that were looked at from another working directory are still found."""
    monkeypatch.chdir(folder.parent)
    facts = plan(Path("spring"))
    monkeypatch.chdir("/")
    assert changes(folder, facts) == []
    write("body.txt")(folder)
    write("people.csv")(folder)

    assert changes(folder, facts) == ["body.txt changed", "people.csv changed"]


def test_a_value_is_not_a_text_that_looks_like_it(folder: Path) -> None:
    """A variable that was a number and is text now is another one."""

    def name(value: object) -> str:
        return premises(replace(load(folder), vars={"x": value})).digest()

    day = date(2026, 1, 1)
    values = [1, "1", Decimal(1), Decimal("1.0"), "1.0", 1.0, True, "True", day, str(day), ["1"], {"1": 1}]
    assert len({name(value) for value in values}) == len(values)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("folder", "/elsewhere", "the campaign was in {}"),
        ("sender", "You <you@example.org>", "the account's sender changed"),
        ("rows", "abc", "the rows changed"),
        ("versions", {"Jinja2": "4.0", "Python": "3.14"}, "Jinja2 3.1.6 was replaced by 4.0"),
        ("versions", {"Python": "3.14"}, "Jinja2 changed"),
    ],
)
def test_other_premises_are_told(field: str, value: object, told: str) -> None:
    """Folder, sender, rows and versions: each is told; plans with other rows are looked for together."""
    before = Premises("/home/me", "spring", {}, versions={"Jinja2": "3.1.6", "Python": "3.14"})
    now = replace(before, **{field: value})

    assert Facts(before, LookedAtPaths()).changes(now) == [told.format("/home/me")]
    assert (before.digest() == now.digest()) == (field == "rows")
    assert Facts(before, LookedAtPaths()).digest() != Facts(now, LookedAtPaths()).digest()


def test_the_accounts_sender_counts_only_where_it_is_used(folder: Path) -> None:
    """A campaign that says who sends does not depend on the account's sender."""
    file = load(folder)
    without = replace(file, message=replace(file.message, from_=None))

    assert premises(file, sender="a@example.org") == premises(file, sender="b@example.org")
    assert premises(without, sender="a@example.org") != premises(without, sender="b@example.org")


def test_name_and_digest(folder: Path) -> None:
    """The name is known before planning; the digest also tells plans of the same name apart."""
    before = plan(folder)
    write("body.txt")(folder)
    after = plan(folder)

    assert before.premises.digest() == after.premises.digest()
    assert len(before.premises.digest()) == 16
    assert before.digest() != after.digest()
    assert plan(folder).digest() == after.digest()


def test_damaged_facts_are_none() -> None:
    """Facts that cannot be read are not there."""
    facts = Facts(Premises("/", "x", {}), LookedAtPaths()).encode()

    assert Facts.decode(facts) is not None
    assert [
        Facts.decode(data) for data in (b"", facts[:-1], b"\xc1" + facts, b"\x80", b"\x81\xa1\xff\x00")
    ] == [None] * 5


def test_the_versions_that_are_installed() -> None:
    """They are those that Python itself would say, without asking it."""
    from importlib.metadata import version

    found = installed_versions(["jinja2", "markupsafe", "email-validator", "no-such-thing"])
    assert found == {name: version(name) for name in ("jinja2", "markupsafe", "email-validator")}
    told: dict[str, str] = premises_of_nothing().versions
    assert told["Jinja2"] == found["jinja2"]
    assert told["mailmerge"].startswith(program_version())


def premises_of_nothing() -> Premises:
    file: CampaignFile = load(Path(__file__).parents[2] / "samples" / "newsletter")
    return premises(file)
