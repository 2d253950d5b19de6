"""Designs of points: lattice, Sobol, I-optimal, perturbation, RegMix's sampler."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalmix.config import MixtureConfig
from causalmix.errors import MixtureError
from causalmix.mixture.allocate import allocate
from causalmix.mixture.designs.build import build_design
from causalmix.mixture.designs.grid import make_lattice
from causalmix.mixture.designs.optimal import exchange_points
from causalmix.mixture.designs.quadratic import (
    average_variance,
    count_terms,
    moment_matrix,
    quadratic_terms,
    sample_region,
)
from causalmix.mixture.designs.regmix import RESOLUTION, STRENGTHS, propose_regmix
from causalmix.mixture.designs.sobol import map_to_simplex

AVAILABLE = {"coding": 300, "knowledge": 1000, "math": 500, "safety": 60}
FLOORED = ("grid", "sobol", "optimal", "regmix")
RNG = np.random.default_rng(0)  # no design of points draws from it


def build(kind, *, available=AVAILABLE, n_samples=200, **values):
    cfg = MixtureConfig(name=kind, kind=kind, **values)
    natural = {name: count / sum(available.values()) for name, count in available.items()}
    return build_design(cfg, domains=list(available), natural=natural, available=available, n_samples=n_samples)


def list_weights(design, n):
    return np.array([design.sample(RNG, index).weights for index in range(n)])


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["grid", "sobol", "regmix"]),
    st.lists(st.integers(60, 900), min_size=2, max_size=6),
    st.floats(0.2, 0.8),
    st.integers(0, 20),
    st.integers(0, 2**32 - 1),
)
def test_points_keep_the_simplex_the_floor_and_the_caps(kind, documents, part, index, design_seed):
    available = {f"d{k}": count for k, count in enumerate(documents)}
    size = max(1, int(part * sum(documents)))
    design = build(kind, available=available, n_samples=size, repeats_max=1.5, design_seed=design_seed, levels=6)
    weights = design.sample(RNG, min(index, (design.n_points or 100) - 1)).weights
    floor = min(0.02, 0.2 / len(documents))
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert weights.min() >= floor - 1e-12
    assert np.all(weights * size <= 1.5 * np.array(documents) + 1e-6)
    assert allocate(weights, size, available, 1.5).sum() == size


@pytest.mark.parametrize("kind", [*FLOORED, "perturbation"])
def test_a_point_does_not_depend_on_the_order_of_domains_or_on_the_stream(kind):
    moved = dict(reversed(AVAILABLE.items()))
    first, second = build(kind, n_samples=60), build(kind, available=moved, n_samples=60)
    for index in range(6):
        one = first.sample(np.random.default_rng(1), index)
        two = second.sample(np.random.default_rng(2), index)
        np.testing.assert_allclose(one.weights, two.weights[::-1], rtol=1e-12)
        assert one.parameters == two.parameters
        assert one.parameters["point"] == index


@pytest.mark.parametrize("kind", FLOORED)
def test_the_design_seed_gives_another_design_and_the_same_seed_the_same_bits(kind):
    first, again, other = (list_weights(build(kind, design_seed=seed), 8) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


@pytest.mark.parametrize("kind", ["grid", "optimal", "perturbation"])
def test_the_moments_of_a_set_are_exact(kind):
    design = build(kind, n_samples=60)
    logs = np.log(list_weights(design, design.n_points))
    moments = design.moments(0)
    np.testing.assert_allclose(moments.mean_log, logs.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.cov_log, np.cov(logs, rowvar=False, ddof=0), atol=1e-12)
    assert not moments.mean_error.any()


@pytest.mark.parametrize(("kind", "n_samples"), [("sobol", 200), ("regmix", 200), ("sobol", 700), ("regmix", 700)])
def test_moments_of_a_sequence_agree_with_a_long_stretch_of_another(kind, n_samples):
    """At 700 documents safety is capped at a third: the mean is that of the points that were kept."""
    moments = build(kind, n_samples=n_samples).moments(seed=3)
    other = build(kind, n_samples=n_samples, design_seed=9)
    logs = np.log(other.list_points(2000) if kind == "sobol" else other._accept(2000, 9, distinct=True))
    error = np.hypot(logs.std(axis=0) / math.sqrt(2000), moments.mean_error)
    assert np.all(moments.mean_error > 0)
    assert np.all(np.abs(logs.mean(axis=0) - moments.mean_log) < 4 * error)
    np.testing.assert_allclose(np.cov(logs, rowvar=False), moments.cov_log, atol=0.2)


def test_columns_name_the_upper_triangle_and_leave_out_what_is_not_finite():
    design = build("grid", floor=0.0)
    columns = design.moments(0).name_columns(design.domains)
    assert columns == {}  # every domain has a share of zero somewhere
    columns = build("grid").moments(0).name_columns(design.domains)
    assert len(columns) == 4 + 10
    assert columns["cov_log.coding.safety"] == pytest.approx(build("grid").moments(0).cov_log[0, 3])
    assert "cov_log.safety.coding" not in columns


# --- lattice ----------------------------------------------------------------------------------------


@given(st.integers(2, 6), st.integers(1, 6))
def test_a_lattice_has_all_its_points_once(n_domains, levels):
    lattice = make_lattice(n_domains, levels)
    counts = np.rint(lattice * levels).astype(int)
    assert len(lattice) == math.comb(levels + n_domains - 1, levels) == len({tuple(row) for row in counts.tolist()})
    np.testing.assert_allclose(lattice * levels, counts, atol=1e-12)
    assert (counts.sum(axis=1) == levels).all()
    assert counts.min() >= 0


def test_a_grid_leaves_out_what_the_pool_cannot_give():
    assert build("grid").n_points == 35
    capped = build("grid", n_samples=480, repeats_max=2.0)  # safety at most 120 / 480
    assert 0 < capped.n_points < 35
    assert list_weights(capped, capped.n_points)[:, 3].max() <= 0.25


# --- Sobol ------------------------------------------------------------------------------------------


def test_the_map_to_the_simplex_is_uniform():
    points = map_to_simplex(np.random.default_rng(0).random((40_000, 3)))
    np.testing.assert_allclose(points.sum(axis=1), 1.0, atol=1e-12)
    terms = quadratic_terms(points)
    np.testing.assert_allclose(terms.T @ terms / len(terms), moment_matrix(np.ones(4)), atol=3e-3)


def test_a_sobol_sweep_is_more_even_than_chance():
    """Mean shares over 64 points: off by less than a quarter of what independent draws are off by."""
    weights = list_weights(build("sobol", floor=0.0), 64)
    chance = math.sqrt(3 / (16 * 5) / 64)
    assert np.abs(weights.mean(axis=0) - 0.25).max() < chance / 4


# --- I-optimal --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cap", [(1.0,) * 4, (0.3, 0.5, 1.0, 0.4)])
def test_moments_of_a_region_agree_with_rejection(cap):
    rng = np.random.default_rng(0)
    points = rng.dirichlet(np.ones(4), 100_000)
    points = points[(points <= np.array(cap)).all(axis=1)]
    terms = quadratic_terms(points)
    np.testing.assert_allclose(moment_matrix(np.array(cap)), terms.T @ terms / len(terms), atol=6e-3)
    drawn = sample_region(np.array(cap), 4000, rng)
    assert np.abs(drawn.mean(axis=0) - points.mean(axis=0)).max() < 0.02
    assert np.all(drawn <= np.array(cap))
    np.testing.assert_allclose(drawn.sum(axis=1), 1.0, atol=1e-12)


@pytest.mark.parametrize(("n_domains", "ratio"), [(5, 2.7), (7, 3.8)])
def test_optimal_runs_are_worth_several_random_ones(n_domains, ratio):
    """n random runs have an average variance of p / n or more (Jensen), so n * variance / p is a bound from below."""
    moments = moment_matrix(np.ones(n_domains))
    n_terms, n = count_terms(n_domains), n_domains * (n_domains + 1)
    variance = average_variance(exchange_points((1.0,) * n_domains, n, 0), moments)
    assert n_terms / (n * variance) > ratio
    rng = np.random.default_rng(0)
    random = [average_variance(rng.dirichlet(np.ones(n_domains), int(ratio * n)), moments) for _ in range(20)]
    assert np.mean(random) > n_terms / (ratio * n)
    assert np.mean(random) > variance


def test_exchange_finds_the_textbook_design():
    """Two domains: a quarter of the runs at each end, half of them in the middle."""
    points = exchange_points((1.0, 1.0), 8, 0)
    shares, counts = np.unique(np.round(points[:, 0], 3), return_counts=True)
    assert shares.tolist() == [0.0, 0.5, 1.0]
    assert counts.tolist() == [2, 4, 2]


def test_an_optimal_design_stays_below_its_caps_and_beats_random_points_there():
    cap = (0.3, 0.5, 1.0, 0.4)
    points = exchange_points(cap, 24, 0)
    np.testing.assert_allclose(points.sum(axis=1), 1.0, atol=1e-12)
    assert np.all(points <= np.array(cap) + 1e-12)
    moments = moment_matrix(np.array(cap))
    rng = np.random.default_rng(1)
    random = [average_variance(sample_region(np.array(cap), 24, rng), moments) for _ in range(20)]
    assert average_variance(points, moments) < 0.5 * np.median(random)


def test_a_design_that_cannot_tell_terms_apart_has_no_variance():
    assert average_variance(np.eye(3), moment_matrix(np.ones(3))) == math.inf


# --- perturbation -----------------------------------------------------------------------------------


def test_perturbation_is_dmos_runs():
    design = build("perturbation", n_samples=120)
    assert design.n_points == 17
    draws = [design.sample(RNG, index) for index in range(17)]
    amounts = np.array([draw.weights * draw.size_factor * 4 for draw in draws])
    assert amounts[0] == pytest.approx(np.ones(4))
    for k in range(4):
        assert amounts[1 + 4 * k : 5 + 4 * k, k] == pytest.approx([1 / 3, 1 / 2, 2, 3])
        assert np.delete(amounts[1 + 4 * k : 5 + 4 * k], k, axis=1) == pytest.approx(np.ones((4, 3)))
    assert [draws[index].count_samples(120) for index in (0, 1, 2, 3, 4)] == [120, 100, 105, 150, 180]
    assert draws[4].parameters == {"point": 4.0, "size_factor": pytest.approx(1.5)}


# --- RegMix -----------------------------------------------------------------------------------------


def test_regmix_proposals_have_the_published_properties():
    prior = np.array([0.6, 0.3, 0.09, 0.01])
    points = propose_regmix(prior, 20_000, np.random.default_rng(0))
    assert len(STRENGTHS) == 15
    assert STRENGTHS[[0, -1]] == pytest.approx([10**0.1, 10**5])
    assert 0 < len(points) < 20_000  # some were rejected: a share of the last above .15
    np.testing.assert_allclose(points.sum(axis=1), 1.0, atol=1e-12)
    assert np.all(points <= np.minimum(15 * prior, 1.0) * (1 + 2e-3) + RESOLUTION)
    # Rounded shares sum to one but for a step or two, and were divided by that sum.
    steps = points / RESOLUTION * (1 + RESOLUTION * np.arange(-2, 3)[:, None, None])
    assert np.abs(steps - np.rint(steps)).max(axis=2).min(axis=0).max() < 1e-6
    assert np.all((points == 0) | (points >= RESOLUTION * (1 - 1e-2)))
    assert (points == 0).any()
    base = np.sqrt(prior) / np.sqrt(prior).sum()
    strong = propose_regmix(np.full(4, 0.25), 20_000, np.random.default_rng(1))
    assert strong.mean(axis=0) == pytest.approx(np.full(4, 0.25), abs=0.01)
    middle = np.median(points, axis=0)
    assert np.abs(middle - base).max() < 0.1  # around the flattened prior, not the prior


def test_regmix_is_golden():
    design = build("regmix", floor=0.0)
    for index, golden in ((2, [0.2398, 0.4338, 0.2472, 0.0792]), (44, [0.9312, 0.0, 0.068, 0.0008])):
        np.testing.assert_allclose(design.sample(RNG, index).weights, golden, atol=1e-12)


def test_no_two_regmix_runs_have_one_mixture():
    weights = list_weights(build("regmix", floor=0.0), 200)
    apart = np.abs(weights[:, None] - weights[None]).sum(axis=-1)
    assert apart[~np.eye(200, dtype=bool)].min() > 1e-5


def test_regmix_to_the_letter_has_no_mean_of_logs():
    moments = build("regmix", floor=0.0).moments(0, 4000)
    assert not np.isfinite(moments.mean_log).any()
    assert np.isfinite(build("regmix").moments(0, 4000).mean_log).all()


# --- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "values", "index", "message"),
    [
        ("grid", {}, 35, "mixture=grid has 35 points here, numbers 0 to 34"),
        ("grid", {}, 35, "there is none for seed=35. Sweep 'seed=range(35)'"),
        ("perturbation", {"n_samples": 60}, 17, "mixture=perturbation has 17 points"),
        ("optimal", {"n_points": 12}, 12, "mixture.n_points for optimal"),
        ("optimal", {"n_points": 9}, 0, "has 10 terms, so 10 points or more are needed; null takes 20"),
        ("grid", {"levels": 0}, 0, "mixture.levels=0 over 4 domains"),
        ("grid", {"levels": 200}, 0, "at most 200000 points"),
        ("grid", {"levels": 1, "n_samples": 1500, "repeats_max": 1.0}, 0, "only 0 of 4 points stay below"),
        ("sobol", {"floor": 0.25}, 0, "leaves one mixture alone"),
        ("sobol", {"floor": 0.5}, 0, "floor=0.5 over 4 domains"),
        ("sobol", {"available": {"math": 9}, "n_samples": 9}, 0, "math is the only domain"),
        ("sobol", {"n_samples": 1860, "repeats_max": 1.0}, 0, "points stay below the shares the pool can give"),
        ("optimal", {"n_samples": 1860, "repeats_max": 1.0}, 0, "a quadratic model cannot be fitted"),
        ("perturbation", {"n_samples": 4000}, 0, "the run with all equal: the mixture asks for more documents"),
        (
            "perturbation",
            {"n_samples": 800},
            0,
            "safety times 2, 1.25 times as long as train.n_samples: the mixture asks",
        ),
        ("regmix", {"available": {"math": 0, "coding": 99}, "floor": 0.0}, 0, "the prior gives math a share of 0"),
        ("regmix", {"prior": "equla"}, 0, "did you mean 'equal'?"),
    ],
)
def test_what_is_refused(kind, values, index, message):
    with pytest.raises(MixtureError) as caught:
        build(kind, **values).sample(RNG, index)
    assert message in str(caught.value)


def test_too_many_domains_for_an_exchange():
    available = {f"d{k}": 100 for k in range(21)}
    with pytest.raises(MixtureError, match=r"231 terms.*up to 210 \(20 domains\).*mixture=sobol"):
        build("optimal", available=available)
