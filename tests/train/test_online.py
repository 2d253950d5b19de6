"""An online run: quotas and repeats, one domain a row, resumed bit by bit."""

from __future__ import annotations

import contextlib
import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from causalmix.errors import TrainError
from causalmix.mixture.odm import RULES
from causalmix.train.loop import TrainResult, train
from causalmix.train.online import Online, OnlineSteps
from tests.train.stores import make_config, make_model, make_store

torch.set_num_threads(1)
LENGTHS = [20, 14, 30, 25, 11, 40, 9, 22, 17, 35, 28, 13]
STORE = make_store(LENGTHS)
IDS = np.arange(len(STORE))
KEPT = ("step", "loss", "lr", "grad_norm", "n_tokens", "weight.", "share.", "left.")  # what no clock decides
DOMAINS = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2])


def make_online(n_samples: int = 20, repeats_max: float = 4.0, **options: Any) -> Online:
    return Online(("code", "math", "safety"), DOMAINS, n_samples, repeats_max, **options)


class Killed(Exception):  # noqa: N818
    """Stands for a signal that ends the process at a step."""


def run(
    online: Online, cfg: Any, stop_at: int | None = None, **options: Any
) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]], TrainResult | None]:
    model, lines, result = make_model(), [], None

    def log(values: dict[str, Any]) -> None:
        lines.append({key: value for key, value in values.items() if key.startswith(KEPT) and key != "step_s"})
        if values["step"] == stop_at:
            raise Killed

    with contextlib.suppress(Killed):
        result = train(model, STORE, IDS, cfg, seed=5, log=log, online=online, **options)
    return {name: p.detach().clone() for name, p in model.named_parameters()}, lines, result


@settings(deadline=None)
@given(
    n_samples=st.integers(1, 30),
    repeats=st.sampled_from([1.0, 2.5, 4.0]),
    batch_rows=st.integers(1, 4),
    per_pass=st.integers(0, 2),
    n_epochs=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_the_documents_are_those_asked_for(
    n_samples: int, repeats: float, batch_rows: int, per_pass: int, n_epochs: int, seed: int
) -> None:
    n_samples = min(n_samples, 12 * int(repeats))
    cfg = make_config(batch_rows=batch_rows, rows_per_pass=per_pass, n_epochs=n_epochs)
    steps = OnlineSteps(make_online(n_samples, repeats), STORE.lengths(), IDS, cfg, seed)
    rng = np.random.default_rng(seed)
    position = 0
    while position < steps.size:
        drawn = steps.draw(len(steps.path))
        passes, position = drawn.passes, drawn.position
        rows = [row for part in passes for row in part]
        assert len(rows) <= batch_rows
        assert all(len(part) <= per_pass for part in passes) or not per_pass
        assert all(len(set(DOMAINS[[document for row in part for document in row]])) == 1 for part in passes)
        assert max(sum(LENGTHS[i] for i in row) for row in rows) <= cfg.max_length
        steps.observe(rng.random(len(passes)).tolist(), [3] * len(passes))
    seen = steps.list_seen()
    assert len(seen) == position == n_samples * n_epochs
    counts = np.bincount(seen, minlength=12)
    for domain in range(3):
        own = counts[domain == DOMAINS]
        assert own.max() - own.min() <= 1  # whole passes first
        assert own.sum() <= n_epochs * int(len(own) * repeats)
    assert sum(steps.report()[f"share.{name}"] for name in ("code", "math", "safety")) == pytest.approx(1)


def test_a_domain_that_is_spent_leaves_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    cfg = make_config(batch_rows=1)
    steps = OnlineSteps(make_online(11, 1.0), STORE.lengths(), IDS, cfg, 0)
    with caplog.at_level(logging.WARNING):
        while steps.position < steps.size:
            passes = steps.draw(len(steps.path)).passes
            spent = {name for name, n in zip(("code", "math", "safety"), steps.left) if n == 0}
            steps.observe([1.0] * len(passes), [1] * len(passes))
    assert spent  # eleven of twelve: two domains at least
    for name in spent:
        assert any(f"{name} has given its" in message for message in caplog.messages)
        assert steps.bandit.weigh(steps.left > 0)[("code", "math", "safety").index(name)] == 0


def test_more_than_all_repeats_is_refused() -> None:
    with pytest.raises(TrainError, match=r"needs 13 documents; the domains give 12 with 1 repeats: code 4, math 5"):
        OnlineSteps(make_online(13, 1.0), STORE.lengths(), IDS, make_config(), 0)


@pytest.mark.parametrize("rule", RULES)
def test_a_kill_at_any_step_resumes_to_the_same_bits(tmp_path: Path, rule: str) -> None:
    online, cfg = make_online(24, rule=rule), make_config(checkpoint_every=2, lr_peak=2e-2)
    reference, lines, result = run(online, cfg)
    n_steps = len(lines)
    assert result is not None
    assert n_steps >= 6
    for step in range(1, n_steps + 1, 2):
        folder = tmp_path / str(step)
        run(online, cfg, stop_at=step, checkpoint_dir=folder)
        resumed, rest, again = run(online, cfg, checkpoint_dir=folder)
        assert again is not None
        assert all(torch.equal(resumed[name], reference[name]) for name in reference)
        assert rest == lines[(step - 1) // 2 * 2 :]
        assert again.documents.tolist() == result.documents.tolist()


def test_the_checkpoint_of_another_bandit_is_refused(tmp_path: Path) -> None:
    cfg = make_config(checkpoint_every=2)
    run(make_online(), cfg, stop_at=3, checkpoint_dir=tmp_path)
    for other in (make_online(memory=0.5), make_online(rule="sum"), make_online(21)):
        with pytest.raises(TrainError, match="checkpoint of another training"):
            run(other, cfg, checkpoint_dir=tmp_path)


def test_what_is_reported_is_what_was_done() -> None:
    _, lines, result = run(make_online(30), make_config())
    assert result is not None
    assert result.n_samples == len(result.documents) == 30
    assert result.n_tokens == sum(LENGTHS[i] for i in result.documents)
    assert result.n_steps == len(lines)
    shares = Counter(DOMAINS[result.documents].tolist())
    assert result.report["share.math"] == pytest.approx(shares[1] / 30)
    assert {name for name in lines[0] if name.startswith("weight.")} == {"weight.code", "weight.math", "weight.safety"}
    assert all(sum(v for k, v in line.items() if k.startswith("weight.")) == pytest.approx(1) for line in lines)
    lr = [line["lr"] for line in lines]
    assert lr[-1] < max(lr) / 2  # the schedule follows the documents to its end
    json.dumps(lines)


def test_the_domain_that_is_learned_worst_is_drawn_more() -> None:
    # Domain "code" is random, the two others repeat one token: their loss falls at once.
    store = make_store([24] * 60)
    tokens = np.array(store.tokens)
    ids = np.repeat(np.arange(3), 20)
    tokens[store.offsets[20] :] = 5
    simple = type(store)(tokens, store.labels, store.offsets)
    online = Online(("code", "math", "safety"), ids, 60 * 4, 20.0, rule="perplexity")
    result = train(make_model(), simple, np.arange(60), make_config(lr_peak=2e-2), seed=0, online=online)
    assert result.report["weight.code"] > 0.6
    assert result.report["share.code"] > 0.45
