"""Shared over the whole session: one tiny prepared pool, and the base model that its runs start from.

``tiny_outputs`` is a folder to hand to launch.py as ``outputs=``: the pool and the base in it are made
once (a few seconds on one thread), whichever test asks first and in whichever xdist worker; making
them is safe against a second worker doing the same at the same time. Sweeps in it do not disturb each
other as long as their designs differ; a test that kills or counts gives its own ``sweep_dir``.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings

from tests.tiny import compose_tiny

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A change is judged on the same examples as its neighbour; `make fuzz` looks for new ones.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("fuzz", print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of the longest tests: two processes then end together, and none is left with one alone."""
    n_slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -n_slow[item.path])


@pytest.fixture(scope="session")
def tiny_outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs folder with the tiny pool and base prepared; see the module's text."""
    import torch

    from causalmix.sweep.points import Inputs, find_base

    torch.set_num_threads(1)
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    outputs = shared / "tiny-outputs"
    inputs = Inputs(outputs)
    plain = compose_tiny(outputs)
    find_base(plain, inputs.prepare_pool(plain), inputs, {})
    return outputs
