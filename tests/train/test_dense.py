"""Attention as dense products against torch's own kernel, gradients too."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from causalmix.train.dense import attend_dense

torch.set_num_threads(1)
N, HEADS, KEY_HEADS, SIZE, SCALE = 3, 6, 2, 4, 0.3


def draw(length: int, heads: int) -> torch.Tensor:
    return torch.randn(N, length, heads, SIZE, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("n_queries", [11, 4])
def test_dense_products_equal_torchs_attention(n_queries: int) -> None:
    """As many queries as keys see those before them; fewer see what a mask says, another for each sequence."""
    torch.manual_seed(0)
    n_keys = 11
    query, key, value = draw(n_queries, HEADS), draw(n_keys, KEY_HEADS), draw(n_keys, KEY_HEADS)
    places = torch.stack([torch.randperm(n_keys)[:n_queries] for _ in range(N)])
    hidden = torch.arange(n_keys) > (places if n_queries < n_keys else torch.arange(n_keys).expand(N, -1))[..., None]
    mask = torch.zeros(hidden.shape, dtype=torch.float64).masked_fill(hidden, -torch.inf)
    parts = (part.transpose(1, 2) for part in (query, key, value))
    expected = scaled_dot_product_attention(*parts, attn_mask=mask[:, None], scale=SCALE, enable_gqa=True)
    expected = expected.transpose(1, 2)
    with torch.no_grad():
        found = attend_dense(query, key, value, mask if n_queries < n_keys else None, SCALE)
    torch.testing.assert_close(found.mixed, expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(expected)
    gradients = torch.autograd.grad((expected * weights).sum(), (query, key, value))
    for own, right in zip(found.find_gradients(weights), gradients, strict=True):
        torch.testing.assert_close(own, right, rtol=1e-11, atol=1e-12)
