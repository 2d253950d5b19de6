"""Memory and time of a run before it is submitted: the config's model, training and resources, and no weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from causalmix.config import Config
from causalmix.train.architectures import sketch_model
from causalmix.train.costs import (
    GB,
    Memory,
    Shapes,
    count_operations,
    count_trained,
    estimate_memory,
    measure_shapes,
)


@dataclass(frozen=True)
class Estimate:
    """What one run takes.

    Attributes
    ----------
    model, train, resources : str
        Names of the configs.
    shapes : Shapes
    n_trained : int
        Weights that are trained.
    n_ranks : int
    memory : Memory
        Bytes a rank.
    gpu_bytes : float or None
        Of one GPU; None where the resources do not say.
    tokens : float
        Of the whole training, repeats counted.
    operations : float
        Of the whole training.
    seconds : float or None
        None where the resources do not say how fast a GPU is.
    n_gpus : float
        GPUs a run takes.
    host_bytes : float
        Memory of the first node while its first rank reads the weights.
    checkpoint_bytes : float
    limit_s : float
        ``resources.timeout_min``.
    is_bound : bool
        Whether documents were taken to be as long as rows, so that tokens, operations and seconds are upper bounds.
    """

    model: str
    train: str
    resources: str
    shapes: Shapes
    n_trained: int
    n_ranks: int
    memory: Memory
    gpu_bytes: float | None
    tokens: float
    operations: float
    seconds: float | None
    n_gpus: float
    host_bytes: float
    checkpoint_bytes: float
    limit_s: float
    is_bound: bool

    @property
    def fits(self) -> bool | None:
        """Tell whether a rank's peak fits into its GPU; None where nobody knows."""
        return None if self.gpu_bytes is None else self.memory.peak <= self.gpu_bytes

    def to_plain(self) -> dict[str, object]:
        """List everything, for ``--json``."""
        return {**asdict(self), "peak_bytes": self.memory.peak, "fits": self.fits}

    def describe(self, n_runs: int = 1) -> list[str]:
        """Write the estimate for a reader, one line a question."""
        memory = self.memory
        parts = {name: getattr(memory, name) for name in ("weights", "gradients", "optimiser", "copies", "activations")}
        said = ", ".join(f"{name} {render_bytes(size)}" for name, size in {**parts, "head": memory.head}.items())
        trained = "" if self.n_trained == self.shapes.n_parameters else f", {self.n_trained:,} of them trained"
        room = "resources.gpu_memory_gb is not set"
        if self.gpu_bytes is not None:
            room = f"{'fits' if self.fits else 'DOES NOT FIT'} into {render_bytes(self.gpu_bytes)}"
        lines = [
            f"model      {self.model}: {self.shapes.n_parameters:,} weights{trained}",
            f"memory     {render_bytes(memory.peak)} a rank on {self.n_ranks}: {room}",
            f"           a step: {said}; before and after {render_bytes(memory.ends)}",
            f"host       {render_bytes(self.host_bytes)} of the first node while its first rank reads the weights",
            f"disk       {render_bytes(self.checkpoint_bytes)} a checkpoint; two while one replaces another",
            f"work       {self.tokens:,.3g} tokens, {self.operations:,.3g} operations a run"
            + (f"; {self.operations * n_runs:,.3g} in {n_runs:,} runs" if n_runs > 1 else "")
            + ("; at most: for documents as long as rows (--tokens-per-document)" if self.is_bound else ""),
        ]
        if self.seconds is None:
            return [*lines, "time       resources.gpu_tflops is not set"]
        hours = self.seconds / 3600
        late = "" if self.seconds <= self.limit_s else f"; LONGER than resources.timeout_min={self.limit_s / 60:,.0f}"
        total = hours * self.n_gpus * n_runs
        return [*lines, f"time       {hours:,.1f} h a run on {self.n_gpus:g} GPU(s), {total:,.0f} GPU-hours{late}"]


def estimate_run(config: Config, tokens_per_document: float | None = None) -> Estimate:
    """Estimate one run, evaluation left out.

    Parameters
    ----------
    config : Config
    tokens_per_document : float, optional
        Mean over the mixture; at most ``train.max_length``, which is taken where it is not given.

    Raises
    ------
    TrainError
        For a model whose architecture is not known.
    """
    train, resources = config.train, config.resources
    model = sketch_model(config.model, config.pool.tokenizer.vocab_size)
    shapes = measure_shapes(model)
    n_trained = count_trained(shapes, train, model)
    n_ranks = resources.ranks
    length = min(float(tokens_per_document or train.max_length), float(train.max_length))
    tokens = length * train.n_samples * train.n_epochs
    operations = tokens * count_operations(shapes, train, length)
    n_gpus = resources.nodes * resources.gpus if n_ranks > 1 else 1 / resources.workers_per_gpu
    seconds = None
    if resources.gpu_tflops is not None:
        seconds = operations / (n_gpus * resources.gpu_tflops * 1e12 * resources.utilisation)
    width = 2 if config.model.dtype == "bfloat16" else 4
    return Estimate(
        model=config.model.name,
        train=train.name,
        resources=resources.name,
        shapes=shapes,
        n_trained=n_trained,
        n_ranks=n_ranks,
        memory=estimate_memory(shapes, n_trained, train, n_ranks, is_half=config.model.dtype == "bfloat16"),
        gpu_bytes=None if resources.gpu_memory_gb is None else resources.gpu_memory_gb * GB / resources.workers_per_gpu,
        tokens=tokens,
        operations=operations,
        seconds=seconds,
        n_gpus=n_gpus,
        host_bytes=float(width * shapes.n_parameters),
        checkpoint_bytes=12.0 * n_trained,
        limit_s=resources.timeout_min * 60.0,
        is_bound=tokens_per_document is None,
    )


def render_bytes(size: float) -> str:
    """Write bytes as GB, or as MB where that is less than a tenth of one."""
    return f"{size / GB:,.1f} GB" if size >= GB / 10 else f"{size / 1e6:,.1f} MB"
