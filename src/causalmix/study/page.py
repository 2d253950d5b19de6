"""A Markdown page of what a study measured; every figure comes from the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from causalmix.study.loop import StudyResult
from causalmix.study.tables import describe_seconds, describe_spread, list_confirmation, list_mixtures


def write_page(result: StudyResult, plain: dict[str, Any]) -> str:
    """Write the page as text.

    Parameters
    ----------
    result : StudyResult
        What was measured.
    plain : dict
        The study's config.
    """
    mixtures = result.mixtures
    withheld = [arm for arm, mixture in mixtures.items() if mixture["advice"] == "withheld"]
    lines = [
        f"# Study: {result.name}",
        "",
        f"Written by `python launch.py experiment={result.name}`; no figure here was typed in.",
        "",
        f"{result.n_runs['proxies']} proxies of {plain['train']['n_samples']} documents, "
        f"{result.n_runs['anchors']} anchor runs, {result.n_runs['confirmation']} confirmation runs "
        f"on the model `{(plain['study']['confirm_model'] or plain['model'])['name']}`.",
        "",
        describe_spread(result),
        "",
        "## Mixtures",
        "",
        *tabulate(list_mixtures(result)),
        "",
        "Advice is withheld where the lower bound of the predicted gain over the reference is not above zero; "
        "the policy's own answer is trained all the same. "
        + (f"Here it was withheld for: {', '.join(withheld)}." if withheld else "Here it was given for every mixture."),
        "",
        "## Confirmation",
        "",
        "Means over seeds with standard errors, differences paired over seeds.",
        "",
        *tabulate(list_confirmation(result)),
        "",
        describe_seconds(result),
        "",
    ]
    return "\n".join(lines)


def tabulate(rows: Sequence[Sequence[str]]) -> list[str]:
    """Turn rows, header first, into the lines of a Markdown table."""
    header, *body = rows
    return [
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join(row) + " |" for row in body),
    ]
