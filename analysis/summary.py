"""The answer on a terminal: a few lines and one table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.answer import Interval
from analysis.checks.check import PASSED, SKIPPED
from analysis.result import GIVEN, Analysis


def print_answer(analysis: Analysis, paths: Mapping[str, Path], console: Console) -> None:
    """Print the mixture beside the baselines, the checks that did not pass, and where everything stands."""
    for check in analysis.checks:
        if check.code in analysis.overruled:
            said = f"ALLOWED ALTHOUGH IT FAILED: {check.code} {check.title}. {check.message}"
            console.print(escape(said), style="bold red", highlight=False)
    console.print(
        f"{analysis.n_runs} runs, estimator {analysis.estimator.name}, policy {analysis.policy.name}",
        highlight=False,
    )
    console.print(tabulate_mixtures(analysis))
    colour = "green" if analysis.advice == GIVEN else "yellow"
    console.print(f"[{colour}]advice {analysis.advice}[/{colour}]: {escape(analysis.reason)}", highlight=False)
    for check in analysis.checks:
        if check.status not in (PASSED, SKIPPED):
            said = f"{check.code} {check.status}: {check.message} {check.action}"
            console.print(escape(said), style="yellow", highlight=False)
    for note in analysis.notes:
        console.print(escape(note), style="dim", highlight=False)
    for name, path in paths.items():
        console.print(f"{name}: {path}", highlight=False, soft_wrap=True)


def tabulate_mixtures(analysis: Analysis) -> Table:
    """Return one row a domain: its effect, and its share in every mixture; the gains below."""
    table = Table(show_footer=True)
    half = f"{analysis.confidence:.0%}"
    gains = "gain over reference"
    table.add_column("domain", footer=f"{gains}\n({half} interval)")
    table.add_column("effect", justify="right")
    table.add_column("reference", justify="right", footer="0")
    answers = [analysis.candidate, *analysis.baselines]
    for answer in answers:
        table.add_column(answer.name, justify="right", footer=_spell(answer.gain))
    for k, domain in enumerate(analysis.domains):
        effect = analysis.theta[k]
        table.add_row(
            escape(domain),
            f"{effect.estimate:+.2f} [{effect.low:+.2f}, {effect.high:+.2f}]".replace("[", r"\["),
            f"{analysis.target.reference[k]:.3f}",
            *(f"{answer.weights[k]:.3f}" for answer in answers),
        )
    return table


def _spell(gain: Interval) -> str:
    return f"{gain.estimate:+.2f}\n\\[{gain.low:+.2f}, {gain.high:+.2f}]"
