"""RegMix's sampler of mixtures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causalmix.errors import MixtureError, name_some
from causalmix.mixture.designs.design import Draw, Moments, summarise_logs
from causalmix.mixture.designs.dirichlet import draw_dirichlet
from causalmix.mixture.designs.region import Region
from causalmix.mixture.designs.request import Request

Floats = NDArray[np.float64]

RESOLUTION = 2e-4  # shares below it are zero, the others are rounded to it
STRENGTHS = np.logspace(0.1, 5, 15)  # from 10^.1 to 10^5
USAGE_MAX = 15.0  # a share is at most so many times the prior's
TEMPERATURE = 0.5  # exponent of the prior

_BATCH = 256
_PROPOSALS_MAX = 200_000


@dataclass(frozen=True)
class RegmixDesign:
    """A sequence of distinct mixtures by RegMix's sampler, then floored; redrawn above the caps.

    Attributes
    ----------
    name : str
    region : Region
        Floor and caps; ``mixture.floor=0`` gives RegMix's mixtures to the letter, zeros included.
    prior : ndarray (K,)
        Shares above zero, in the order of the domains.
    design_seed : int
        Which sequence.
    """

    name: str
    region: Region
    prior: Floats
    design_seed: int

    @property
    def domains(self) -> tuple[str, ...]:
        """The K domains."""
        return self.region.box.domains

    @property
    def is_random(self) -> bool:
        """Always True."""
        return True

    @property
    def n_points(self) -> None:
        """No end, but for the number of distinct mixtures on the rounding grid."""
        return None

    def sample(self, rng: np.random.Generator, index: int) -> Draw:
        """Return mixture ``index`` of the sequence; ``rng`` is not used, for no two runs may have one mixture.

        Raises
        ------
        MixtureError
            Caps, or a grid, that leave fewer distinct mixtures in 200,000 proposals.
        """
        return Draw(self._accept(index + 1, self.design_seed, distinct=True)[index], {"point": float(index)})

    def moments(self, seed: int, n_draws: int = 20_000) -> Moments:
        """Estimate mean and covariance of ``log T`` over accepted draws.

        Mixtures drawn twice count twice here: the sequence leaves them out, which matters only where a
        sweep comes near the number of mixtures on the rounding grid (two domains, thousands of runs). Where the
        floor is 0 the mean is -inf.
        """
        return summarise_logs(self._accept(n_draws, seed, distinct=False), exact=False)

    def _accept(self, n: int, seed: int, *, distinct: bool) -> Floats:
        """Propose until ``n`` mixtures are accepted: shares (n, K)."""
        rng = np.random.default_rng(seed)
        prior = self.prior[self.region.order]
        kept: list[Floats] = []
        seen: set[bytes] = set()
        n_proposed = 0
        points = np.empty((0, len(prior)))
        while len(kept) < n:
            if n_proposed >= _PROPOSALS_MAX + 100 * n:
                doubled = " Or fewer runs: mixtures drawn before do not count." if distinct else ""
                raise MixtureError(self.region.explain_caps(len(kept), n_proposed, points) + doubled)
            points = propose_regmix(prior, _BATCH, rng)
            n_proposed += _BATCH
            for point in points[self.region.contains(points)]:
                # On the rounding grid, mixtures within 1e-5 of each other in L1 are equal.
                key = np.rint(point / RESOLUTION).astype(np.int64).tobytes()
                if not (distinct and key in seen):
                    seen.add(key)
                    kept.append(point)
        return self.region.to_weights(np.array(kept[:n]))


def build_regmix(request: Request) -> RegmixDesign:
    """Build RegMix's design around the prior as it is: no projection, no floor under the prior itself.

    Raises
    ------
    MixtureError
        A prior share of zero, which the sampler could never leave.
    """
    prior = request.read_prior()
    empty = [name for name, share in zip(request.domains, prior) if share <= 0]
    if empty:
        raise MixtureError(
            f"the prior gives {name_some(empty)} a share of 0, and RegMix's sampler would never use it: take "
            "mixture.prior=equal, or leave the domain out of the pool."
        )
    return RegmixDesign(request.cfg.kind, Region(request.box), prior, request.cfg.design_seed)


def propose_regmix(prior: Floats, n: int, rng: np.random.Generator) -> Floats:
    """Draw ``n`` proposals of RegMix's sampler and keep those within its bound.

    ``w ~ Dirichlet(s b)`` with ``b`` proportional to ``prior^.5`` and s one of 15 strengths, each as likely
    (drawing one vector a strength and picking one, as RegMix does, is the same law); rejected where
    ``w_k > min(15 prior_k, 1)``; shares below 2e-4 become zero, the rest is renormalised and rounded to 2e-4.

    Parameters
    ----------
    prior : ndarray (K,)
        Above zero, sums to one.
    n : int
        Proposals, before rejection.
    rng : Generator

    Returns
    -------
    ndarray (m, K)
        m <= n mixtures. Rounding can leave their sums a few times 2e-4 away from one; they are divided by it, so
        that shares are multiples of 2e-4 up to that factor.

    Notes
    -----
    Liu et al. (2024), "RegMix: data mixture as regression for language model pre-training", arXiv 2407.01492.
    """
    base = prior**TEMPERATURE
    base = base / base.sum()
    strength = STRENGTHS[rng.integers(len(STRENGTHS), size=n)]
    raw = draw_dirichlet(rng, strength[:, None] * base)
    raw = raw[(raw <= np.minimum(USAGE_MAX * prior, 1.0)).all(axis=1)]
    raw = np.where(raw < RESOLUTION, 0.0, raw)
    raw /= raw.sum(axis=1, keepdims=True)
    rounded = np.rint(raw / RESOLUTION) * RESOLUTION
    return np.asarray(rounded / rounded.sum(axis=1, keepdims=True))
