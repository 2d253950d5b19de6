"""DMO: one loss curve a domain, fitted on perturbation runs and read off at the target's size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.columns import read_numbers
from analysis.estimators.effects import Effects
from analysis.policies.cohorts import CohortRuns, list_cohorts, read_cohort, read_cohort_outcomes
from analysis.policies.dmo_curves import BASE_AMOUNT, fit_curve, optimise_shares
from analysis.policies.plain import fit_to_box
from analysis.policies.proposal import Proposal
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig
from causalmix.errors import AnalysisError, name_some, nearest_name

Floats = NDArray[np.float64]

COHORT = "perturbation"
LOSS_COLUMN = "validation.loss"  # total validation loss, where a table has it
UNITS = ("tokens", "documents")
_SAME = 0.02  # relative: amounts closer than this are one level; counts of documents are rounded

_FROM_SCORES = (
    "The table has no column validation.loss: the loss is the mean of -log2(outcome / 100), the bits per byte of "
    "outcomes that are 100 * 2^-bits."
)


@dataclass(frozen=True)
class Perturbations:
    """Runs that change the data of one domain at a time.

    Attributes
    ----------
    amounts : ndarray (m, K)
        Data of each domain, in the unit asked for.
    losses : ndarray (m,)
    base : ndarray (K,)
        The calibration point: what a domain has in the runs that perturb another.
    per_document : ndarray (K,)
        What one document of each domain counts: its tokens, or 1.
    """

    amounts: Floats
    losses: Floats
    base: Floats
    per_document: Floats


def propose_dmo(effects: Effects, roles: Roles, target: Target, cfg: PolicyConfig) -> Proposal:
    """Answer with the shares that minimise the summed curves at the target's size.

    Reads the complete runs of cohort ``perturbation``. A domain's documents are its realised share times
    ``train.n_samples``; with ``policy.unit=tokens`` they count by their domain's tokens a document (least squares of
    ``train.n_tokens`` on the documents: where all domains' documents are equally long, realised share times
    ``train.n_tokens``). The shares found are turned back into shares of documents.

    Raises
    ------
    AnalysisError
        No such runs, columns that are missing, runs that change several domains, too few amounts of one,
        outcomes outside (0, 100] where they stand in for the loss, a loss that does not fall.
    """
    if cfg.unit not in UNITS:
        raise AnalysisError(f"policy.unit={cfg.unit}{nearest_name(cfg.unit, UNITS)}; allowed: {', '.join(UNITS)}.")
    runs = read_cohort(roles, COHORT)
    if runs is None:
        raise AnalysisError(
            f"dmo: the table has no complete run of cohort={COHORT} (other cohorts: {list_cohorts(roles) or 'none'}). "
            "It reads 4K + 1 runs that change one domain's data at a time: "
            "`python launch.py -m mixture=perturbation cohort=perturbation ...`."
        )
    losses, notes = _read_losses(runs, roles)
    perturbations = _read_perturbations(runs, losses, roles.domains, cfg.unit)
    scale = float(perturbations.base.mean()) / BASE_AMOUNT
    levels = [_read_levels(perturbations, k, roles.domains) for k in range(len(roles.domains))]
    curves = [
        fit_curve(own / scale, loss, float(np.delete(perturbations.base, k).sum()) / scale, roles.domains[k])
        for k, (own, loss) in enumerate(levels)
    ]
    if target.n_samples is None:
        notes.append("target.n_samples is not known: the curves are read at the size of the perturbation runs.")
        total = float(perturbations.base.sum())
    else:
        total = target.n_samples * float(target.reference @ perturbations.per_document)
    documents = optimise_shares(curves, total / scale) / perturbations.per_document
    proposal = fit_to_box(np.asarray(documents / documents.sum()), target)
    exponents = ", ".join(f"{name} {curve.b:.4f}" for name, curve in zip(roles.domains, curves))
    notes.append(
        f"{len(runs.run_ids)} perturbation runs, read at {total / perturbations.base.sum():.3g} times their "
        f"{cfg.unit}; exponents: {exponents}. The fitted runs and the pool's state are not used."
    )
    return Proposal(proposal.weights, notes=(*notes, *proposal.notes))


def _read_losses(runs: CohortRuns, roles: Roles) -> tuple[Floats, list[str]]:
    if LOSS_COLUMN in runs.frame:
        return read_numbers(runs.frame, [LOSS_COLUMN], runs.run_ids, "losses")[:, 0], []
    outcomes = read_cohort_outcomes(runs, roles)
    outside = (outcomes <= 0) | (outcomes > 100)
    if outside.any():
        names = [f"outcome.{roles.outcome_names[j]}" for j in np.flatnonzero(outside.any(axis=0))]
        raise AnalysisError(
            f"dmo: the loss is read as -log2(outcome / 100), so outcomes lie above 0 and at most at 100; "
            f"{name_some(names)} do not in {name_some(runs.run_ids[i] for i in np.flatnonzero(outside.any(axis=1)))}. "
            f"Give the total validation loss in the column {LOSS_COLUMN}, or leave dmo out."
        )
    return -np.log2(outcomes / 100.0) @ roles.outcome_weights, [_FROM_SCORES]


def _read_perturbations(runs: CohortRuns, losses: Floats, domains: tuple[str, ...], unit: str) -> Perturbations:
    shares = [f"realised.{name}" for name in domains]
    if not all(name in runs.frame for name in shares):
        shares = [f"mixture.{name}" for name in domains]
    sizes = ["train.n_samples", *(["train.n_tokens"] if unit == "tokens" else [])]
    missing = [name for name in sizes if name not in runs.frame]
    if missing:
        hint = "; policy.unit=documents needs no tokens" if missing == ["train.n_tokens"] else ""
        raise AnalysisError(f"dmo: the table lacks {name_some(missing)} of its perturbation runs{hint}.")
    counts = read_numbers(runs.frame, sizes, runs.run_ids, "sizes of the perturbation runs")
    documents = read_numbers(runs.frame, shares, runs.run_ids, "realised shares") * counts[:, :1]
    per_document = np.ones(len(domains))
    if unit == "tokens":
        per_document = _count_tokens(documents, counts[:, 1], domains)
    base = np.median(documents, axis=0)
    empty = [name for name, n in zip(domains, base) if n <= 0]
    if empty:
        raise AnalysisError(f"dmo: {name_some(empty)} has no document in most perturbation runs: no power law.")
    strays = (np.abs(documents / base - 1.0) > _SAME).sum(axis=1) > 1
    if strays.any():
        named = name_some(runs.run_ids[i] for i in np.flatnonzero(strays))
        raise AnalysisError(
            f"dmo: {named} change the documents of more than one domain against the median run; a perturbation run "
            "changes one and keeps the others' documents as they are (its total moves). Take them out of the cohort."
        )
    return Perturbations(documents * per_document, losses, base * per_document, per_document)


def _count_tokens(documents: Floats, tokens: Floats, domains: tuple[str, ...]) -> Floats:
    """Return the mean tokens of a document of each domain (K,): non-negative least squares over the runs."""
    from scipy.optimize import nnls

    per_document = nnls(documents, tokens)[0]
    if np.any(per_document <= 0):
        named = name_some(name for name, n in zip(domains, per_document) if n <= 0)
        raise AnalysisError(
            f"dmo: the tokens a document of {named} cannot be told from train.n_tokens of the perturbation runs; "
            "take policy.unit=documents."
        )
    return np.asarray(per_document)


def _read_levels(runs: Perturbations, k: int, domains: tuple[str, ...]) -> tuple[Floats, Floats]:
    """Return domain k's amounts, ascending, and the mean loss at each; runs at one amount are averaged."""
    ratios = runs.amounts / runs.base
    others_kept = np.all(np.abs(np.delete(ratios, k, axis=1) - 1.0) <= _SAME, axis=1)
    order = np.argsort(ratios[:, k], kind="stable")
    rows = order[others_kept[order]]
    jumps = np.diff(ratios[rows, k]) > _SAME * ratios[rows, k][:-1]
    groups = np.split(rows, np.flatnonzero(jumps) + 1)
    own = np.array([runs.amounts[group, k].mean() for group in groups])
    return own, np.array([runs.losses[group].mean() for group in groups])
