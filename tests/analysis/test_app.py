from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from analysis.app import analyse_table, run
from analysis.estimators.fit import FAMILIES
from causalmix.config import TargetConfig
from causalmix.mixture.file import read_mixture
from causalmix.mixture.simplex import validate_weights
from tests.analysis.synthetic import DOMAINS, FEATURES, make_config, make_frame, make_runs, make_world

ROOT = Path(__file__).resolve().parents[2]
NAMES = [f"{f}.{d}" for f in FEATURES for d in DOMAINS]
KEYS = {
    *("weights", "candidate", "advice", "reason", "reference", "counts", "policy", "estimator", "state"),
    *("gain", "spread", "spread_l1", "shadow_prices", "support", "theta", "exchange", "baselines", "checks"),
    *("fingerprints", "n_runs", "randomised", "notes"),
}


def make_target(**changes: float) -> TargetConfig:
    state = dict.fromkeys(NAMES, 0.0) | {name.replace("_", ".", 1): v for name, v in changes.items()}
    return TargetConfig(state=state, reference="equal")


def measure_gain(target: TargetConfig, weights) -> float:
    own = np.array([[[target.state[f"{f}.{d}"] for f in FEATURES] for d in DOMAINS]])
    theta = make_world().theta(own)[0]
    return float(theta @ (np.log(weights) - np.log(0.2)))


def test_the_advice_is_worth_what_it_says():
    """On a known truth the advised mixture gains, and the interval holds what it gains."""
    held = []
    for seed in range(8):
        target = make_target(hes_code=0.8, hes_math=-0.8)
        analysis = analyse_table(make_config(target=target), make_runs(make_frame(200, seed=seed)))[0]
        true = measure_gain(target, analysis.weights)
        assert analysis.advice == "given"
        assert true > 1.0
        held.append(analysis.gain.low <= true <= analysis.gain.high)
    assert sum(held) >= 6


def test_two_pools_with_junk_elsewhere_get_two_mixtures():
    runs = make_runs(make_frame(200))
    first = analyse_table(make_config(target=make_target(hes_code=0.8, hes_math=-0.8)), runs)[0]
    second = analyse_table(make_config(target=make_target(hes_code=-0.8, hes_math=0.8)), runs)[0]
    code, math = DOMAINS.index("code"), DOMAINS.index("math")
    assert first.weights[code] > second.weights[code] + 0.1
    assert second.weights[math] > first.weights[math] + 0.1


def test_refits_give_the_spread_of_the_mixture_and_repeat_themselves():
    cfg = make_config(n_refits=4, target=make_target())
    runs = make_runs(make_frame(120))
    first, second = (analyse_table(cfg, runs, progress=False)[0] for _ in range(2))
    assert first.to_json() == second.to_json()
    assert first.spread.mixtures.shape == (4, len(DOMAINS))
    assert 0 < first.spread.l1 < 2
    one_thread = analyse_table(make_config(n_refits=4, target=make_target(), n_threads=1), runs)[0]
    assert np.array_equal(one_thread.spread.mixtures, first.spread.mixtures)


@pytest.mark.parametrize("policy", ["causalmix_a", "causalmix_s", "equal", "natural", "best_observed"])
@pytest.mark.parametrize("estimator", ["causal_forest", "own_state", "no_orthogonalisation", "no_covariates"])
def test_every_pair_answers(estimator, policy):
    analysis = analyse_table(make_config(estimator, policy), make_runs(make_frame(80)))[0]
    content = json.loads(json.dumps(analysis.to_json(), allow_nan=False))
    assert not KEYS - set(content)
    validate_weights(content["weights"], DOMAINS)
    validate_weights(content["candidate"], DOMAINS)
    if analysis.advice == "withheld":
        assert content["weights"] == content["reference"]


def test_counts_and_caps_are_those_of_the_target():
    available = dict.fromkeys(DOMAINS, 1000) | {"code": 50}
    target = make_target(hes_code=0.8)
    target.available, target.n_samples, target.repeats_max = available, 1000, 4.0
    analysis = analyse_table(make_config(target=target), make_runs(make_frame(200)))[0]
    assert analysis.candidate.weights[DOMAINS.index("code")] == pytest.approx(0.2)
    assert analysis.shadow_prices["cap.code"] > 0
    assert sum(count["n"] for count in analysis.counts.values()) == 1000
    assert analysis.counts["code"] == {"n": 200, "repeats": 4.0}


