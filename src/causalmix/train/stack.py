"""Several models of one shape as one: every trained weight has a leading axis of runs, every product is a batched one.

Rows of all runs lie end to end, the same number of each run. What no weight takes part in (attention, rotation, gates,
residuals) does not see where one run ends; what a weight does takes each run's rows with that run's weights.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import embedding

from causalmix.errors import TrainError
from causalmix.train.kernels import RootMeanSquareNorm
from causalmix.train.row import Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel


class StackedLinear(torch.nn.Module):
    """A linear map a run; weight of shape (n_runs, out, in), bias of shape (n_runs, out) or None."""

    def __init__(self, weight: torch.nn.Parameter, bias: torch.nn.Parameter | None) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Map rows of shape (n_runs * n, in) to (n_runs * n, out)."""
        by_run = rows.view(len(self.weight), -1, rows.shape[-1])
        turned = self.weight.transpose(1, 2)
        mapped = torch.bmm(by_run, turned) if self.bias is None else torch.baddbmm(self.bias[:, None], by_run, turned)
        return mapped.flatten(0, 1)


class StackedEmbedding(torch.nn.Module):
    """A table of embeddings a run; weight of shape (n_runs, vocabulary, size)."""

    def __init__(self, weight: torch.nn.Parameter, padding: int | None) -> None:
        super().__init__()
        self.weight, self.padding = weight, padding

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Look tokens of shape (n_runs * n,) up, each in its run's table."""
        n_runs, n_entries, _ = self.weight.shape
        firsts = torch.arange(0, n_runs * n_entries, n_entries, device=ids.device)
        rows = embedding((ids.view(n_runs, -1) + firsts[:, None]).flatten(), self.weight.flatten(0, 1))
        if self.padding is None:
            return rows
        return torch.where((ids == self.padding)[:, None], rows.detach(), rows)  # as torch: its entry is not learned


class StackedNorm(torch.nn.Module):
    """A root-mean-square norm a run; weight of shape (n_runs, size)."""

    def __init__(self, weight: torch.nn.Parameter, epsilon: float) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = weight, epsilon

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Normalise the last axis of rows of shape (n_runs * n, ..., size), in float32 at least."""
        wide = rows.float() if rows.dtype == torch.bfloat16 else rows
        by_run = wide.reshape(len(self.weight), -1, rows.shape[-1])
        normed = RootMeanSquareNorm.apply(by_run, self.weight[:, None], self.variance_epsilon)  # type: ignore[no-untyped-call]
        return torch.as_tensor(normed.view(rows.shape))


class Stack:
    """Models trained as one.

    The trained weights of a run lie end to end in a row of one tensor, matrices first: its optimiser has two tensors to
    work on, not dozens.

    Parameters
    ----------
    models : sequence of PreTrainedModel
        Of one architecture, with the same weights where they are frozen. Their own tensors are left alone until
        :meth:`restore`.
    device : device
        Where the stack trains.

    Attributes
    ----------
    model : PreTrainedModel
        For :func:`~causalmix.train.decoder.run_decoder`; its trained parameters have a leading axis of runs.
    parameters : list of dict
        A run's trained parameters by name, in the shapes that they have alone: views of its row.
    row : Row
        Where they stand in it.

    Raises
    ------
    TrainError
        For models that differ in shape or frozen weights, or have weights that are not known how to stack.
    """

    def __init__(self, models: Sequence[PreTrainedModel], device: torch.device) -> None:
        self.models = list(models)
        named = [dict(model.named_parameters()) for model in models]
        check_alike(named)
        trained = {name: parameter for name, parameter in named[0].items() if parameter.requires_grad}
        self.row = Row(trained)
        rows = [self.row.join({name: part.detach() for name, part in by_name.items()}) for by_name in named]
        self.weights = torch.stack(rows).to(device)
        self.parameters = [
            {name: torch.nn.Parameter(part) for name, part in self.row.name(row)} for row in self.weights
        ]
        self.leaves = self._make_leaves()
        self.model = self._build(models[0], device)

    def take_gradients(self) -> torch.Tensor:
        """Return the gradients of all runs, shape (n_runs, n + m), and forget them."""
        gradients = [leaf.grad for leaf in self.leaves.values()]
        taken = torch.cat([gradient.flatten(1) for gradient in gradients if gradient is not None], dim=1)
        for leaf in self.leaves.values():
            leaf.grad = None
        return taken

    def restore(self, run: int) -> PreTrainedModel:
        """Give a run's model the weights that it was trained to, on the stack's device."""
        model, trained = self.models[run], self.parameters[run]
        for name, parameter in model.named_parameters():
            if name in trained:
                parameter.data = trained[name].detach().clone()
        return model.to(self.weights.device)

    def keep(self, runs: list[int]) -> None:
        """Go on with some of the runs alone; each one's optimiser has to follow its row of ``weights``."""
        self.models, self.parameters = ([own[run] for run in runs] for own in (self.models, self.parameters))
        self.weights = self.weights[runs]
        before, self.leaves = self.leaves, self._make_leaves()
        new_of = {id(leaf): self.leaves[name] for name, leaf in before.items()}
        for module in self.model.modules():
            for key, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, key, new_of.get(id(parameter), parameter))

    def _make_leaves(self) -> dict[str, torch.nn.Parameter]:
        return {name: torch.nn.Parameter(part) for name, part in self.row.name(self.weights)}

    def _build(self, first: PreTrainedModel, device: torch.device) -> PreTrainedModel:
        """Copy the first model, and put stacked modules where weights are trained."""
        # Frozen weights are copied too: a run that ends merges its adapters into its own.
        replaced = {id(parameter): parameter for parameter in first.parameters() if parameter.requires_grad}
        stacked: PreTrainedModel = copy.deepcopy(first, replaced)
        leaf_of = {id(p): self.leaves[name] for name, p in first.named_parameters() if p.requires_grad}
        for name, module in list(stacked.named_modules()):
            own = {key: leaf_of.get(id(parameter)) for key, parameter in module.named_parameters(recurse=False)}
            if any(leaf is not None for leaf in own.values()):
                parent, _, child = name.rpartition(".")
                setattr(stacked.get_submodule(parent), child, _stack_module(name, module, own))
        return stacked.to(device)


def check_alike(named: list[dict[str, torch.nn.Parameter]]) -> None:
    """Refuse models that cannot be one.

    Raises
    ------
    TrainError
    """
    shapes = [{name: (p.shape, p.dtype, p.requires_grad) for name, p in by_name.items()} for by_name in named]
    if any(other != shapes[0] for other in shapes[1:]):
        raise TrainError("Models of different shapes cannot be trained together: set train.batch_runs=1.")
    for name, parameter in named[0].items():
        if not parameter.requires_grad and not all(torch.equal(parameter, other[name]) for other in named[1:]):
            raise TrainError(
                f"Runs whose frozen weights differ ({name}) cannot train together: set train.batch_runs=1."
            )


def _stack_module(
    name: str, module: torch.nn.Module, leaves: dict[str, torch.nn.Parameter | None]
) -> StackedLinear | StackedEmbedding | StackedNorm:
    weight = leaves["weight"]
    if weight is not None:
        if isinstance(module, torch.nn.Linear):
            return StackedLinear(weight, leaves.get("bias"))
        if isinstance(module, torch.nn.Embedding):
            return StackedEmbedding(weight, module.padding_idx)
        if isinstance(epsilon := getattr(module, "variance_epsilon", None), float):
            return StackedNorm(weight, epsilon)
    raise TrainError(f"The weights of {name} ({type(module).__name__}) cannot be stacked: set train.batch_runs=1.")
