"""A training that chooses its domains as it goes: ``mixture=odm``.

A packed row holds documents of one domain. A step draws its rows' domains from the bandit's weights, one by one;
each domain gives its next row. Within a domain documents are shuffled and packed pass after pass, so that none is
seen a second time before all were seen once. A domain that has given all its repeats leaves the bandit, and the
others go on.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalmix.config import TrainConfig
from causalmix.errors import TrainError, name_some
from causalmix.mixture.odm import Bandit
from causalmix.mixture.simplex import count_allowed
from causalmix.train.batches import plan_rows
from causalmix.train.ranks import Ranks
from causalmix.train.schedule import split_rows
from causalmix.train.steps import Step

logger = logging.getLogger(__name__)

STREAM = 4211  # keeps these draws apart from others of the same seed


@dataclass(frozen=True)
class Online:
    """What an online run may draw.

    Attributes
    ----------
    domains : tuple of str
    domain_ids : ndarray of integers, shape (documents of the store,)
        Index into ``domains``.
    n_samples : int
        Documents an epoch, repeats counted.
    repeats_max : float
        How often a document may be seen an epoch.
    rule, memory
        Of the :class:`~causalmix.mixture.odm.Bandit`.
    """

    domains: tuple[str, ...]
    domain_ids: NDArray[Any]
    n_samples: int
    repeats_max: float
    rule: str = "average"
    memory: float = 0.9


class OnlineSteps:
    """Rows of the domains that a bandit draws, until the documents are spent.

    Parameters
    ----------
    online : Online
    lengths, doc_ids : ndarray of int64, shape (n,)
        The documents that may be drawn, each once.
    cfg : TrainConfig
        ``n_epochs`` multiplies the documents of the run and the repeats of a document, as it does for a plan.
    seed : int

    Raises
    ------
    TrainError
        Where all repeats of all documents together are fewer than the run needs.
    """

    unit = "document"
    needs_losses = True

    def __init__(
        self,
        online: Online,
        lengths: NDArray[np.int64],
        doc_ids: NDArray[np.int64],
        cfg: TrainConfig,
        seed: int,
        ranks: Ranks | None = None,
    ) -> None:
        if ranks is not None and ranks.size > 1:
            raise TrainError(f"mixture=odm trains in one process, not in {ranks.size}: set resources.ranks=1.")
        self.online, self.cfg, self.seed = online, cfg, seed
        self.size = online.n_samples * cfg.n_epochs
        self.position = 0
        domain_of = online.domain_ids[doc_ids]
        self.domains_hash = hashlib.sha256(domain_of.astype("<i8").tobytes()).hexdigest()
        members = [np.flatnonzero(domain_of == k) for k in range(len(online.domains))]
        # Documents that each domain may still give.
        self.left = np.array([cfg.n_epochs * count_allowed(len(own), online.repeats_max) for own in members])
        if self.left.sum() < self.size:
            raise TrainError(
                f"The run needs {self.size} documents; the domains give {int(self.left.sum())} with "
                f"{online.repeats_max:g} repeats: {name_some(f'{d} {n}' for d, n in zip(online.domains, self.left))}. "
                f"Lower train.n_samples or raise mixture.repeats_max."
            )
        self.given = np.zeros(len(online.domains), dtype=np.int64)
        self.streams = [self._stream_rows(k, lengths[own], doc_ids[own]) for k, own in enumerate(members)]
        self.bandit = Bandit(len(online.domains), online.rule, online.memory)
        self.weights = self.bandit.weigh(self.left > 0)
        self.path: list[list[int]] = []  # domains of every step's rows
        self.pass_domains: list[int] = []  # of the current step
        self.seen: list[int] = []

    def draw(self, step: int) -> Step:
        """Draw a step's domains and return their rows, no pass with two domains."""
        assert step == len(self.path)
        rng = np.random.default_rng([STREAM, self.seed, step])
        self.weights = self.bandit.weigh(self.left > 0)
        drawn: list[int] = []
        rows: dict[int, list[tuple[int, ...]]] = {}
        while self.position < self.size and len(drawn) < self.cfg.batch_rows:
            # A domain that ran out within this step is drawn no more.
            odds = np.cumsum(np.where(self.left > 0, self.weights, 0.0))
            domain = int(np.searchsorted(odds / odds[-1], rng.random(), side="right"))
            drawn.append(domain)
            rows.setdefault(domain, []).append(self._take(domain))
        self.path.append(drawn)
        parts = [(k, part) for k in sorted(rows) for part in split_rows(tuple(rows[k]), self.cfg.rows_per_pass)]
        self.pass_domains = [domain for domain, _ in parts]
        return Step([part for _, part in parts], self.position, len(parts))

    def observe(self, losses: list[float], n_targets: list[int]) -> None:
        """Reward the domains of the step with their losses."""
        K = len(self.online.domains)
        total = np.bincount(self.pass_domains, weights=np.multiply(losses, n_targets), minlength=K)
        targets = np.bincount(self.pass_domains, weights=n_targets, minlength=K)
        self.bandit.update(self.weights, np.bincount(self.path[-1], minlength=K), total / np.maximum(targets, 1))

    def report(self) -> dict[str, float]:
        """Return, by domain, weights of the step, shares of the documents so far, and documents it may still give."""
        columns = {"weight": self.weights, "share": self.given / max(1, self.position), "left": self.left}
        names = self.online.domains
        return {f"{key}.{name}": float(x) for key, values in columns.items() for name, x in zip(names, values)}

    def list_seen(self) -> NDArray[np.int64]:
        """Return the documents in the order in which they were drawn."""
        return np.array(self.seen, dtype=np.int64)

    def describe(self) -> list[Any]:
        """Return the settings of the bandit, the size of the run and whose domain the documents are."""
        online = self.online
        return [self.size, online.repeats_max, online.rule, online.memory, self.domains_hash]

    def state(self) -> dict[str, Any]:
        """Return the path and the bandit: rows follow from the path."""
        return {"path": self.path, "bandit": self.bandit.state()}

    def restore(self, step: int, state: Any) -> int:
        """Draw the rows of the path again, without training on them."""
        if state is None:
            assert step == 0
            return 0
        for drawn in state["path"]:
            for domain in drawn:
                self._take(domain)
        self.path = [list(drawn) for drawn in state["path"]]
        assert len(self.path) == step
        self.bandit.restore(state["bandit"])
        return self.position

    def _take(self, domain: int) -> tuple[int, ...]:
        row = next(self.streams[domain])[: min(int(self.left[domain]), self.size - self.position)]
        self.left[domain] -= len(row)
        self.given[domain] += len(row)
        self.position += len(row)
        self.seen += row
        if not self.left[domain]:
            logger.warning(
                "%s has given its %d documents (%g repeats): the others go on without it.",
                self.online.domains[domain],
                self.given[domain],
                self.online.repeats_max,
            )
        return row

    def _stream_rows(
        self, domain: int, lengths: NDArray[np.int64], doc_ids: NDArray[np.int64]
    ) -> Iterator[tuple[int, ...]]:
        for number in count():
            rng = np.random.default_rng([STREAM, self.seed, domain, number])
            yield from plan_rows(lengths, doc_ids, self.cfg.max_length, rng, self.cfg.packing_window)
