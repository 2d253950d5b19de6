"""Grid: the best run of a lattice of mixtures."""

from __future__ import annotations

import numpy as np

from analysis.estimators.effects import Effects
from analysis.policies.cohorts import list_cohorts, read_cohort, read_cohort_outcomes
from analysis.policies.plain import fit_to_box
from analysis.policies.proposal import Proposal
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import PolicyConfig
from causalmix.errors import AnalysisError

GRID = "grid"


def propose_grid(effects: Effects, roles: Roles, target: Target, cfg: PolicyConfig) -> Proposal:
    """Answer with the mixture of the best run of a lattice design, by the outcome that is raised.

    The lattice is the cohort ``grid`` of the table, or else the fitted runs whose ``design.kind`` is grid.

    Raises
    ------
    AnalysisError
        Where the table has neither.
    """
    runs = read_cohort(roles, GRID)
    if runs is not None:
        run_ids, mixtures = runs.run_ids, runs.mixtures
        scores = read_cohort_outcomes(runs, roles) @ roles.outcome_weights
    else:
        rows = np.flatnonzero(np.array([kind == GRID for kind in roles.designs], dtype=bool))
        if not len(rows):
            raise AnalysisError(
                "grid: no run of a lattice: the table has no complete run of cohort=grid, and no fitted run with "
                f"design.kind=grid (other cohorts: {list_cohorts(roles) or 'none'}). Make them with "
                "`python launch.py -m mixture=grid cohort=grid ...`, or leave grid out."
            )
        run_ids, mixtures, scores = tuple(roles.run_ids[i] for i in rows), roles.mixtures[rows], roles.Y[rows]
    best = int(np.argmax(scores))
    proposal = fit_to_box(mixtures[best], target)
    note = f"The best of {len(run_ids)} lattice runs is {run_ids[best]} with {scores[best]:.3f} points."
    return Proposal(proposal.weights, notes=(note, *proposal.notes))
