"""Choosing what to show of a runs table: which policy trained the better model, why, and how far the sweep is."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from causalmix.errors import TrackerError, name_some, nearest_name
from causalmix.table.layout import to_markdown
from causalmix.table.paired import Estimate, estimate_mean, find_groups
from causalmix.table.runs import RunsTable
from causalmix.track.dashboard.spec import DashboardSpec, PanelSpec, SectionSpec

SCORE = "outcome.avg_dev"
UNSEEN = "unseen.avg"
ARMS = ("design.arm.name", "design.name")


@dataclass(frozen=True)
class Choice:
    """What the user chose.

    Attributes
    ----------
    entity, project : str
        The runs' W&B project.
    arm : str or None
        Column that tells the policies apart; None: the first of ``ARMS`` that every run has.
    reference : str
        Arm that the others are compared with.
    confidence : float
        Of the intervals.
    cohort : str or None
        Show these runs alone.
    title : str or None
    """

    entity: str
    project: str
    arm: str | None = None
    reference: str = "equal"
    confidence: float = 0.95
    cohort: str | None = None
    title: str | None = None


def design_dashboard(table: RunsTable, choice: Choice) -> DashboardSpec:
    """Choose the sections that a runs table can fill.

    Returns
    -------
    DashboardSpec
        Arms compared (where there are several), abilities, mixtures, outcome against shares and state, progress.

    Raises
    ------
    TrackerError
        No such column or cohort.
    """
    frame = _select(table.frame, choice)
    arm = _find_arm(frame, choice)
    arms = [str(name) for name in frame[arm].unique()]
    sections = [_compare_arms(frame, arm, choice), _show_abilities(table, arm), _show_mixtures(table, arm)]
    if len(arms) < 2:
        sections = []
    sections += [_show_shares(table), _show_state(table), _show_progress(arm)]
    groups = sorted(map(str, frame["sweep_id"].dropna().unique())) if "sweep_id" in frame else []
    return DashboardSpec(
        title=choice.title or f"CausalMix: {', '.join(groups) or choice.project}"[:128],
        entity=choice.entity,
        project=choice.project,
        about=f"{len(frame)} complete runs, {len(arms)} arms; runs table {table.fingerprint}",
        groups=groups,
        cohorts=[choice.cohort] if choice.cohort else [],
        arm=arm,
        sections=[section for section in sections if section.panels],
    )


def _select(frame: pd.DataFrame, choice: Choice) -> pd.DataFrame:
    if choice.cohort is None:
        return frame
    there = sorted(map(str, frame["cohort"].unique())) if "cohort" in frame else []
    if choice.cohort not in there:
        raise TrackerError(f"--cohort {choice.cohort}: no complete run of it; there are {name_some(there) or 'none'}.")
    return frame[frame["cohort"] == choice.cohort]


def _find_arm(frame: pd.DataFrame, choice: Choice) -> str:
    if choice.arm is None:
        found = next((name for name in ARMS if name in frame and frame[name].notna().all()), None)
        if found is None:
            raise TrackerError(
                f"no column of {name_some(ARMS)} in every run: say with --arm what tells policies apart."
            )
        return found
    if choice.arm not in frame:
        near = nearest_name(choice.arm, map(str, frame.columns))
        raise TrackerError(f"--arm {choice.arm}: the runs table has no such column{near}.")
    return choice.arm


def _compare_arms(frame: pd.DataFrame, arm: str, choice: Choice) -> SectionSpec:
    scores = [name for name in (SCORE, UNSEEN) if name in frame]
    return SectionSpec(
        "Which policy trained the better model?",
        "\n".join(
            [
                f"Means over seeds with {choice.confidence:.0%} t intervals, and differences to {choice.reference} on "
                "the same seeds: what a seed does to every arm cancels, so these are the numbers to read. "
                "The whiskers of the bars are one standard error.",
                *_tabulate_groups(frame, arm, choice),
            ]
        ),
        [PanelSpec("bars", name, [name], by=arm, spread="stderr", width=24 // len(scores)) for name in scores],
    )


def _tabulate_groups(frame: pd.DataFrame, arm: str, choice: Choice) -> list[str]:
    """Tabulate the arms of each pool, model and size apart: other ones are other questions."""
    by = find_groups(frame, frame[arm].astype(str))
    if not by:
        return ["", *to_markdown(tabulate_arms(frame, arm, choice))]
    lines = [f"The bars take the runs of all of {', '.join(by)} together; the tables keep them apart."]
    for values, part in frame.groupby(list(by), dropna=False):
        title = ", ".join(f"{name} {value}" for name, value in zip(by, values))
        lines += ["", f"**{title}**", "", *to_markdown(tabulate_arms(part, arm, choice))]
    return lines


def tabulate_arms(frame: pd.DataFrame, arm: str, choice: Choice) -> list[list[str]]:
    """Compare the arms of a frame in rows of text, the best first, header before.

    Replicates of a seed count as one run, their mean. A difference is over the seeds that both arms have.
    """
    by = [arm, "seed"] if "seed" in frame else [arm, "run_id"]
    scores = frame.groupby(by, observed=True)[SCORE].mean()
    reference = scores.get(choice.reference) if choice.reference in scores.index.get_level_values(0) else None
    rows = []
    for name in scores.groupby(level=0).mean().sort_values(ascending=False).index:
        values = scores[name]
        difference = None
        if reference is not None and name != choice.reference:
            paired = (values - reference).dropna()
            difference = estimate_mean(paired, choice.confidence) if len(paired) else None
        rows.append([str(name), str(len(values)), _spell(estimate_mean(values, choice.confidence)), _spell(difference)])
    return [["arm", "seeds", "AvgDev", f"over {choice.reference}"], *rows]


def _spell(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    if estimate.low is None:
        return f"{estimate.mean:.2f}"
    star = " *" if estimate.excludes_zero else ""
    return f"{estimate.mean:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]{star}"


def _show_abilities(table: RunsTable, arm: str) -> SectionSpec:
    columns = [f"outcome.{name}" for name in table.abilities if f"outcome.{name}" in table.frame]
    panels = [PanelSpec("bars", name, [name], by=arm, spread="stderr", width=8) for name in columns]
    return SectionSpec("Abilities", "What each arm gains and what it pays for that.", panels)


def _show_mixtures(table: RunsTable, arm: str) -> SectionSpec:
    panels = [
        PanelSpec("bars", f"share of {domain}", [f"mixture.{domain}"], by=arm, spread="minmax", width=6)
        for domain in table.domains
    ]
    return SectionSpec("Mixtures", "Target shares of the arms; whiskers show the least and the largest.", panels)


def _show_shares(table: RunsTable) -> SectionSpec:
    text = "Each run by itself, with a line through all of them. What a share seems to do here is not its effect: "
    text += "shares sum to one, and what a domain is worth depends on the pool's state."
    panels = [PanelSpec("scatter", domain, [SCORE], x=f"mixture.{domain}", width=6) for domain in table.domains]
    everything = [*(f"mixture.{domain}" for domain in table.domains), SCORE]
    panels.append(PanelSpec("parallel", "mixtures and their outcome", everything, width=24))
    return SectionSpec("Outcome against shares", text, panels)


def _show_state(table: RunsTable) -> SectionSpec:
    columns = [f"state.{name}" for name in table.features if f"state.{name}" in table.frame]
    columns = columns or [str(name) for name in table.frame if str(name).startswith("state.")]
    panels = [PanelSpec("scatter", name, [SCORE], x=name, width=8) for name in columns]
    return SectionSpec(
        "Outcome against the pool's state", "The state was measured before the mixture was drawn.", panels
    )


def _show_progress(arm: str) -> SectionSpec:
    panels = [
        PanelSpec("number", "complete runs", [SCORE], width=6),
        PanelSpec("bars", "wall time of a run, s", ["wall_s"], by=arm, spread="minmax", width=6),
        PanelSpec("lines", "training loss", ["training/loss"], by=arm, spread="minmax", width=12),
    ]
    return SectionSpec("Progress", "Counts are of runs that W&B has; `causalmix status` counts the records.", panels)
