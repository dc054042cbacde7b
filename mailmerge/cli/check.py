"""``mailmerge check``: render every row, list every problem; no socket is opened unless asked for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from mailmerge.check.diagnostics import DiagnosticCollector, concise, found, github, sarif
from mailmerge.cli.options import campaign_argument, load_campaign, options_of
from mailmerge.cli.output import diagnostic_values, emit, interactive, note, out, show_problems
from mailmerge.cli.plan_view import (
    left_out,
    listed,
    not_rows,
    opt_outs,
    opt_outs_values,
    planned,
    show_facts,
    show_understanding,
)
from mailmerge.cli.progress import PlanningTime
from mailmerge.errors import InputError
from mailmerge.model import Severity
from mailmerge.text import attachments, plural
from mailmerge.version import program_version

if TYPE_CHECKING:
    from pathlib import Path

    from mailmerge.campaign import Campaign
    from mailmerge.campaign.check import OnlineChecks
    from mailmerge.campaign.plan import Plan
    from mailmerge.options import OutputFormat


@click.command("check")
@campaign_argument
@options_of("check")
def check(*, output_format: OutputFormat, as_json: bool, quiet: bool, verbose: bool, **options: Any) -> int:
    """Check every row and list all problems; nothing is sent.

    CAMPAIGN is a folder with campaign.toml, or such a file; default: this folder. With --list no campaign
    file is needed. Files for a single row are read: one that names another row is a problem (A320). With
    --quiet it prints nothing if it finds nothing. Nothing is contacted without --dns, --links or --smtp.
    `mailmerge explain CODE` explains a problem.

    \b
    Examples:
      mailmerge check spring
      mailmerge check spring --where "plan == 'gold'" --output-format concise
    """  # noqa: D301  click's own mark
    started = time.monotonic()
    form: OutputFormat = "json" if as_json else output_format
    online, try_smtp = _online(options), options.pop("try_smtp")
    ca_file, jobs = options.pop("accounts_ca_file"), options.pop("jobs")
    try:
        campaign = load_campaign(options)
        time_told = PlanningTime(quiet=quiet or form != "full")
        plan = campaign.check(online=online, jobs=jobs, progress=time_told)
    except InputError as error:
        if form == "full":
            raise
        problems = DiagnosticCollector()
        problems.add(error.diagnostics)
        _show(problems, form)
        return error.exit_code
    problems = plan.problems
    _show(problems, form)
    silent = quiet and not list(problems)
    if form == "json" and not silent:
        _emit_plan(plan)
    elif form in {"full", "concise"} and not silent:
        if not quiet:
            _show_plan(plan, verbose=verbose)
        passed = time.monotonic() - started
        if not quiet and not problems.count(Severity.ERROR) and plan.ready and not plan.before:
            for line in _next_steps(campaign).splitlines():
                note(line)
        out(f"Found {found(problems)} in {plural(plan.rows, 'row')} ({passed:.1f} s). Nothing was sent.")
    code = _exit_code(problems)
    return (_sign_in(campaign, ca_file, quiet=quiet) or code) if try_smtp else code


def _show_plan(plan: Plan, *, verbose: bool) -> None:
    """Show what the plan was made from, and how much of it can be sent."""
    note(f"{plan.source}: {plan.understanding}")
    if verbose:
        show_understanding(plan)
    note(planned(plan))
    for line in opt_outs(plan):
        note(line.strip())
    if verbose:
        show_facts(plan)
    out(_ready(plan))
    for notice in plan.notices:
        out(notice)
    if plan.files:
        out(f"Files: {attachments(plan.files)}")


def _exit_code(problems: DiagnosticCollector) -> int:
    if any(group.first.code == "X901" for group in problems):  # a bug of ours
        return 1
    return 2 if problems.campaign_errors else 3 if problems.count(Severity.ERROR) else 0


def _online(options: dict[str, Any]) -> OnlineChecks | None:
    """Take the options of online checks out of *options*."""
    ask_dns, try_links = options.pop("ask_dns"), options.pop("try_links")
    if not (ask_dns or try_links):
        return None
    from mailmerge.campaign.check import OnlineChecks
    from mailmerge.check.online import LinkCheck, system_lookup

    note("asking " + " and ".join(["the DNS"] * ask_dns + ["the links' servers"] * try_links) + " ...")
    return OnlineChecks(lookup=system_lookup() if ask_dns else None, links=LinkCheck() if try_links else None)


def _show(problems: DiagnosticCollector, form: OutputFormat) -> None:
    if form == "full":
        show_problems(problems, err=False, most=25)
    elif form == "json":
        for group in problems:
            emit("problem", **diagnostic_values(group))
    elif form == "sarif":
        click.echo(sarif(problems, program_version()))
    else:
        for line in concise(problems) if form == "concise" else github(problems):
            out(line)


def _emit_plan(plan: Plan) -> None:
    emit(
        "check",
        rows=plan.rows,
        sharing=plan.sharing,
        statuses=plan.counts.by_status,
        ready=plan.ready,
        blank_rows=plan.understanding.blank,
        notices=list(plan.notices),
        files={str(count): messages for count, messages in plan.files.items()},
        opt_outs=opt_outs_values(plan),
    )


def _sign_in(campaign: Campaign, ca_file: Path | None, *, quiet: bool) -> int:
    """Try the account, showing each step; return the exit code, 0 if all is well."""
    from mailmerge.campaign.check import try_sign_in
    from mailmerge.campaign.connect import find_account
    from mailmerge.cli.output import show_diagnostics
    from mailmerge.cli.send import ask_secret

    account = find_account(campaign.definition, ca_file=ca_file)
    tried = try_sign_in(campaign.definition, account, prompt=ask_secret if interactive() else None)
    for step in () if quiet and tried.error is None else tried.steps:
        note(f"  {step}")
    if tried.error is None:
        if not quiet:
            note(f"{account.host} is ready. Nothing was sent.")
        return 0
    show_diagnostics(tried.error.diagnostics)
    return tried.error.exit_code


def _next_steps(campaign: Campaign) -> str:
    """Return what to do before a first run: look, send one to yourself, then a few."""
    steps = (("preview",), ("test", "--to", "YOU"), ("send", "--limit", "5"), ("send",))
    return "Next: " + "\n      ".join(str(campaign.suggested(*step)) for step in steps)


def _ready(plan: Plan) -> str:
    found = left_out(plan)
    without = f" ({found})" if found else ""
    return f"{plan.ready:,} of {listed(plan)} can be sent{without}{not_rows(plan)}."
