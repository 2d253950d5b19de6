"""Each regressor finds its own truth, keeps its symmetries, repeats itself, and refuses what it cannot fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.regressors.boosted_trees import BoostedTrees
from analysis.regressors.gaussian_process import SqrtShareGP, _measure_evidence
from analysis.regressors.linear import LinearShares, LogShares, RidgeShares
from analysis.regressors.mixing_law import MixingLaw
from analysis.regressors.own_share import OwnShare
from causalmix.errors import AnalysisError

MAKERS = {
    "linear": LinearShares,
    "log_shares": LogShares,
    "ridge": RidgeShares,
    "lightgbm": BoostedTrees,
    "mixing_law": MixingLaw,
    "gp": SqrtShareGP,
    "own_share": lambda: OwnShare(1),
}


def draw(n, n_domains=4, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(n_domains), size=n)


def smooth_outcome(T, seed=1, noise=0.01):
    rng = np.random.default_rng(seed)
    return 3.0 + 2.0 * np.exp(-3.0 * T[:, 1]) + T[:, 0] + noise * rng.normal(size=len(T))


@pytest.mark.parametrize("name", MAKERS)
def test_a_refit_is_equal_to_the_last_bit_and_ranks_unseen_mixtures(name):
    T, new = draw(200), draw(100, seed=5)
    y = smooth_outcome(T)
    one, two = (MAKERS[name]().fit(T, y).predict(new) for _ in range(2))
    assert np.array_equal(one, two)
    assert one.shape == (100,)
    assert np.corrcoef(one, smooth_outcome(new, noise=0.0))[0, 1] > 0.7


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=5, deadline=None)
@given(shift=st.floats(-50, 50), scale=st.floats(0.1, 30))
def test_the_unit_of_the_outcome_does_not_matter(name, shift, scale):
    T = draw(60)
    y = smooth_outcome(T, noise=0.05)
    plain = MAKERS[name]().fit(T, y).predict(T)
    moved = MAKERS[name]().fit(T, shift + scale * y).predict(T)
    # Optimisers and split points stop a little elsewhere; closed forms do not.
    tolerance = 1e-8 if name in ("linear", "log_shares", "ridge", "own_share") else 0.05
    assert np.abs(moved - (shift + scale * plain)).max() < tolerance * scale * max(1.0, abs(shift) / scale)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 6))
def test_least_squares_finds_its_own_coefficients(seed, n_domains):
    T = draw(40, n_domains, seed)
    b = np.random.default_rng(seed).normal(size=n_domains)
    linear = LinearShares().fit(T, T @ b)
    assert np.allclose(linear.predict(T), T @ b, atol=1e-8)
    assert np.allclose(linear.coefficients[1:], b[:-1] - b[-1], atol=1e-6)
    logs = LogShares().fit(T, np.log(T + 1e-3) @ b)
    assert np.allclose(logs.coefficients, [0.0, *b], atol=1e-6)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_mixing_law_finds_itself_for_losses_and_for_scores(sign):
    T = draw(300)
    t = np.array([0.5, -1.0, -2.0, 0.2])
    law = MixingLaw().fit(T, 4.0 + sign * 1.5 * np.exp(T @ t))
    new = draw(50, seed=9)
    assert law.sign == sign
    assert law.floor == pytest.approx(4.0, abs=0.01)
    assert np.allclose(law.predict(new), 4.0 + sign * 1.5 * np.exp(new @ t), atol=0.01)


def test_the_mixing_law_shrugs_off_outliers():
    T = draw(200)
    clean = 4.0 + np.exp(T @ np.array([0.5, -1.0, -2.0, 0.2]))
    dirty = clean.copy()
    dirty[::20] += 10.0
    assert np.abs(MixingLaw().fit(T, dirty).predict(T) - clean).max() < 0.2
    assert np.abs(LinearShares().fit(T, dirty).predict(T) - clean).max() > 0.4


def test_the_slope_of_the_mixing_law_is_its_derivative():
    T = draw(50)
    law = MixingLaw().fit(T, smooth_outcome(T))
    step = 1e-6
    numeric = [(law.predict(T + step * e) - law.predict(T - step * e)) / (2 * step) for e in np.eye(4)]
    assert np.allclose(law.differentiate(T), np.transpose(numeric), atol=1e-5)


def test_the_gradient_of_the_evidence_is_its_derivative():
    T = draw(20)
    distances = ((np.sqrt(T)[:, None] - np.sqrt(T)) ** 2).sum(axis=2)
    y = np.random.default_rng(3).normal(size=20)
    at = np.array([0.1, -0.4, -1.0])
    _, gradient = _measure_evidence(at, distances, y)
    for j, e in enumerate(np.eye(3) * 1e-6):
        up, down = (_measure_evidence(at + s * e, distances, y)[0] for s in (1, -1))
        assert gradient[j] == pytest.approx((up - down) / 2e-6, rel=1e-4, abs=1e-6)


def test_the_process_interpolates_what_has_no_noise_and_agrees_with_scikit_learn():
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    T, new = draw(60), draw(30, seed=8)
    y = smooth_outcome(T, noise=0.1)
    ours = SqrtShareGP().fit(T, y)
    s, length, noise = np.exp(ours.log_scales)
    kernel = ConstantKernel(s**2, "fixed") * RBF(length, "fixed") + WhiteKernel(noise**2, "fixed")
    theirs = GaussianProcessRegressor(kernel, alpha=1e-8, optimizer=None).fit(np.sqrt(T), (y - y.mean()) / y.std())
    assert np.allclose(ours.predict(new), y.mean() + y.std() * theirs.predict(np.sqrt(new)), atol=1e-6)
    exact = smooth_outcome(T, noise=0.0)
    assert np.allclose(SqrtShareGP().fit(T, exact).predict(T), exact, atol=0.02)


def test_candidates_are_predicted_in_parts_without_a_seam():
    T, new = draw(30), draw(5000, seed=2)
    model = SqrtShareGP().fit(T, smooth_outcome(T))
    assert np.allclose(model.predict(new)[4090:4100], model.predict(new[4090:4100]), atol=1e-10)


def test_own_share_ranks_by_one_share_alone():
    T = draw(50)
    model = OwnShare(1).fit(T, smooth_outcome(T))
    assert model.slope < 0  # more of the domain, less loss
    assert np.array_equal(np.argsort(model.predict(T)), np.argsort(-T[:, 1]))


@pytest.mark.parametrize("name", MAKERS)
def test_what_cannot_be_fitted_is_named(name):
    T = draw(60)
    y = smooth_outcome(T)
    broken = y.copy()
    broken[[3, 7]] = np.nan, np.inf
    for rows, outcome, message in [
        (T, broken, "rows 3, 7 are not"),
        (T, y[:5], r"\(n, K\) and outcomes \(n,\) are wanted"),
        (T, np.ones(60), "60 runs have the outcome 1"),
        (T[:2], y[:2], "2 runs; with"),
    ]:
        with pytest.raises(AnalysisError, match=message):
            MAKERS[name]().fit(rows, outcome)


def test_trees_refuse_forty_rows():
    T = draw(40)
    with pytest.raises(AnalysisError, match="40 runs; with 40 or fewer LightGBM's min_data_in_leaf=20"):
        BoostedTrees().fit(T, smooth_outcome(T))
