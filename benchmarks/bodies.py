"""What Markdown, MJML and moved styles cost a row: nothing, because they are worked on once per template.

A row is rendered, frozen and looked at by the lint, as planning does it, in one process and in turns: from
what an author writes, and from plain HTML and text that say the same (of a newsletter: with its styles where
they were).
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fixtures
import measure

if TYPE_CHECKING:
    from collections.abc import Callable

    from setting import Setting
    from table import Results

HERE = Path(__file__).parent
MARKDOWN = """# Grüß Gott, {{ first_name }} {{ last_name }}!

You have **{{ points }}** points, and your membership renews on {{ renewal }}.

{% if items %}
| Product | Qty | Price |
|---|---:|---:|
{% for it in items.split(';') %}
{% set f = it.split('|') %}
| {{ f[0] }} | {{ f[1] }} | EUR {{ f[2] }} |
{% endfor %}
{% endif %}

{% for a in articles %}
## {{ a.title }}

{{ a.body }} [Read on]({{ a.url }}?u={{ token }})

{% endfor %}
"""
MJML = """<mjml><mj-body><mj-section><mj-column>
<mj-text>Grüß Gott, {{ first_name }} {{ last_name }}! You have <b>{{ points }}</b> points.</mj-text>
</mj-column></mj-section>
{% for a in articles %}
<mj-section><mj-column><mj-text><h2>{{ a.title }}</h2>{{ a.body }}</mj-text>
<mj-button href="{{ a.url }}?u={{ token }}">Read on</mj-button></mj-column></mj-section>
{% endfor %}
</mj-body></mjml>
"""
WANTED = 1.05


def measure_bodies(setting: Setting, results: Results) -> None:
    """Fill in how long a row takes from what an author writes, in the time that plain HTML takes."""
    timed = measure.run_json([setting.python, HERE / "bodies.py", setting.build_seconds])
    for what, (microseconds, ratio) in timed.items():
        results.put("a row planned from it, us of processor time", what, "ours", microseconds)
        results.at_most(f"a row planned from {what} / from plain HTML", ratio, WANTED)


def _time(seconds: float) -> dict[str, list[float]]:
    """Take turns between each kind of body and the templates that it is made into."""
    found = {}
    newsletter = str(fixtures.mailing("plain").html_with(""))
    # A tag between attributes would let styles be moved row by row.
    newsletter = newsletter.replace(
        """{% if loop.last %} style="border-bottom:2px solid #2d1b12"{% endif %}""", ""
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for what, suffix, source, options in (
            ("Markdown in a layout", "md", MARKDOWN, {"layout": "letter"}),
            ("MJML", "mjml", MJML, {}),
            ("a newsletter with moved styles", "html", newsletter, {"inline_css": True}),
        ):
            written = folder / f"body.{suffix}"
            written.write_text(source, "utf-8")
            ours, made = _planner(folder, {"html": str(written), **options})
            for part, text in made.items():
                (folder / f"made.{part}").write_text(text, "utf-8")
            if suffix == "html":  # its styles where they were
                (folder / "made.html").write_text(source, "utf-8")
            plain, _ = _planner(folder, {"text": str(folder / "made.txt"), "html": str(folder / "made.html")})
            contenders = {"plain": plain, what: ours}
            timings = measure.take_turns(contenders, fixtures.rows(1_000_000), seconds=seconds)
            found[what] = [timings[what].microseconds, timings[what].ratio]
    return found


def _planner(folder: Path, options: dict[str, Any]) -> tuple[Callable[[Any], object], dict[str, str]]:
    """Return what plans a row, and the templates of text and HTML that the bodies were made into."""
    from mailmerge.config import campaign_file
    from mailmerge.model import Columns, Recipient
    from mailmerge.plan.composer import Composer, recipe

    mailing = fixtures.mailing("plain")
    values = {
        "data.source": "people.csv",
        "message.from": f"{fixtures.SENDER_NAME} <{fixtures.SENDER}>",
        "message.to": "{{ name }} <{{ email }}>",
        "message.subject": mailing.subject,
        "vars": {key: value for key, value in mailing.variables.items() if not isinstance(value, list)},
        **{f"message.{key}": value for key, value in options.items()},
    }
    file = campaign_file.from_options(folder, values)
    made = recipe(file)
    names = (*next(fixtures.rows(1)), "articles")
    columns = Columns(names, names)
    composer = Composer(made, columns)
    lint = composer.lint()
    articles = mailing.variables["articles"]

    def plan(row: Any) -> object:
        rendered = composer.render(Recipient(2, columns, (*row.values(), articles)))
        return lint.look(rendered, composer.freeze(rendered))

    texts = {name: template.text for name, template in composer.renderer.sources.made.items()}
    parts = {"txt": "(text)", "html": "(HTML)"}
    return plan, {
        part: text for name, text in texts.items() for part, end in parts.items() if name.endswith(end)
    }


if __name__ == "__main__":
    print(json.dumps(_time(float(sys.argv[1]))))
