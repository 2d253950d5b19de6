"""Matrix products and norms with their gradients, of one model or of several stacked.

A weight has shape (out, in), or (runs, out, in): rows of all runs lie end to end then, the same number of each.
"""

from __future__ import annotations

from functools import lru_cache

import torch


def normalise(rows: torch.Tensor, epsilon: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Divide rows by their root mean square; return them and its inverse."""
    norm = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    inverse = torch.addcmul(as_tensor(epsilon, rows.dtype), norm, norm, value=1 / rows.shape[-1]).rsqrt_()
    return rows * inverse, inverse


def renormalise(
    grads: torch.Tensor, unit: torch.Tensor, inverse: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradients of a norm's rows and of its weight."""
    along = grads * unit
    of_weight = along.sum(0) if weight.ndim == 1 else along.view(len(weight), -1, weight.shape[-1]).sum(1)
    of_unit = scale(grads, weight)
    along = torch.linalg.vecdot(of_unit, unit).unsqueeze(-1)
    return of_unit.addcmul_(unit, along, value=-1 / unit.shape[-1]).mul_(inverse), of_weight


@lru_cache(maxsize=16)
def as_tensor(value: float, dtype: torch.dtype) -> torch.Tensor:
    """Make a number a tensor once: torch would at every call."""
    return torch.tensor(value, dtype=dtype)


def scale(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Multiply the columns of rows, of each run's rows by its own weight."""
    if weight.ndim == 1:
        return rows * weight
    return (rows.view(len(weight), -1, rows.shape[-1]) * weight[:, None]).view_as(rows)


def multiply(
    rows: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
) -> torch.Tensor:
    """Map rows of shape (n, in) by a weight of shape (out, in), or (runs, out, in), and add one thing or none."""
    if weight.ndim == 2:
        added = bias if residual is None else residual
        return rows @ weight.T if added is None else torch.addmm(added, rows, weight.T)
    by_run, turned = rows.view(len(weight), -1, rows.shape[-1]), weight.transpose(1, 2)
    added = bias[:, None] if bias is not None else residual
    if added is None:
        return torch.bmm(by_run, turned).flatten(0, 1)
    added = added if bias is not None else added.view(len(weight), -1, added.shape[-1])
    return torch.baddbmm(added, by_run, turned).flatten(0, 1)


def pull(grads: torch.Tensor, weight: torch.Tensor, total: torch.Tensor | None = None) -> torch.Tensor:
    """Return the gradient of a product's rows, added to ``total``, which is changed."""
    if weight.ndim == 2:
        return grads @ weight if total is None else total.addmm_(grads, weight)
    by_run = grads.view(len(weight), -1, grads.shape[-1])
    if total is None:
        return torch.bmm(by_run, weight).flatten(0, 1)
    return total.view(len(weight), -1, total.shape[-1]).baddbmm_(by_run, weight).flatten(0, 1)


def learn(grads: torch.Tensor, rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the gradient of a product's weight."""
    if weight.ndim == 2:
        return grads.T @ rows
    n_runs = len(weight)
    return torch.bmm(grads.view(n_runs, -1, grads.shape[-1]).transpose(1, 2), rows.view(n_runs, -1, rows.shape[-1]))


def add_up(grads: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return the gradient of a product's bias."""
    return grads.sum(0) if weight.ndim == 2 else grads.view(len(weight), -1, grads.shape[-1]).sum(1)


def add_at(grads: torch.Tensor, index: torch.Tensor, n_rows: int) -> torch.Tensor:
    """Return the gradient of ``n_rows`` rows from that of those which ``index`` took of them."""
    return grads.new_zeros(n_rows, *grads.shape[1:]).index_add_(0, index, grads)
