"""The head and its cross-entropy, never more logits at once than a memory budget holds.

A vocabulary of 152,000 times 8,192 labels is 5 GB of logits in float32, and three such tensors in a plain
backward pass. In chunks, a chunk's gradient is made right after its logits, so one chunk's are alive at a time.
The fewest chunks that fit are taken: each costs a pass over the head's gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import cross_entropy

BYTES_A_LOGIT = 16  # float32 logits, their softmax and its gradient, and half-precision copies of two of them


def sum_cross_entropy(head: Any, states: torch.Tensor, targets: torch.Tensor, budget_mib: int) -> torch.Tensor:
    """Negative log-likelihood of targets, in nats, summed.

    Parameters
    ----------
    head : Module
        From states to logits. One that is no plain linear map without bias (an adapted one) is not chunked.
    states : Tensor, shape (n_targets, hidden)
    targets : Tensor of int64, shape (n_targets,)
    budget_mib : int
        For logits and what is made of them.

    Returns
    -------
    Tensor, shape ()
        Float32 at least, whatever the dtype of the states.
    """
    n_rows = rows_at_once(head.weight.shape[0], budget_mib) if hasattr(head, "weight") else len(targets)
    is_plain = type(head) is torch.nn.Linear and head.bias is None
    # On a CPU a single chunk pays too: nothing is computed twice, and the softmax stays where the logits were.
    is_small = len(targets) <= n_rows and not (states.device.type == "cpu" and torch.is_grad_enabled())
    if is_small or not is_plain or not len(targets):
        logits = head(states)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        return cross_entropy(logits, targets, reduction="sum")
    return torch.as_tensor(ChunkedCrossEntropy.apply(states, head.weight, targets, n_rows))  # type: ignore[no-untyped-call]


def rows_at_once(vocab_size: int, budget_mib: int) -> int:
    """Labels whose logits fit into a budget; at least one."""
    return max(1, budget_mib * 2**20 // (BYTES_A_LOGIT * vocab_size))


class ChunkedCrossEntropy(torch.autograd.Function):
    """Cross-entropy of ``states @ weight.T``; gradients are made in the forward pass, a chunk at a time."""

    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, n_rows: int
    ) -> torch.Tensor:
        """Sum the loss."""
        kind = states.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype
        with torch.autocast(kind, enabled=False):
            head = weight.to(dtype)
            of_states = torch.empty_like(states) if ctx.needs_input_grad[0] else None
            of_weight, total = None, torch.zeros((), device=states.device, dtype=_widen(dtype))
            for start in range(0, len(targets), n_rows):
                span = slice(start, start + n_rows)
                chunk = states[span].to(dtype)
                logits = (chunk @ head.T).to(total.dtype)
                places = targets[span, None]
                logits.sub_(logits.amax(dim=1, keepdim=True))
                chosen = logits.gather(1, places)
                grads = logits.exp_()
                norms = grads.sum(dim=1, keepdim=True)
                total += (norms.log() - chosen).sum()
                grads.div_(norms)  # the softmax, in the logits' memory
                grads.scatter_add_(1, places, torch.full_like(norms, -1.0))
                narrow = grads.to(dtype)
                if of_states is not None:
                    of_states[span] = narrow @ head
                if ctx.needs_input_grad[1]:
                    part = narrow.T @ chunk
                    of_weight = part.to(_widen(weight.dtype)) if of_weight is None else of_weight.add_(part)
        ctx.save_for_backward(of_states, None if of_weight is None else of_weight.to(weight.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Scale what the forward pass made, where it is: it is not kept for a second time."""
        of_states, of_weight = ctx.saved_tensors
        return _scale(of_states, grads[0]), _scale(of_weight, grads[0]), None, None


def _scale(gradient: torch.Tensor | None, factor: torch.Tensor) -> torch.Tensor | None:
    return None if gradient is None else gradient.mul_(factor.to(gradient.dtype))


def _widen(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
