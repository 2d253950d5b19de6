"""A model cut up between ranks with torch's FSDP2: weights, gradients and optimiser states, a layer at a time.

Each rank holds a part of every weight. A layer's weights are brought together when it is computed, and its
gradients are summed and cut up again at once, so a rank never holds more than one whole layer beside the
embeddings, the norms and the head.
"""

from __future__ import annotations

import copy
import itertools
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from causalmix.train.ranks import Ranks

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def shard_model(model: PreTrainedModel, ranks: Ranks, *, is_half: bool) -> PreTrainedModel:
    """Cut a model up between ranks.

    Parameters
    ----------
    model : PreTrainedModel
        Whole on every rank, on the device that it trains on, float32 weights (``is_half``: products in bfloat16
        under autocast). It is empty afterwards, until :func:`restore_model` fills it.
    ranks : Ranks
    is_half : bool
        Bring layers together in bfloat16, the numbers that autocast would make of them; gradients are summed in
        float32.

    Returns
    -------
    PreTrainedModel
        The same model in parts, to be called with :func:`call`; ``model`` itself where there is one rank.
    """
    if ranks.size == 1:
        return model
    # The copy has modules of its own and the same tensors: FSDP changes modules for good, and the caller's stays plain.
    shared = {id(tensor): tensor for tensor in itertools.chain(model.parameters(), model.buffers())}
    parts: PreTrainedModel = copy.deepcopy(model, shared)
    mesh = init_device_mesh(model.device.type, (ranks.size,))
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
    for parameter in model.parameters():
        parameter.data = parameter.data.new_empty(0)
    return parts


def call(model: PreTrainedModel, function: Callable[..., torch.Tensor], *arguments: Any) -> torch.Tensor:
    """Compute ``function(model, *arguments)``, with the weights brought together where the model is in parts."""
    if not isinstance(model, FSDPModule):
        return function(model, *arguments)
    whole: Any = model
    return torch.as_tensor(whole(function, *arguments))


def restore_model(parts: PreTrainedModel, model: PreTrainedModel) -> None:
    """Make the model given to :func:`shard_model` whole again, with the weights of its parts, on every rank."""
    if parts is model:
        return
    trained = dict(parts.named_parameters())
    for name, parameter in model.named_parameters():
        parameter.data = join(trained[name].data)


def join(tensor: torch.Tensor) -> torch.Tensor:
    """Bring the parts of a tensor together; a whole one stays as it is. Every rank must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _run(model: PreTrainedModel, function: Callable[..., torch.Tensor], *arguments: Any) -> torch.Tensor:
    return function(model, *arguments)
