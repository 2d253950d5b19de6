"""What a training will take, from shapes alone: bytes of a GPU, operations, seconds. No weight is read.

The formulas, for a model of N weights of which n are trained (all of them, or adapters), on R ranks:

===============  ======================================================================================
weights          4 N / R, float32 while training
gradients        4 n / R
optimiser        8 n / R, AdamW's two moments
copies           the bfloat16 weights of the products: 2 N on one rank; on several, two layers of them (the
                 next one comes while one is computed), the gradients of one, and the embeddings, norms and head whole
                 in float32, with their gradients where they are trained
activations      a token of a pass, a layer: 8 h + b (2 h + 4 a + 4 k + 4 f), h the hidden size, a and k the width of
                 all queries and of all keys, f the feed-forward width, b the bytes of a product. Recomputed: 4 h, and
                 one layer whole
head             12 bytes a target and token of the vocabulary, at most ``train.head_budget_mib``
ends             on several ranks, 4 N / R and the largest matrix whole in float32, while the first rank hands out the
                 parts; when they are trained, 4 N / R and the whole model on the first rank, b N
===============  ======================================================================================

Operations a token (Kaplan et al., 2020, with attention): 6 a weight of a layer's matrices, 6 a weight of the head
for the tokens that are learned, and 6 a layer, query column and token of the document's mean length. Recomputed
layers cost 8. Frozen weights need no gradient of their own: 4. Time is operations over what the GPUs do at the
stated share of their peak; waiting for the network is in that share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from causalmix.config import TrainConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

GB = 1e9
BYTES_A_LOGIT = 12  # bfloat16, float32, probabilities, their gradient in the place of one of them
ALLOCATOR = 1.1  # what the allocator holds beside what it was asked for


@dataclass(frozen=True)
class Shapes:
    """Counts of a model's weights.

    Attributes
    ----------
    n_parameters : int
        Tied ones once.
    n_layer, n_matrices : int
        Of one layer; of its matrices alone.
    n_head : int
        Of the output matrix, tied or not.
    n_layers, hidden, queries, keys, feed_forward, vocabulary : int
    """

    n_parameters: int
    n_layer: int
    n_matrices: int
    n_head: int
    n_layers: int
    hidden: int
    queries: int
    keys: int
    feed_forward: int
    vocabulary: int

    @property
    def n_largest(self) -> int:
        """Weights of the largest matrix: the embeddings, or a layer's feed-forward part."""
        return self.hidden * max(self.vocabulary, self.feed_forward)

    @property
    def n_outside(self) -> int:
        """Weights outside of the layers, and the layers' norms: what ranks do not bring together layer by layer."""
        return self.n_parameters - self.n_layers * self.n_matrices


def measure_shapes(model: PreTrainedModel) -> Shapes:
    """Count a model's weights; on the meta device it has no others."""
    import torch

    layer = model.get_decoder().layers[0]
    linear = [module for module in layer.modules() if isinstance(module, torch.nn.Linear)]
    return Shapes(
        n_parameters=sum(p.numel() for p in model.parameters()),
        n_layer=sum(p.numel() for p in layer.parameters()),
        n_matrices=sum(p.numel() for module in linear for p in module.parameters()),
        n_head=model.get_output_embeddings().weight.numel(),
        n_layers=len(model.get_decoder().layers),
        hidden=model.config.hidden_size,
        queries=layer.self_attn.q_proj.out_features,
        keys=layer.self_attn.k_proj.out_features,
        feed_forward=layer.mlp.up_proj.out_features,
        vocabulary=model.get_output_embeddings().weight.shape[0],
    )


@dataclass(frozen=True)
class Memory:
    """Bytes that one rank needs at once, by what they are for; see the module's formulas."""

    weights: float
    gradients: float
    optimiser: float
    copies: float
    activations: float
    head: float
    ends: float

    @property
    def step(self) -> float:
        """All but the ends."""
        return self.weights + self.gradients + self.optimiser + self.copies + self.activations + self.head

    @property
    def peak(self) -> float:
        """The most at any time, with what the allocator adds."""
        return max(self.step, self.ends) * ALLOCATOR


def count_trained(shapes: Shapes, train: TrainConfig, model: PreTrainedModel) -> int:
    """Count the weights that are trained: all, or those of the adapters."""
    rank = train.lora.rank
    if rank == 0:
        return shapes.n_parameters
    adapted = [m for name, m in model.named_modules() if name.rsplit(".", 1)[-1] in train.lora.target_modules]
    return sum(rank * (module.in_features + module.out_features) for module in adapted)


def estimate_memory(shapes: Shapes, n_trained: int, train: TrainConfig, n_ranks: int, *, is_half: bool) -> Memory:
    """Estimate the memory of one rank.

    Parameters
    ----------
    shapes : Shapes
    n_trained : int
    train : TrainConfig
    n_ranks : int
    is_half : bool
        Products in bfloat16.
    """
    n_all = shapes.n_parameters + (n_trained if train.lora.rank else 0)
    is_full = train.lora.rank == 0
    width = 2 if is_half else 4
    rows = -(-train.batch_rows // n_ranks)
    tokens = min(train.rows_per_pass or rows, rows) * train.max_length
    inner = 2 * shapes.hidden + 4 * shapes.queries + 4 * shapes.keys + 4 * shapes.feed_forward
    a_layer = 8 * shapes.hidden + width * inner
    kept = 4 * shapes.hidden * shapes.n_layers + a_layer if train.recompute else a_layer * shapes.n_layers
    copies = 2.0 * shapes.n_parameters if is_half else 0.0
    if n_ranks > 1:
        copies = width * shapes.n_matrices * (3 if is_full else 2) + 4 * shapes.n_outside * (2 if is_full else 1)
    ends = 4.0 * n_all
    if n_ranks > 1:
        ends = 4.0 * n_all / n_ranks + max(4.0 * shapes.n_largest, float(width * n_all))
    head = BYTES_A_LOGIT * tokens * shapes.vocabulary
    return Memory(
        weights=4 * n_all / n_ranks,
        gradients=4 * n_trained / n_ranks,
        optimiser=8 * n_trained / n_ranks,
        copies=float(copies),
        activations=float(tokens * kept),
        head=float(min(head, train.head_budget_mib * 2**20)),
        ends=ends,
    )


def count_operations(shapes: Shapes, train: TrainConfig, mean_length: float, target_share: float = 1.0) -> float:
    """Count floating-point operations a token; see the module's formulas.

    Parameters
    ----------
    shapes : Shapes
    train : TrainConfig
    mean_length : float
        Tokens a document, for the attention.
    target_share : float
        Share of the tokens that are learned.
    """
    backward = 4 if train.lora.rank == 0 else 2
    a_weight = 2 + backward + (2 if train.recompute else 0)
    attention = (8 if train.recompute else 6) * shapes.n_layers * shapes.queries * mean_length
    layers = a_weight * shapes.n_layers * shapes.n_matrices
    return float(layers + (2 + backward) * shapes.n_head * target_share + attention)
