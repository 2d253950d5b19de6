"""A run's draw at the size of a real pool: exact quotas, full rows, the same bytes wherever it is made."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from causalmix.config import CandidateConfig
from causalmix.mixture.allocate import allocate
from causalmix.pool.candidate import _choose_largest, draw_candidates, draw_documents
from causalmix.pool.store import Pool
from causalmix.run.manifest import write_manifest
from causalmix.train.batches import plan_batches
from causalmix.train.packing import measure_fill
from causalmix.train.tokens import TokenStore
from tests.tiny import ROOT, launch_tiny, make_environment

DOMAINS = ("coding", "knowledge", "math")


def make_pool(n: int) -> Pool:
    """A pool of n documents whose tokens take no room."""
    rng = np.random.default_rng(0)
    domain_ids = rng.choice(3, n, p=[0.5, 0.2, 0.3]).astype(np.uint16)
    lengths = (np.array([400, 60, 300])[domain_ids] * rng.lognormal(0, 0.9, n)).astype(np.int64) + 8
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    zeros = np.broadcast_to(np.zeros(1, np.uint16), (int(offsets[-1]),))
    frozen = {"features": ["hes", "normalized_loss", "writing_style"], "mean": [0.0] * 3, "sd": [1.0] * 3}
    store = TokenStore(zeros, zeros.view(), offsets)
    facts = {"fingerprint": "0" * 16, "normaliser": frozen}
    return Pool(Path(), facts, DOMAINS, domain_ids, rng.random(n) < 0.1, store, rng.standard_normal((n, 3)))


def draw(pool: Pool, n_samples: int, path: Path) -> tuple[np.ndarray, str]:
    """Draw and plan a run; return its documents, and a hash of everything that was made."""
    candidates = draw_candidates(pool, CandidateConfig(), seed=3)
    available = {domain: int(n) for domain, n in zip(pool.domains, candidates.counts)}
    counts = allocate(np.array([0.4, 0.35, 0.25]), n_samples, available, 4.0)
    documents = draw_documents(pool, candidates, counts, 4.0, np.random.default_rng(5))
    write_manifest(path, pool, documents)
    lengths = pool.store.lengths()[documents]
    plan = plan_batches(lengths, documents, max_length=4096, batch_rows=32, seed=[1, 0], window=0)
    assert measure_fill(lengths, sum(map(len, plan.steps)), 4096) >= 0.999
    made = candidates.fingerprint.encode() + path.read_bytes() + repr(plan.steps).encode()
    return documents, hashlib.sha256(made).hexdigest()


@given(keys=st.lists(st.integers(-5, 5), min_size=1, max_size=40), data=st.data())
def test_the_largest_are_those_of_a_stable_sort(keys: list[int], data: st.DataObject) -> None:
    size = data.draw(st.integers(0, len(keys)))
    given = np.array(keys, dtype=np.float64)
    expected = np.sort(np.argsort(-given, kind="stable")[:size])
    if size:
        np.testing.assert_array_equal(_choose_largest(given, size), expected)


def test_quotas_are_exact_and_documents_come_once_before_twice(tmp_path: Path) -> None:
    pool = make_pool(100_000)
    documents, _ = draw(pool, 20_000, tmp_path / "manifest.parquet")
    counts = np.bincount(pool.domain_ids[documents], minlength=3)
    assert counts.tolist() == [8000, 7000, 5000]
    assert len(np.unique(documents)) == len(documents)
    assert not pool.is_reference[documents].any()


HASH = """
import sys
from pathlib import Path
from tests.pool.test_draws import draw, make_pool
print(draw(make_pool(50_000), 20_000, Path(sys.argv[1]))[1])
"""


@pytest.mark.parametrize("threads", ["1", "4"])
def test_another_process_with_other_threads_draws_the_same_bytes(tmp_path: Path, threads: str) -> None:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ARROW_NUM_THREADS", "PYTHONHASHSEED")
    environment = make_environment() | dict.fromkeys(names, threads)
    command = [sys.executable, "-c", HASH, str(tmp_path / "there.parquet")]
    there = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    assert there.stdout.strip() == draw(make_pool(50_000), 20_000, tmp_path / "here.parquet")[1]
    assert (tmp_path / "there.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()


@pytest.mark.slow
def test_manifests_are_the_same_for_any_number_of_workers(tmp_path: Path, tiny_outputs: Path) -> None:
    made = []
    for workers in (1, 2):
        sweep = tmp_path / f"{workers}"
        overrides = ["mixture=dirichlet", "seed=range(4)", f"resources.n_workers={workers}", f"sweep_dir={sweep}"]
        done = launch_tiny(tiny_outputs, *overrides)
        assert done.returncode == 0, done.stderr
        made.append({path.parent.name: path.read_bytes() for path in sweep.glob("runs/*/manifest.parquet")})
    assert len(made[0]) == 4
    assert made[0] == made[1]
    assert len(set(made[0].values())) == 4
