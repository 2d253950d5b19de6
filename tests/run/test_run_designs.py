"""A run of every design writes its mixture, what it was drawn with, and the design's own moments."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from causalmix.errors import ConfigError, MixtureError
from causalmix.run.designs import name_arm
from causalmix.sweep.points import Inputs, plan_runs, to_config
from causalmix.sweep.settings import check_settings
from tests.plain import make_plain
from tests.run.test_proxy import Bench
from tests.tiny import compose_tiny

PARAMETERS = {
    "dirichlet": ["concentration"],
    "dirichlet_confounded": ["concentration", "confounding", "reference.math"],
    "grid": ["point"],
    "sobol": ["point"],
    "optimal": ["point"],
    "perturbation": ["point", "size_factor"],
    "regmix": ["point"],
}


@pytest.mark.parametrize(
    ("policy", "estimator", "arm"),
    [
        ("causalmix_a", "causal_forest", "causalmix_a by causal_forest"),
        ("causalmix_s", "no_covariates", "causalmix_s by no_covariates"),
        ("regmix", "no_covariates", "regmix"),  # reads no estimator: one arm whatever was set
        ("equal", "causal_forest", "equal"),
    ],
)
def test_an_ablation_is_an_arm_of_its_own(policy: str, estimator: str, arm: str) -> None:
    plain = make_plain()
    plain["mixture"].update(name="policy", kind="policy")
    plain["policy"].update(name=policy, kind=policy)
    plain["estimator"].update(name=estimator)
    assert name_arm(to_config(plain)) == arm


@pytest.fixture(scope="module")
def bench(tiny_outputs: Path) -> Bench:
    return Bench(tiny_outputs)


@pytest.mark.parametrize("kind", sorted(PARAMETERS))
def test_a_run_writes_its_design(bench: Bench, tmp_path: Path, kind: str) -> None:
    cohort = "perturbation" if kind == "perturbation" else "signal"
    record = bench.run(tmp_path, f"mixture={kind}", f"cohort={cohort}", "seed=4")
    assert record.status == "complete", record.cause
    row = record.row
    domains = sorted(name.removeprefix("mixture.") for name in row if name.startswith("mixture."))
    assert sum(row[f"mixture.{name}"] for name in domains) == pytest.approx(1.0)
    assert all(math.isfinite(row[f"design.{name}"]) for name in PARAMETERS[kind])
    mean = [row[f"design.mean_log.{name}"] for name in domains]
    assert all(-5 < value < 0 for value in mean)
    K = len(domains)
    covariance = np.zeros((K, K))
    for i in range(K):
        for j in range(i, K):
            covariance[i, j] = covariance[j, i] = row[f"design.cov_log.{domains[i]}.{domains[j]}"]
    assert np.linalg.eigvalsh(covariance).min() > -1e-9
    assert covariance.diagonal().min() > 0
    assert row["cohort"] == cohort
    if kind == "perturbation":  # the first domain, three times as much: (5 + 3) / 6 of the documents, for 6 domains
        assert row["train.n_samples"] == round(40 * (K - 1 + 3) / K) == round(40 * row["design.size_factor"])
        assert row[f"mixture.{domains[0]}"] == pytest.approx(3 / (K + 2))
    else:
        assert row["train.n_samples"] == 40


def test_a_confounded_design_has_a_mean_for_every_run_and_the_others_one_for_all(bench: Bench, tmp_path: Path) -> None:
    # Tiny pools differ by many times what pools do: pulled as hard as usual, two means may be at one floor.
    gently = ["mixture.confounding=0.01"]
    for kind, settings, differs in (("dirichlet_confounded", gently, True), ("sobol", [], False)):
        rows = [bench.run(tmp_path, f"mixture={kind}", f"seed={seed}", *settings).row for seed in (1, 2)]
        means = [{name: row[name] for name in row if name.startswith("design.mean_log.")} for row in rows]
        assert (means[0] != means[1]) == differs
        assert means[0]


def test_a_replicate_has_its_runs_point(bench: Bench, tmp_path: Path) -> None:
    one = bench.run(tmp_path, "mixture=grid", "seed=3").row
    two = bench.run(tmp_path, "mixture=grid", "seed=3", "replicate=1").row
    other = bench.run(tmp_path, "mixture=grid", "seed=5").row
    shares = [[row[name] for name in sorted(row) if name.startswith("mixture.")] for row in (one, two, other)]
    assert shares[0] == shares[1] != shares[2]


def test_runs_beyond_the_last_point_are_refused_before_any_runs(tiny_outputs: Path) -> None:
    plain = compose_tiny(tiny_outputs, "mixture=grid", "mixture.levels=1")
    points = [{**plain, "seed": seed} for seed in range(8)]
    with pytest.raises(MixtureError, match=r"mixture=grid has (\d+) points.*seed=.*6, 7\. Sweep 'seed=range\(\1\)'"):
        plan_runs(points, Inputs(tiny_outputs))


def test_perturbation_keeps_to_its_cohort(tiny_outputs: Path) -> None:
    with pytest.raises(ConfigError, match=r"no causal fit may see them; add cohort=perturbation"):
        check_settings(compose_tiny(tiny_outputs, "mixture=perturbation"))
    check_settings(compose_tiny(tiny_outputs, "mixture=perturbation", "cohort=perturbation"))
