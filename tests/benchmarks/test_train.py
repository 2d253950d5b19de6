"""The benchmarks of training run and write what they print; their figures are nobody's test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import MODEL, POOL, ROOT, make_environment

pytestmark = pytest.mark.slow


def run(name: str, path: Path, *options: str) -> tuple[str, dict]:
    command = [sys.executable, f"benchmarks/{name}.py", "--json", str(path), *options]
    done = subprocess.run(command, cwd=ROOT, env=make_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(path.read_text())


def test_a_toy_of_the_gpu_benchmark(tmp_path):
    printed, written = run("train_gpu", tmp_path / "result.json", "--size", "toy")
    assert {row["arm"] for row in written["rows"]} >= {"ours", "trl packed", "hf padded"}
    for row in written["rows"]:
        assert row["tokens_per_s"] > 0
        assert 0 < row["of_peak"] < 1
        assert row["arm"] in printed
    assert written["head"]["times_floor"] > 0.5
    assert written["device"]
    assert written["date"]


def test_a_small_training_against_its_peers(tmp_path, tiny_outputs):
    overrides = [part for each in [*MODEL, *POOL] for part in ("--override", each)]
    sizes = ["--documents", "300", "--repetitions", "1", "--cells", "turns tiny", "--outputs", str(tiny_outputs)]
    printed, written = run("train", tmp_path / "result.json", *sizes, *overrides)
    assert [row["arm"] for row in written["rows"]] == ["ours", "trl", "padded"]
    losses = [row["heldout_loss"] for row in written["rows"]]
    assert max(losses) < min(losses) + 0.5
    assert written["rows"][0]["times_ours"] == {"whole_s": 1, "steady_s": 1}
    assert f"{losses[0]:.3f}" in printed


def test_a_small_evaluation_against_lm_evals_own_model(tmp_path, tiny_outputs):
    overrides = [part for each in [*MODEL, *POOL] for part in ("--override", each)]
    sizes = ["--repetitions", "1", "--outputs", str(tiny_outputs), "--override", "train.n_samples=40"]
    printed, written = run("evaluation", tmp_path / "result.json", *sizes, *overrides)
    assert len(written["cells"]) == 3
    for cell in written["cells"]:
        first = set() if "whole" in cell["cell"] else {"ours, first"}
        assert {row["arm"] for row in cell["rows"]} == {"ours, again", "lm-eval"} | first
        assert 0 <= cell["difference"] < 1e-5
    assert 0 < written["run"]["share"] < 1
    assert f"{written['run']['share']:.1%} of it" in printed


def test_without_a_gpu_its_benchmark_says_so(tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    command = [sys.executable, "benchmarks/train_gpu.py"]
    done = subprocess.run(command, cwd=ROOT, env=make_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no GPU here" in done.stderr
