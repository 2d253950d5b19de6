"""Two pools on one scale: the second is scored with the first one's models and normaliser."""

from pathlib import Path

import pytest

from causalmix.errors import PoolError
from causalmix.files import read_json
from causalmix.pool.prepare import prepare
from causalmix.pool.store import Pool, open_pool
from tests.pool.conftest import tiny_config


def test_another_pool_is_measured_on_the_scale_of_the_first(pool: Pool, tmp_path: Path) -> None:
    cfg = tiny_config(reference_fraction=0.4)  # the same documents, another slice for the models
    own = open_pool(prepare(cfg, tmp_path, progress=False))
    assert own.facts["normaliser"]["fingerprint"] != pool.facts["normaliser"]["fingerprint"]
    cfg.scores.scale_of = str(pool.path)
    shared = open_pool(prepare(cfg, tmp_path, progress=False))
    assert shared.path != own.path  # scores of another scale are another store
    for key in ("fingerprint", "mean", "sd"):
        assert shared.facts["normaliser"][key] == pool.facts["normaliser"][key]
    state = read_json(shared.path / "state.json")
    assert state["normaliser_fingerprint"] == pool.facts["normaliser"]["fingerprint"]
    texts = dict(zip(pool.ids, pool.scores))
    common = [(texts[name], score) for name, score in zip(shared.ids, shared.scores) if name in texts]
    for there, here in common[:50]:  # one document, one score, whichever pool it lies in
        assert here == pytest.approx(there, abs=1e-4)


def test_a_scale_that_cannot_be_borrowed_is_refused(pool: Pool, tmp_path: Path) -> None:
    cfg = tiny_config(reference_fraction=0.4)  # the same documents, another slice for the models
    cfg.scores.scale_of = str(tmp_path)
    with pytest.raises(PoolError, match="is no prepared pool"):
        prepare(cfg, tmp_path, progress=False)
    cfg.scores.scale_of = str(pool.path)
    cfg.scores.loss_max_length = 32
    with pytest.raises(PoolError, match=r"set pool\.scores\.loss_max_length=64"):
        prepare(cfg, tmp_path, progress=False)