def test_a_state_file_names_the_pool(tmp_path):
    content = {
        "format": 1,
        "pool_fingerprint": "abc",
        "available": dict.fromkeys(DOMAINS, 500),
        "natural": dict(zip(DOMAINS, [0.1, 0.2, 0.3, 0.2, 0.2])),
        "state": dict.fromkeys(NAMES, 0.1) | dict.fromkeys(FEATURES, 0.1),
    }
    (tmp_path / "state.json").write_text(json.dumps(content))
    target = TargetConfig(state_file=str(tmp_path / "state.json"), n_samples=1000)
    analysis = analyse_table(make_config(target=target), make_runs(make_frame(80)))[0]
    assert np.allclose(analysis.target.reference, [0.1, 0.2, 0.3, 0.2, 0.2])
    assert np.allclose(analysis.target.x, 0.1)
    assert analysis.fingerprints["pool"] == "abc"


def test_what_was_assumed_is_said():
    notes = " ".join(analyse_table(make_config(), make_runs(make_frame(80)))[0].notes)
    assert "the mean state of the runs was taken" in notes
    assert "no domain is capped" in notes
    assert "the mean mixture of the runs stands in" in notes


def test_the_files_are_written(tmp_path):
    make_frame(80).to_csv(tmp_path / "runs.csv", index=False)
    cfg = make_config(runs=str(tmp_path / "runs.csv"), output_dir=str(tmp_path / "out"), report=False)
    ((analysis, paths),) = run(cfg, progress=False)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["checks.json", "mixture.json"]
    written = json.loads(paths["mixture"].read_text())
    assert written == json.loads(json.dumps(analysis.to_json()))
    assert json.loads(paths["checks"].read_text()) == written["checks"]
    assert read_mixture(paths["mixture"]) == written["weights"]


def call(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }
    return subprocess.run(
        [sys.executable, "-m", "analysis", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_the_command_from_a_csv_to_a_mixture(tmp_path):
    make_frame(80).to_csv(tmp_path / "runs.csv", index=False)
    done = call(
        "runs=runs.csv",
        "policy=causalmix_a",
        "estimator.n_trees=100",
        "target.state={hes: .1, normalized_loss: 0, writing_style: -.1}",
        "baselines=[equal,natural]",
        "n_refits=2",
        "output_dir=out",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    content = json.loads((tmp_path / "out" / "mixture.json").read_text())
    assert content["estimator"]["kind"] in FAMILIES
    assert any(note.startswith("estimator=auto took") for note in content["notes"])
    assert content["state"]["hes"] == 0.1
    assert "advice" in done.stdout
    assert "out/mixture.json" in done.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "runs.csv"]
    html = (tmp_path / "out" / "report.html").read_text()
    assert "<svg" in html


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs=nowhere.csv"], "error: runs=nowhere.csv: no such file"),
        ([], "error: runs=... is missing"),
        (["policy.rhoo=3"], "unknown key 'policy.rhoo' (did you mean 'policy.rho'?)"),
        (["estimator=causal_forst"], "did you mean 'causal_forest'?"),
        (["runs=runs.csv", "target.state={hess: 1}"], "unknown 'hess' (did you mean 'hes'?)"),
    ],
)
def test_a_mistake_is_one_message_and_status_2(tmp_path, arguments, message):
    make_frame(60).to_csv(tmp_path / "runs.csv", index=False)
    done = call(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_help_is_quick_and_needs_no_estimator(tmp_path):
    start = time.monotonic()
    done = call("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "estimator: auto, causal_forest" in done.stdout
    assert time.monotonic() - start < 10  # about a second on a quiet machine
    probe = (
        "import sys, analysis.__main__; "
        "print([m for m in ('econml', 'lightgbm', 'torch', 'sklearn') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    loaded = subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
