"""A run's draw at full size against Hugging Face ``datasets``: 100,000 documents with exact quotas from 800,000.

Equal work: quotas, documents of each domain without replacement, shuffled together, written to Parquet; both must have
the same counts, each document once. Beside it, what a run needs further: its candidate pool by tilted sampling, and
the packing plan of the first epoch. One thread each.

    python benchmarks/pool_draws.py [--documents 800000] [--samples 100000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pool_data import CONTEXT, DOMAINS, make_pool, time_best

from causalmix.config import CandidateConfig
from causalmix.mixture.allocate import allocate
from causalmix.pool.candidate import CandidatePool, draw_candidates, draw_documents
from causalmix.pool.store import Pool
from causalmix.run.manifest import write_manifest
from causalmix.train.batches import plan_batches
from causalmix.train.packing import measure_fill

WEIGHTS = (0.301, 0.25, 0.149, 0.2, 0.1)
BATCH_ROWS = 32
N_TIMES = 5
AIM_S, AIM_FILL = 0.5, 0.999


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=800_000)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    options = parser.parse_args(arguments)
    with TemporaryDirectory() as folder:
        result = measure(make_pool(options.documents), options.samples, Path(folder))
    print(f"{options.samples} documents from {options.documents}")
    for row in result["rows"]:
        print(f"{row['what']:52} {row['seconds']:>8.3f} s")
    print(f"the peer takes {result['times_peer']} times as long for the same documents a domain")
    met = result["total_s"] <= AIM_S and result["fill"] >= AIM_FILL
    print(
        f"manifest and plan {result['total_s']:.3f} s, fill {result['fill']:.3%} of {CONTEXT} places a row: "
        f"the aim of {AIM_S} s and {AIM_FILL:.1%} is {'met' if met else 'missed'}"
    )
    if options.json:
        content = {
            "command": f"python benchmarks/pool_draws.py --documents {options.documents} --samples {options.samples}",
            "date": datetime.now(UTC).date().isoformat(),
            **result,
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def measure(pool: Pool, n_samples: int, folder: Path) -> dict[str, Any]:
    """Time every step of a run's draw, and the peer's."""
    weights = np.array(WEIGHTS)
    tilted_s, _ = time_best(lambda: draw_candidates(pool, CandidateConfig(), 0), N_TIMES)
    # The peer knows no tilted candidate pools: both draw from the whole pool.
    everything = draw_candidates(pool, CandidateConfig(kind="all"), 0)
    manifest_s, documents = time_best(lambda: draw_ours(pool, everything, weights, n_samples, folder), N_TIMES)
    lengths = pool.store.lengths()

    def plan() -> Any:
        return plan_batches(lengths[documents], documents, max_length=CONTEXT, batch_rows=BATCH_ROWS, seed=0, window=0)

    plan_s, planned = time_best(plan, N_TIMES)
    quotas = np.bincount(pool.domain_ids[documents], minlength=len(DOMAINS))
    peer_s, theirs = time_peer(pool, quotas, folder)
    for drawn in (documents, theirs):
        assert len(np.unique(drawn)) == n_samples
        assert np.array_equal(np.bincount(pool.domain_ids[drawn], minlength=len(DOMAINS)), quotas)
    n_rows = sum(map(len, planned.steps))
    rows = [
        {"what": "ours: quotas, documents, manifest.parquet", "seconds": manifest_s},
        {"what": "datasets: shuffle and select a domain, to Parquet", "seconds": peer_s},
        {"what": "ours: candidate pool, tilted", "seconds": tilted_s},
        {"what": "ours: packing plan", "seconds": plan_s},
    ]
    return {
        "rows": rows,
        "quotas": dict(zip(DOMAINS, quotas.tolist())),
        "times_peer": round(peer_s / manifest_s, 1),
        "total_s": tilted_s + manifest_s + plan_s,
        "fill": measure_fill(lengths[documents], n_rows, CONTEXT),
    }


def draw_ours(
    pool: Pool, candidates: CandidatePool, weights: NDArray[np.float64], n_samples: int, folder: Path
) -> NDArray[np.int64]:
    """Draw a manifest as a run does."""
    available = {domain: int(n) for domain, n in zip(pool.domains, candidates.counts)}
    counts = allocate(weights, n_samples, available, 4.0)
    documents = draw_documents(pool, candidates, counts, 4.0, np.random.default_rng(0))
    write_manifest(folder / "manifest.parquet", pool, documents)
    return documents


def time_peer(pool: Pool, quotas: NDArray[np.int64], folder: Path) -> tuple[float, NDArray[np.int64]]:
    """Draw the quotas with ``datasets``, whose table of documents and split by domain are made beforehand."""
    import datasets
    import pyarrow as pa

    datasets.disable_progress_bars()
    ids = np.arange(pool.n_documents)
    parts = []
    for domain, name in enumerate(DOMAINS):
        members = ids[pool.domain_ids == domain]
        parts.append(datasets.Dataset(pa.table({"document": members, "domain": [name] * len(members)})))

    def draw() -> NDArray[np.int64]:
        chosen = [part.shuffle(seed=0).select(range(int(quota))) for part, quota in zip(parts, quotas)]
        mixed = datasets.concatenate_datasets(chosen).shuffle(seed=0)
        mixed.to_parquet(folder / "peer.parquet")
        return np.asarray(mixed.with_format("numpy")["document"][:])

    return time_best(draw, N_TIMES)


if __name__ == "__main__":
    main()
