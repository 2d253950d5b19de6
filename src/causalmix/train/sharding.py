"""A model cut up between ranks with torch's FSDP2: weights, gradients and optimiser states, a layer at a time.

Each rank holds a part of every weight. A layer's weights are brought together when it is computed, and its
gradients are summed and cut up again at once, so a rank never holds more than one whole layer beside the
embeddings, the norms and the head. The first rank alone reads the weights and hands every rank its parts, a tensor
at a time; the others need an outline of the model, on torch's meta device.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from causalmix.train.ranks import Ranks

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def shard_model(model: PreTrainedModel, ranks: Ranks, device: torch.device, *, is_half: bool) -> PreTrainedModel:
    """Cut a model up between ranks.

    Parameters
    ----------
    model : PreTrainedModel
        Whole on the first rank, on any device; what the others' holds is not looked at, and may be an outline. It is
        empty afterwards, until :func:`restore_model` fills it.
    ranks : Ranks
    device : device
        Of the parts.
    is_half : bool
        Train float32 weights, and bring layers together in bfloat16, the numbers that autocast would make of them;
        gradients are summed in float32.

    Returns
    -------
    PreTrainedModel
        The same model in parts, to be called with :func:`call`; ``model`` itself where there is one rank.
    """
    if ranks.size == 1:
        return model
    parts = _copy_outline(model, torch.float32 if is_half else model.dtype)
    mesh = init_device_mesh(device.type, (ranks.size,))
    half = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    for layer in parts.get_decoder().layers:
        # The matrices, not the layer: whoever calls them one by one finds them whole too.
        matrices: list[torch.nn.Module] = [m for m in layer.modules() if isinstance(m, torch.nn.Linear)]
        fully_shard(matrices, mesh=mesh, mp_policy=half if is_half else MixedPrecisionPolicy())
    fully_shard(parts, mesh=mesh)
    for module in parts.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # losses are divided by the targets of all ranks already
            module.set_force_sum_reduction_for_comms(True)
    parts.forward = types.MethodType(_run, parts)
    parts.to_empty(device=device)
    _hand_out(model, parts, ranks)
    for parameter in model.parameters():
        parameter.data = parameter.data.new_empty(0)
    return parts


def call(model: PreTrainedModel, function: Callable[..., torch.Tensor], *arguments: Any) -> torch.Tensor:
    """Compute ``function(model, *arguments)``, with the weights brought together where the model is in parts."""
    if not isinstance(model, FSDPModule):
        return function(model, *arguments)
    whole: Any = model
    return torch.as_tensor(whole(function, *arguments))


def restore_model(parts: PreTrainedModel, model: PreTrainedModel, dtype: torch.dtype | None = None) -> None:
    """Make the model given to :func:`shard_model` whole again, with the weights of its parts; an outline stays one.

    Parameters
    ----------
    parts, model : PreTrainedModel
    dtype : dtype, optional
        Of the whole weights; None leaves the one that they were trained in.
    """
    if parts is model:
        return
    trained = dict(parts.named_parameters())
    for name, parameter in model.named_parameters():
        whole = join(trained[name].data)
        if not parameter.is_meta:
            parameter.data = whole.to(dtype=dtype)


def is_outline(model: torch.nn.Module) -> bool:
    """Tell whether a model has shapes alone."""
    return any(parameter.is_meta for parameter in model.parameters())


def join(tensor: torch.Tensor) -> torch.Tensor:
    """Bring the parts of a tensor together; a whole one stays as it is. Every rank must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _run(model: PreTrainedModel, function: Callable[..., torch.Tensor], *arguments: Any) -> torch.Tensor:
    return function(model, *arguments)


def _copy_outline(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """Copy modules without any weight: FSDP changes modules for good, and the caller's stay plain."""
    outlined: dict[int, Any] = {}
    for parameter in model.parameters():
        empty = torch.empty_like(parameter, dtype=dtype, device="meta")
        outlined[id(parameter)] = torch.nn.Parameter(empty, requires_grad=parameter.requires_grad)
    for buffer in model.buffers():
        outlined[id(buffer)] = torch.empty_like(buffer, device="meta")
    copied: PreTrainedModel = copy.deepcopy(model, outlined)
    return copied


@torch.no_grad()
def _hand_out(model: PreTrainedModel, parts: PreTrainedModel, ranks: Ranks) -> None:
    """Give every rank its parts of the first one's weights, and all of its buffers."""
    weights, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    for name, part in parts.named_parameters():
        assert isinstance(part, DTensor)
        whole = torch.empty(part.shape, dtype=part.dtype, device=part.device)
        if ranks.is_first:
            whole.copy_(weights[name])
        part.to_local().copy_(distribute_tensor(whole, part.device_mesh, part.placements).to_local())
    for name, buffer in parts.named_buffers():
        if ranks.is_first:
            buffer.copy_(buffers[name])
        dist.broadcast(buffer, 0)
