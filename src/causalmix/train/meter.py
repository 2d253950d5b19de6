"""How fast a training goes: seconds, tokens, share of the device's peak, waiting, memory."""

from __future__ import annotations

import resource
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from causalmix.train.device import measure_peak

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Work:
    """Floating-point operations of a training's useful work: forward and backward, every weight trained.

    Six operations a weight and token in the layers; six a weight of the head and label; six a query, key and
    column in the attention, half of them for what lies before the query. A layer's activations that are
    computed twice count once.

    Parameters
    ----------
    model : PreTrainedModel
    """

    def __init__(self, model: PreTrainedModel) -> None:
        head = model.get_output_embeddings()
        inner = model.get_decoder()
        self.a_token = 6.0 * sum(p.numel() for p in inner.layers.parameters() if p.ndim >= 2)
        self.a_target = 6.0 * head.weight.numel()
        config = model.config
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.a_pair = 6.0 * config.num_hidden_layers * config.num_attention_heads * size

    def count(self, lengths: NDArray[np.int64], n_targets: int) -> float:
        """Count for documents of so many tokens with so many labels together."""
        return float(
            self.a_token * lengths.sum() + self.a_target * n_targets + self.a_pair * (lengths.astype(float) ** 2).sum()
        )


class Meter:
    """Measure steps between two reports.

    Parameters
    ----------
    work : Work
    device : device
    dtype : dtype
        Of the products, for the peak to compare with.
    """

    def __init__(self, work: Work, device: torch.device, dtype: torch.dtype) -> None:
        self.work = work
        self.device = device
        self.dtype = dtype
        self.waited_s = 0.0
        self._clear()

    def add(self, lengths: NDArray[np.int64], n_targets: int) -> None:
        """Count a step: the tokens of each of its documents, and its labels."""
        self.n_steps += 1
        self.n_tokens += int(lengths.sum())
        self.n_targets += n_targets
        self.n_flops += self.work.count(lengths, n_targets)

    def report(self, waited_s: float) -> dict[str, float]:
        """Return means since the last report, and start anew.

        Parameters
        ----------
        waited_s : float
            Seconds spent waiting for batches since the training began.

        Returns
        -------
        dict
            ``step_s``, ``wait_s`` a step; ``tokens_per_s``, ``targets_per_s``; ``peak_share`` of the products that
            the device was measured to do in a second; ``memory_mib``, the most that was taken so far.
        """
        passed = max(time.perf_counter() - self.started, 1e-9)
        values = {
            "step_s": passed / max(1, self.n_steps),
            "wait_s": (waited_s - self.waited_s) / max(1, self.n_steps),
            "tokens_per_s": self.n_tokens / passed,
            "targets_per_s": self.n_targets / passed,
            "peak_share": self.n_flops / passed / measure_peak(self.device, self.dtype),
            "memory_mib": measure_memory(self.device),
        }
        self.waited_s = waited_s
        self._clear()
        return values

    def _clear(self) -> None:
        self.n_steps = self.n_tokens = self.n_targets = 0
        self.n_flops = 0.0
        self.started = time.perf_counter()


def measure_memory(device: torch.device) -> float:
    """Most memory taken so far, in MiB: of the GPU by this process's tensors, or of this process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device) / 2**20)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2**20 if sys.platform == "darwin" else most / 2**10
