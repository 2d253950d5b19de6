"""The search for the process's hyper-parameters."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.estimators.gp.climb import FARTHEST, SLOPE, Evidence, _Climb, _Place
from analysis.estimators.gp.evidence import fit_values, solve
from analysis.estimators.gp.kernel import SMOOTHNESS, Kernel
from tests.analysis.test_gp import make_points


def to_units(kernel: Kernel, values: np.ndarray) -> np.ndarray:
    return (values - kernel.start()) / kernel.prior_sd()


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("surface", [False, True])
@pytest.mark.parametrize("smoothness", SMOOTHNESS)
def test_the_gradient_of_the_evidence_is_its_derivative(own, surface, smoothness):
    points, columns, y = make_points(own=own)
    kernel = Kernel(columns, smoothness, surface)
    values = kernel.start() + 0.3 * np.random.default_rng(1).normal(size=kernel.size)

    def evidence(at):
        return solve(kernel.covariance(at, points), y[:, None], y).log_evidence

    def cost(at):
        return -evidence(at) + 0.5 * float(((at - kernel.start()) / kernel.prior_sd()) ** 2 @ np.ones(kernel.size))

    place = _Place(_Climb(Evidence(kernel, points, y), kernel.start(), None, ()), to_units(kernel, values))
    assert place.cost == pytest.approx(cost(values), abs=1e-6)
    numeric = [(cost(values + 1e-5 * e) - cost(values - 1e-5 * e)) / 2e-5 for e in np.eye(kernel.size)]
    assert np.allclose(place.turn[0] / kernel.prior_sd(), numeric, atol=1e-6)


@pytest.mark.parametrize("own", [False, True])
def test_the_curvature_is_the_average_information(own):
    """``y'P dK_i P dK_j P y / 2`` of derivatives by finite differences, with P the inverse, and 1 for the prior."""
    points, columns, y = make_points(own=own)
    kernel = Kernel(columns, "matern52", True)
    values = kernel.start() + 0.2
    inverse = np.linalg.inv(kernel.covariance(values, points))
    steps = 1e-5 * np.diag(kernel.prior_sd())
    moved = [
        (kernel.covariance(values + e, points) - kernel.covariance(values - e, points)) @ inverse @ y / 2e-5
        for e in steps
    ]
    expected = 0.5 * np.stack(moved) @ inverse @ np.stack(moved).T + np.eye(kernel.size)
    climb = _Climb(Evidence(kernel, points, y), kernel.start(), None, ())
    assert np.allclose(climb.curvature(to_units(kernel, values)), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fixed", [(), (3,)])
def test_a_search_ends_where_the_evidence_is_flat(fixed):
    points, columns, y = make_points(n=60)
    kernel, extra = Kernel(columns, "matern52", True), 0.3 * np.outer(points.Z[:, 0], points.Z[:, 0])
    evidence, known = Evidence(kernel, points, y), kernel.start() + 0.1
    found = evidence.maximise(60, extra, known, fixed)
    assert [i for i in range(kernel.size) if found[i] == known[i]] == list(fixed)
    climb = _Climb(evidence, found, extra, fixed)
    assert np.linalg.norm(climb.slope(climb.start)) < SLOPE
    assert climb.cost(climb.start) < climb.cost((known[climb.free] - climb.centre) / climb.sd)
    assert climb.cost(climb.start + 1.01 * FARTHEST / climb.sd) == np.inf
    assert np.array_equal(found, evidence.maximise(60, extra, known, fixed))


def test_a_search_without_noise_ends_too():
    """Outcomes that are a line in z alone: the noise goes where it is too small to matter, and no covariance fails."""
    points, columns, _ = make_points(n=60)
    kernel, y = Kernel(columns, "matern52", True), points.R[:, 0] - points.R[:, 0].mean()
    found = fit_values(kernel, points, y, 60)
    assert np.exp(found[4]) < 0.01
    assert np.isfinite(Evidence(kernel, points, y).score(found))


def test_one_scale_at_many_sizes_is_scored_as_each():
    points, columns, y = make_points()
    kernel, extra = Kernel(columns, "matern52", True), 0.3 * np.outer(y, y)
    evidence, values, sizes = Evidence(kernel, points, y), kernel.start(), np.array([-3.0, -1.0, 0.5])
    alone = []
    for size in sizes:
        K = kernel.covariance(np.concatenate([values[:3], [size], values[4:]]), points) + extra
        alone.append(solve(K, y[:, None], y).log_evidence)
    assert np.allclose(evidence.score_scales(values, 3, sizes, extra), alone)
    assert evidence.score(values) == pytest.approx(solve(kernel.covariance(values, points), y[:, None], y).log_evidence)


def test_hyper_parameters_find_the_noise():
    points, columns, _ = make_points(n=200)
    kernel = Kernel(columns, "matern32", False)
    truth = kernel.start()
    truth[4] = np.log(0.1)
    rng = np.random.default_rng(0)
    y = np.linalg.cholesky(kernel.covariance(truth, points)) @ rng.normal(size=200)
    assert np.exp(fit_values(kernel, points, y, 60)[4]) == pytest.approx(0.1, rel=0.3)


@pytest.mark.parametrize("searched", [True, False])
def test_the_inverse_is_that_of_the_covariance_with_its_base_where_a_search_ended_and_elsewhere(searched):
    points, columns, y = make_points(n=60)
    kernel = Kernel(columns, "matern52", True)
    base = 0.3 * np.outer(points.R.sum(axis=1), points.R.sum(axis=1))
    evidence = Evidence(kernel, points, y, base)
    values = evidence.maximise(60) if searched else kernel.start()
    assert bool(evidence._ended) == searched
    expected = solve(kernel.covariance(values, points) + base, y[:, None], y)
    inverse, log_evidence = evidence.invert(values)
    assert np.allclose(inverse, expected.inverse, atol=1e-6 * np.abs(expected.inverse).max())
    assert log_evidence == pytest.approx(expected.log_evidence)
    assert evidence.score(values) == pytest.approx(expected.log_evidence)
