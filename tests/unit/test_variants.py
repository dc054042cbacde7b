"""Bodies of which a row chooses one: ``body.{{ lang }}.md``."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from mailmerge.errors import RowError, TemplateError
from mailmerge.file_system import PrivateFiles
from mailmerge.model import Columns, Recipient
from mailmerge.render import MessageTemplates, Renderer, TemplateSource
from mailmerge.render.sources import Layout, fixed_folder, stock_layout

COLUMNS = Columns(("E-mail", "Language", "Tier"), ("email", "lang", "tier"))
LETTER = Layout(TemplateSource("letter", stock_layout("letter")), {"footer": "Example Ltd"})


@pytest.fixture
def make(tmp_path):
    """Return what makes a renderer of these files and patterns."""

    def run(files, text=None, html=None, own=None, **more):
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(content, "utf-8")
        bodies: dict[str, Any] = {
            part: TemplateSource(pattern, tmp_path / pattern)
            for part, pattern in (("text", text), ("html", html))
            if pattern
        }
        templates = MessageTemplates(
            base=tmp_path, from_="me@x.org", to=("{{ email }}",), subject="Hi", **bodies, **more
        )
        return Renderer(templates, COLUMNS, own=own)

    return run


def row(lang, tier="gold", number=5):
    return Recipient(number, COLUMNS, ("k@x.org", lang, tier))


def refused(renderer, lang, tier="gold"):
    """Return the error of a row."""
    with pytest.raises(RowError) as caught:
        renderer.render(row(lang, tier))
    assert (caught.value.code, caught.value.row) == ("T150", 5)
    return caught.value


def joined(chunks):
    return None if chunks is None else "".join(chunks)


@pytest.mark.parametrize(
    ("files", "text", "html"),
    [
        (
            {"body.de.txt": "Hallo {{ email }}", "body.en.txt": "Hello {{ email }}"},
            "body.{{ lang }}.txt",
            None,
        ),
        (
            {"de/body.txt": "Hallo {{ email }}", "en/body.txt": "Hello {{ email }}"},
            "{{ lang }}/body.txt",
            None,
        ),
        (
            {"body.de.md": "Hallo *{{ email }}*", "body.en.md": "Hello *{{ email }}*"},
            "body.{{ lang }}.md",
            "body.{{ lang }}.md",
        ),
        (
            {
                "body.de.txt": "Hallo {{ email }}",
                "body.en.txt": "Hello {{ email }}",
                "page.de.html": "<p>Hallo <em>{{ email }}</em>",
                "page.en.html": "<p>Hello <em>{{ email }}</em>",
            },
            "body.{{ lang }}.txt",
            "page.{{ lang }}.html",
        ),
        (
            {
                "body.de.html": "<p>Hallo <em>{{ email }}</em>",
                "body.en.html": "<p>Hello <em>{{ email }}</em>",
            },
            None,
            "body.{{ lang }}.html",
        ),
    ],
    ids=["text", "folders", "markdown", "both", "text from HTML"],
)
@pytest.mark.parametrize("layout", [None, LETTER])
def test_each_row_gets_its_variant(make, files, text, html, layout):
    """In every kind of body, with and without a layout, both parts in one language."""
    renderer = make(files, text, html, layout=layout if html else None)
    for lang, word in (("de", "Hallo"), ("en", "Hello"), ("de", "Hallo")):
        rendered = renderer.render(row(lang))
        assert joined(rendered.text).startswith(f"{word} ")
        assert "k@x.org" in joined(rendered.text)
        if html:
            assert f"{word} <em>k@x.org</em>" in joined(rendered.html)
            assert ("Example Ltd" in joined(rendered.html)) is (layout is not None)
        assert lang in renderer.variant(row(lang))


def test_one_part_may_be_the_same_for_all(make):
    """One text for everybody next to HTML by language."""
    renderer = make(
        {"body.txt": "Hi", "p.de.html": "<p>Hallo", "p.en.html": "<p>Hello"}, "body.txt", "p.{{ lang }}.html"
    )
    found = [renderer.render(row(lang)) for lang in ("de", "en")]
    assert [(joined(one.text), joined(one.html)) for one in found] == [("Hi", "<p>Hallo"), ("Hi", "<p>Hello")]


BOTH = {"body.de.txt": "Hallo", "body.en.txt": "Hello"}


@pytest.mark.parametrize(
    ("lang", "message", "hint"),
    [
        ("fr", 'message.text has no variant "body.fr.txt"', "variants: de, en"),
        ("DE", 'message.text has no variant "body.DE.txt"', "did you mean `de`? variants: de, en"),
        (
            "de_AT",
            'message.text has no variant "body.de_AT.txt"',
            "did you mean `de`? variants: de, en",
        ),
        (
            "German",
            'message.text has no variant "body.German.txt"',
            "did you mean `de`? variants: de, en",
        ),
        (
            "Deutsch",
            'message.text has no variant "body.Deutsch.txt"',
            "did you mean `de`? variants: de, en",
        ),
        ("", "`lang` is empty: no variant of message.text", "or write body.{{ lang or 'en' }}.txt"),
    ],
)
def test_a_variant_that_is_missing_is_an_error_of_its_row(make, lang, message, hint):
    """It names what there is, and what was probably meant; no other language is taken instead."""
    error = refused(make(BOTH, "body.{{ lang }}.txt"), lang)
    assert error.message == message
    assert error.hint.endswith(hint)
    assert error.place.cell == "column Language"


@pytest.mark.parametrize(
    "value",
    [
        "../outside",
        "en/../de",
        "./de",
        "de/",
        "*",
        "d?",
        "[d]e",
        "de\0",
        "{{ tier }}",
        ".hidden",
        "/etc/passwd",
        "people",
        "C:\\de",
        "ｄｅ",
    ],
)
@pytest.mark.parametrize(
    "pattern", ["{{ lang }}", "{{ lang }}.txt", "{{ lang }}/body.txt", "sub/{{ lang }}.txt"]
)
def test_a_cell_leads_to_no_other_file(make, tmp_path, value, pattern):
    """Whatever it says is only compared with the names that were found: hidden files and lists are not."""
    (tmp_path.parent / "outside.txt").write_text("SECRET")
    files = {
        "de": "Hallo",
        "de.txt": "Hallo",
        "sub/de.txt": "Hallo",
        "d/body.txt": "Hallo",
        ".hidden": "SECRET",
        ".hidden.txt": "SECRET",
        "sub/.hidden.txt": "SECRET",
        "people": "SECRET",
        "people.txt": "SECRET",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    own = PrivateFiles({str(tmp_path / name): "the list" for name in ("people", "people.txt")})
    renderer = make({}, pattern, own=own)
    assert "SECRET" not in "".join(renderer.sources.texts.values())
    refused(renderer, value)


def test_a_link_that_leads_out_of_the_folder_is_refused(make, tmp_path):
    """A folder may come from anybody; a link within it is a file like any other."""
    outside = tmp_path.parent / "private.txt"
    outside.write_text("SECRET")
    (tmp_path / "body.fr.txt").symlink_to(outside)
    with pytest.raises(TemplateError, match="leads out of the folder") as caught:
        make(BOTH, "body.{{ lang }}.txt")
    assert caught.value.code == "T151"
    (tmp_path / "body.fr.txt").unlink()
    (tmp_path / "body.fr.txt").symlink_to("body.de.txt")
    assert joined(make({}, "body.{{ lang }}.txt").render(row("fr")).text) == "Hallo"


def test_all_variants_are_checked_before_the_first_row(make):
    """A mistake in a language that no row has is found, too, with its own file and line."""
    with pytest.raises(TemplateError) as caught:
        make(
            {"body.de.md": "Hallo", "body.fr.md": "Bonjour\n{{ nam }}", "body.it.md": "{{ email|bold }}"},
            "body.{{ lang }}.md",
            "body.{{ lang }}.md",
        )
    places = [(one.code, one.place) for one in caught.value.diagnostics]
    found = {(code, str(place.path).rpartition("/")[2], place.line) for code, place in places if place}
    assert found == {("T102", "body.fr.md", 2), ("T101", "body.it.md", 1)}


@pytest.mark.parametrize(
    ("pattern", "code", "message"),
    [
        ("letter.{{ lang }}.txt", "T151", "no file matches"),
        ("{% if lang %}body.de.txt{% else %}body.en.txt{% endif %}", "T151", "no file matches"),
        ("body.{{ lnag }}.txt", "T102", "unknown name `lnag`"),
        ("body.{{ lang|nofilter }}.txt", "T101", "nofilter"),
    ],
)
def test_a_pattern_that_is_wrong_is_told(make, pattern, code, message):
    """No file, an unknown column: an error of the campaign."""
    with pytest.raises(TemplateError) as caught:
        make(BOTH, pattern)
    [problem] = [one for one in caught.value.diagnostics if message in one.message]
    assert problem.code == code


def test_too_many_variants_are_refused(make):
    """Each is compiled; a folder full of other texts is not a set of variants."""
    with pytest.raises(TemplateError, match="more than 200 variants") as caught:
        make({f"t{number}.txt": "x" for number in range(201)}, "t{{ lang }}.txt")
    assert caught.value.code == "T151"


def test_both_parts_are_the_same_variant(make, tmp_path):
    """Where only one of them is there, and where they would differ, the row is not sent."""
    files = {
        "a.de.txt": "Hallo",
        "a.en.txt": "Hello",
        "a.it.txt": "Ciao",
        "b.de.html": "<p>Hallo",
        "b.en.html": "<p>Hello",
    }
    renderer = make(files, "a.{{ lang }}.txt", "b.{{ lang }}.html")
    assert refused(renderer, "it").message == 'message.html has no variant "b.it.html"'
    with pytest.raises(TemplateError, match="unknown name `nn`"):  # no row can have it, and it is checked
        make({"a.it.txt": "Ciao {{ nn }}"}, "a.{{ lang }}.txt", "b.{{ lang }}.html")
    (tmp_path / "a.it.txt").unlink()
    different = make({}, "a.{{ lang }}.txt", "b.{{ tier }}.html")
    assert joined(different.render(row("de", "en")).html) == "<p>Hello"  # they were asked for


def test_several_tags_and_expressions(make):
    """Filters, choices and constants around them; the names must be there."""
    renderer = make(
        {"m-de-gold.txt": "Gold", "m-en-basic.txt": "Basic"},
        "m-{{ lang|lower }}-{{ 'gold' if tier == 'gold' else 'basic' }}.txt",
    )
    assert joined(renderer.render(row("DE")).text) == "Gold"
    assert joined(renderer.render(row("en", "silver")).text) == "Basic"
    assert (
        refused(renderer, "en").hint
        == "did you mean `m-de-gold.txt`? variants: m-de-gold.txt, m-en-basic.txt"
    )
    assert renderer.used_names >= {"lang", "tier"}


def test_the_content_version_knows_every_variant(make, tmp_path):
    """Another text, a new file: other content; another folder: the same."""
    first = make(BOTH, "body.{{ lang }}.txt").sources_digest
    more = make({"body.fr.txt": "Bonjour"}, "body.{{ lang }}.txt").sources_digest
    changed = make({"body.fr.txt": "Salut"}, "body.{{ lang }}.txt").sources_digest
    assert len({first, more, changed}) == 3
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    assert make(BOTH, "body.{{ lang }}.txt").sources_digest == first


def test_what_surrounds_a_pattern(tmp_path):
    """The folder of the files is fixed, whatever is in the tags."""
    assert fixed_folder(tmp_path / "body.{{ lang }}.md") == tmp_path
    assert fixed_folder(tmp_path / "{{ lang }}" / "body.md") == tmp_path
    assert fixed_folder(tmp_path / "texts" / "{{ a/b }}.md") == tmp_path / "texts"
    assert fixed_folder(tmp_path / "body.md") == tmp_path
