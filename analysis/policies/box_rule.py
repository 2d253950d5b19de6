"""The closed form behind CausalMix-A: argmax of ``a' log T`` over floors and caps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from causalmix.mixture.simplex import Box, project_to_box

Floats = NDArray[np.float64]


def fill_box(scores: Floats, reference: Floats, box: Box) -> Floats:
    """Maximise ``sum_k a_k log T_k`` over the box, ``a = [scores]+``: ``T_k = clip(a_k / nu, m_k, c_k)``.

    Parameters
    ----------
    scores : ndarray (K,)
        At least one positive; the others get their floor.
    reference : ndarray (K,)
        Shares out, in its proportions, what is left once every positive score sits at its cap.
    box : Box

    Returns
    -------
    ndarray (K,)
        Sums to one. With no floor and no cap it is ``[scores]+ / sum [scores]+``.
    """
    positive = scores > 0
    assert positive.any(), "with no positive score the reference is the answer; the caller returns it"
    if box.cap[positive].sum() + box.floor[~positive].sum() >= 1.0:
        weights = project_to_box(np.where(positive, scores, 0.0), box)
    else:
        weights = box.cap.copy()
        left = 1.0 - weights[positive].sum()
        names = tuple(name for name, up in zip(box.domains, positive) if not up)
        rest = Box(names, box.floor[~positive] / left, box.cap[~positive] / left)
        weights[~positive] = left * project_to_box(reference[~positive], rest)
    assert abs(weights.sum() - 1.0) < 1e-9
    return weights


def divergence(reference: Floats, weights: Floats) -> Floats:
    """Return ``KL(q || T)`` in nats for ``weights`` (..., K); infinite where T drops a domain that q has."""
    held = reference > 0
    with np.errstate(divide="ignore"):
        logs = np.log(weights[..., held])
    return np.asarray((reference[held] * (np.log(reference[held]) - logs)).sum(axis=-1))


def fill_logs(logs: Floats, box: Box) -> Floats:
    """Return ``clip(s exp(logs_k), m_k, c_k)`` with the scale s that makes the sum one.

    The rule of :func:`fill_box` for scores known by their logarithms (K,), whose span may exceed that of floats.
    """
    with np.errstate(divide="ignore"):
        limits = np.concatenate([np.log(box.floor), np.log(box.cap)]) - np.concatenate([logs, logs])
    breakpoints = np.unique(limits[np.isfinite(limits)])
    totals = np.clip(np.exp(np.minimum(logs + breakpoints[:, None], 1.0)), box.floor, box.cap).sum(axis=1)
    after = int(np.searchsorted(totals, 1.0))
    after = min(after, len(breakpoints) - 1)
    middle = breakpoints[after] - 1.0 if after == 0 else 0.5 * (breakpoints[after - 1] + breakpoints[after])
    trial = np.exp(np.minimum(logs + middle, 1.0))
    weights = np.clip(trial, box.floor, box.cap)
    free = (trial > box.floor) & (trial < box.cap)
    if free.any():
        top = logs[free].max()
        shape = np.exp(logs[free] - top)
        left = 1.0 - weights[~free].sum()
        weights[free] = np.clip(left * shape / shape.sum(), box.floor[free], box.cap[free])
    assert abs(weights.sum() - 1.0) < 1e-9
    return np.asarray(weights)


def fill_greedily(gradient: Floats, box: Box) -> Floats:
    """Maximise ``gradient' T`` over the box: floors first, then up to the caps in falling order of the gradient."""
    weights = box.floor.copy()
    for k in np.argsort(-gradient, kind="stable"):
        weights[k] += min(box.cap[k] - box.floor[k], max(1.0 - weights.sum(), 0.0))
    return weights
