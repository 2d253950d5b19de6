"""One prepared demo pool and mixtures of its domains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from causalmix.pool.store import Pool, open_pool
from tests.pool.conftest import tiny_config


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    from causalmix.pool.prepare import prepare

    return open_pool(prepare(tiny_config(), tmp_path_factory.mktemp("outputs"), progress=False))


def write_mixture(path: Path, weights: dict[str, float], **more: Any) -> Path:
    path.write_text(json.dumps({"advice": "given", "reason": "", "weights": weights, **more}))
    return path


def make_counts(counts: dict[str, int], available: dict[str, int]) -> dict[str, Any]:
    return {name: {"n": n, "repeats": n / available[name]} for name, n in counts.items()}
