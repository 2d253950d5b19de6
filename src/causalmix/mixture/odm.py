"""Online data mixing: a bandit over domains moves the weights while one model trains.

After Albalak, Pan, Raffel and Wang, "Efficient Online Data Mixing For Language Model Pre-Training"
(arXiv 2312.02406, 2023). A step draws domains from the weights, and a domain's loss on the rows drawn is its
reward: what is learned worst is drawn more. With K domains, step t from 1 and exploration rates
``e_t = min(1/K, sqrt(ln K / (K t)))``, ``e_0 = 1/K``, domain i has the weight

    pi_t(i) = (1 - K e_t) s_t(i) + e_t

so that the first steps (up to K ln K) are uniform and none is ever forgotten. The score s and the estimate R of a
domain's reward, m the memory, are the rule's:

- ``average``: the paper's. R_i <- m R_i + (1 - m) loss_i / pi_t(i) where i was drawn; s prop. to exp(e_{t-1} R).
- ``sum``: EXP3 (Auer et al. 2002), whose regret is bounded. R_i <- R_i + share of the rows * loss_i / (10 pi_t(i));
  s prop. to exp(e_{t-1} R). The authors' code has it beside the others; its ten keeps a loss in nats below one.
- ``perplexity``: what the authors' published code calls the paper's method. R_i <- m R_i + (1 - m) exp(loss_i) where
  i was drawn; s prop. to R.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalmix.errors import MixtureError, nearest_name

Floats = NDArray[np.float64]

RULES = ("average", "sum", "perplexity")
LOSS_SCALE = 10.0  # nats: brings a loss into [0, 1] for EXP3
LOSS_MOST = 50.0  # nats: keeps a perplexity finite


@dataclass
class Bandit:
    """Weights of K domains, and what they have learned from losses.

    Parameters
    ----------
    n_domains : int
    rule : str
        One of ``RULES``.
    memory : float
        m, in [0, 1); not read by ``sum``.

    Attributes
    ----------
    n_updates : int
        Steps behind, t - 1.
    reward : ndarray (K,)
        R.

    Raises
    ------
    MixtureError
        An unknown rule or a memory out of range.
    """

    n_domains: int
    rule: str = "average"
    memory: float = 0.9
    n_updates: int = 0
    reward: Floats = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        check_bandit(self.rule, self.memory)
        if not len(self.reward):
            self.reward = np.zeros(self.n_domains)

    def weigh(self, allowed: NDArray[np.bool_] | None = None) -> Floats:
        """Return the weights of the next step (K,), summing to one.

        Parameters
        ----------
        allowed : ndarray of bool (K,), optional
            Domains that still have documents, at least one; the others get 0, and K is the number of these.
        """
        allowed = np.ones(self.n_domains, dtype=np.bool_) if allowed is None else allowed
        K = int(allowed.sum())
        before, now = (explore(K, t) for t in (self.n_updates, self.n_updates + 1))
        reward = self.reward[allowed]
        if self.rule == "perplexity":
            score = reward if reward.sum() > 0 else np.ones(K)
        else:
            score = np.exp(before * (reward - reward.max()))
        weights: Floats = np.zeros(self.n_domains)
        weights[allowed] = (1 - K * now) * score / score.sum() + now
        weights /= weights.sum()
        return weights

    def update(self, weights: Floats, n_rows: NDArray[np.int64], losses: Floats) -> None:
        """Learn from one step.

        Parameters
        ----------
        weights : ndarray (K,)
            What the step's rows were drawn with.
        n_rows : ndarray of int64 (K,)
            Rows drawn of each domain.
        losses : ndarray (K,)
            Mean loss of each domain's rows, nats a target token; not read where none was drawn.
        """
        drawn = np.flatnonzero(n_rows)
        for i in drawn.tolist():
            if self.rule == "sum":
                self.reward[i] += n_rows[i] / n_rows.sum() * losses[i] / (LOSS_SCALE * weights[i])
                continue
            value = math.exp(min(losses[i], LOSS_MOST)) if self.rule == "perplexity" else losses[i] / weights[i]
            self.reward[i] = self.memory * self.reward[i] + (1 - self.memory) * value
        self.n_updates += 1

    def state(self) -> dict[str, Any]:
        """Return what :meth:`restore` needs, as JSON values: floats come back bit by bit."""
        return {"n_updates": self.n_updates, "reward": self.reward.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state` was asked for."""
        self.n_updates = int(state["n_updates"])
        self.reward = np.array(state["reward"], dtype=np.float64)


def explore(n_domains: int, step: int) -> float:
    """Exploration rate e_t: the least weight of a domain at step t; 1/K at t = 0."""
    most = 1.0 / n_domains
    return most if step == 0 else min(most, math.sqrt(math.log(n_domains) / (n_domains * step)))


def check_bandit(rule: str, memory: float) -> None:
    """Refuse settings that no bandit has.

    Raises
    ------
    MixtureError
    """
    if rule not in RULES:
        raise MixtureError(f"mixture.odm_rule={rule}{nearest_name(rule, RULES)}; allowed: {', '.join(RULES)}.")
    if not 0 <= memory < 1:
        raise MixtureError(f"mixture.odm_memory={memory}: from 0 to below 1.")
