"""Sequences that begin alike, read once, against each of them alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from causalmix.evaluate.prefixes import grow_tree, lay_out_tree, sort_sequences
from causalmix.train import branches
from causalmix.train.decoder import run_decoder
from tests.evaluate.files import make_model

torch.set_num_threads(1)
SEQUENCES = st.sets(st.lists(st.integers(0, 2), min_size=1, max_size=7).map(tuple), min_size=1, max_size=12)


@given(sequences=SEQUENCES)
def test_every_beginning_stands_once(sequences: set[tuple[int, ...]]) -> None:
    given_ = [np.array(one) for one in sequences]
    ordered = [given_[at] for at in sort_sequences(given_)]
    tree = grow_tree(ordered)
    for path, sequence in zip(tree.paths, ordered):
        assert tree.tokens[path].tolist() == sequence.tolist()
        assert tree.positions[path].tolist() == list(range(len(sequence)))
    beginnings = {one[:stop] for one in sequences for stop in range(1, len(one) + 1)}
    assert len(tree.tokens) == len(beginnings) == tree.counts.sum()


def make_sequences() -> list[np.ndarray]:
    """Short and long ones, with trunks of their own and without."""
    rng = np.random.default_rng(3)
    trunks = [rng.integers(0, 300, size) for size in (3, 20, 90)]
    made = [np.concatenate([trunk, rng.integers(0, 300, size)]) for trunk in trunks for size in (1, 2, 9, 40)]
    made += [rng.integers(0, 300, size) for size in (1, 70, 130)] + [trunks[1], made[5][:25]]
    return [made[at] for at in sort_sequences(made)]


@pytest.mark.parametrize("at_once", [branches.AT_ONCE, 500])
@torch.inference_mode()
def test_states_are_those_of_each_sequence_alone(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branches, "AT_ONCE", at_once)
    model, sequences = make_model().double(), make_sequences()
    tree = grow_tree(sequences)
    assert len(tree.tokens) < sum(map(len, sequences)) - 350
    asked = [path[len(path) // 2 :] for path in tree.paths]
    where = np.unique(np.concatenate(asked))
    nodes, layout = lay_out_tree(tree, where, torch.device("cpu"))
    states = run_decoder(model, nodes, layout)
    assert states.shape == (len(where), 32)
    for sequence, places in zip(sequences, asked):
        alone = model.model(torch.from_numpy(sequence)[None]).last_hidden_state[0, -len(places) :]
        assert torch.allclose(states[np.searchsorted(where, places)], alone, rtol=0, atol=5e-6)  # its norms are float32


def test_a_short_beginning_of_a_long_sequence_is_read_again() -> None:
    rng = np.random.default_rng(0)
    start = rng.integers(0, 300, 5)
    made = [np.concatenate([start, rng.integers(0, 300, 100)]) for _ in range(3)]
    tree = grow_tree([made[at] for at in sort_sequences(made)])
    assert tree.counts.tolist() == [105, 105, 105]
    _, layout = lay_out_tree(tree, np.arange(0, 315, 7), torch.device("cpu"))
    assert all(group.places is None for group in layout.groups)  # no mask: a kernel's own causal attention
