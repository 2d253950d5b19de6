"""A Markdown page of what a study measured; every figure comes from the result."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from causalmix.study.loop import StudyResult
from causalmix.study.tables import (
    describe_seconds,
    describe_spread,
    describe_twins,
    describe_verdicts,
    list_confirmation,
    list_mixtures,
)
from causalmix.table.layout import to_markdown


def write_page(result: StudyResult, plain: dict[str, Any], arguments: Sequence[str]) -> str:
    """Write the page as text.

    Parameters
    ----------
    result : StudyResult
        What was measured.
    plain : dict
        The study's config.
    arguments : sequence of str
        The command line's overrides, to be shown; folders of the machine are not.
    """
    study = plain["study"]
    withheld = [arm for arm, mixture in result.mixtures.items() if mixture["advice"] == "withheld"]
    said = f"Here it was withheld for: {', '.join(withheld)}." if withheld else "Here it was given every time."
    lines = [
        f"# Study: {result.name}",
        "",
        *([study["about"].strip(), ""] if study["about"] else []),
        "Every figure below was written by the command that measured it:",
        "",
        "<!-- parsed: it trains the study -->",
        "```bash",
        spell_command(arguments),
        "```",
        "",
        f"{result.n_runs['proxies']} proxies of {plain['train']['n_samples']} documents (`{plain['model']['name']}`), "
        f"{result.n_runs['anchors']} anchor runs, {result.n_runs['confirmation']} confirmation runs on "
        f"`{(study['confirm_model'] or plain['model'])['name']}`, {study['n_seeds']} seeds each; estimator "
        f"`{plain['estimator']['name']}` on the state by {plain['estimator']['state']}.",
        "",
        describe_spread(result),
        "",
        "## Mixtures",
        "",
        *to_markdown(list_mixtures(result)),
        "",
        "Advice is withheld where the lower bound of the predicted gain over the reference is not above zero, or "
        f"where a check stands against it; the policy's own answer is trained all the same. {said}",
        "",
        "## Confirmation",
        "",
        "Means over seeds with standard errors; differences are paired over seeds.",
        "",
        *to_markdown(list_confirmation(result)),
        "",
        "## Predicted and measured",
        "",
        *(f"- {sentence}" for sentence in [*describe_verdicts(result), *describe_twins(result)]),
        "",
        describe_seconds(result),
        "",
    ]
    return "\n".join(lines)


def spell_command(arguments: Sequence[str]) -> str:
    """Spell the command that was run, without the folders of the machine that ran it."""
    words = ["python", "launch.py"]
    for argument in arguments:
        key = argument.partition("=")[0]
        if key in ("outputs", "sweep_dir"):
            continue
        words.append("pool.path=FOLDER" if key == "pool.path" else argument)
    return shlex.join(words)
