"""DMO: published exponents and optima, recovery of known curves, and the runs it refuses."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar

from analysis.app import analyse_table
from analysis.policies.dmo_curves import DomainCurve, fit_curve, fit_exponent, optimise_shares
from analysis.policies.propose import baseline_config, propose
from analysis.roles import assign_roles
from causalmix.config import EstimatorConfig, OutcomeConfig, PolicyConfig
from causalmix.errors import AnalysisError
from tests.analysis.synthetic import make_config, make_frame, make_runs
from tests.analysis.test_policies import KnownEffects, make_box, make_target

FACTORS = np.array([1 / 3, 1 / 2, 1, 2, 3])
PUBLISHED = {
    "if": ([2.30940, 2.29196, 2.26011, 2.22532, 2.20784], 0.0510, (1.1565, 0.1978, 0.4760, 1.0964)),
    "math": ([2.28912, 2.27572, 2.26011, 2.23403, 2.22231], 0.0430, (0.7508, 0.0400, 0.4350, 1.4937)),
    "code": ([2.29468, 2.28222, 2.26011, 2.23273, 2.21833], 0.0439, (0.9828, 0.1261, 0.4670, 1.2671)),
}
OPTIMA = {5: (0.412, 0.268, 0.320), 20: (0.420, 0.257, 0.323), 200: (0.423, 0.251, 0.326)}
DOMAINS = ("code", "if", "math")
TRUTH = {  # c = 1: there the ratio of logs is exact
    "code": DomainCurve(1.0, 0.0439, 0.1261, 0.5, 1.2671),
    "if": DomainCurve(1.0, 0.0710, 0.0545, 0.5, 1.0964),
    "math": DomainCurve(1.0, 0.0330, 0.0400, 0.5, 1.4937),
}


# --- the curves ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_losses_give_the_published_exponents(name):
    losses, exponent, _ = PUBLISHED[name]
    assert fit_exponent(0.66 * FACTORS, np.array(losses), 1.32, name) == pytest.approx(exponent, abs=1e-4)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_second_step_fits_no_worse_than_the_published_parameters(name):
    losses, exponent, (c, g, a, e) = PUBLISHED[name]
    own = 0.66 * FACTORS
    found = fit_curve(own, np.array(losses), 1.32, name)
    published = DomainCurve(c, exponent, g, a, e)

    def error(curve):
        return np.abs(curve.predict(own, 1.32) - losses).sum()

    assert error(found) <= error(published) + 1e-4
    assert found.g * 1.32**found.a <= 1.32 * (1 + 1e-6)


@pytest.mark.parametrize("name", TRUTH)
def test_a_curve_with_c_of_one_is_found_whole(name):
    own = 0.66 * FACTORS
    found = fit_curve(own, TRUTH[name].predict(own, 1.32), 1.32, name)
    assert found.b == pytest.approx(TRUTH[name].b, abs=1e-4)
    assert found.e == pytest.approx(TRUTH[name].e, abs=5e-3)
    assert np.allclose(found.predict(0.66 * 10, 1.32), TRUTH[name].predict(0.66 * 10, 1.32), atol=1e-4)


def test_the_exponent_is_off_where_c_is_not_one():
    """As the docstring says of the published ratio of logs."""
    own = 0.66 * FACTORS
    losses = DomainCurve(1.1565, 0.0510, 0.1978, 0.4760, 1.0964).predict(own, 1.32)
    assert fit_exponent(own, losses, 1.32, "if") == pytest.approx(0.0595, abs=1e-3)


def test_the_runs_of_a_curve_do_not_tell_a():
    own = 0.66 * FACTORS
    one, two = DomainCurve(1.0, 0.05, 0.2, 0.5, 1.2), DomainCurve(1.0, 0.05, 0.2 * 1.32**-0.4, 0.9, 1.2)
    assert np.allclose(one.predict(own, 1.32), two.predict(own, 1.32), atol=1e-12)
    assert np.abs(one.predict(own, 200.0) - two.predict(own, 200.0)).min() > 0.01


@pytest.mark.parametrize("total", OPTIMA)
def test_published_curves_give_the_published_shares(total):
    curves = [DomainCurve(c, b, g, a, e) for _, b, (c, g, a, e) in PUBLISHED.values()]
    assert np.allclose(optimise_shares(curves, float(total)), OPTIMA[total], atol=2e-3)


def test_two_domains_are_shared_as_a_line_search_finds():
    curves = [TRUTH["code"], TRUTH["math"]]

    def measure(w):
        return float(curves[0].predict(w * 9, 9 - w * 9) + curves[1].predict(9 - w * 9, w * 9))

    best = minimize_scalar(measure, bounds=(1e-6, 1 - 1e-6), method="bounded", options={"xatol": 1e-10}).x
    assert optimise_shares(curves, 9.0)[0] == pytest.approx(best, abs=1e-4)


def test_a_loss_that_does_not_fall_is_refused():
    with pytest.raises(AnalysisError, match=r"domain math: the loss does not fall steadily.*2\.1000, 2\.2000, 2\.0500"):
        fit_exponent(FACTORS, np.array([2.1, 2.2, 2.05, 2.3, 1.9]), 2.0, "math")
    with pytest.raises(AnalysisError, match=r"domain math was tried at 3 amounts.*needs 4"):
        fit_exponent(FACTORS[:3], np.array([2.3, 2.2, 2.1]), 2.0, "math")


# --- the policy ------------------------------------------------------------------------------------------


def make_perturbations(lengths=(330.0, 330.0, 330.0), column="validation.loss", n_base=2000):
    """4K + 1 runs whose loss moves with one domain's tokens along its true curve; 660,000 tokens each at the base."""
    frame = make_frame(30, domains=DOMAINS, abilities=("coding",))
    rows = []
    for k, f in [(0, 1.0), *((k, f) for k in range(3) for f in FACTORS if f != 1.0)]:
        documents = 660_000 / np.array(lengths) * n_base / 2000
        base_tokens = 0.66
        documents[k] *= f
        n = documents.sum()
        curve = TRUTH[DOMAINS[k]]
        drop = float(curve.predict(base_tokens * f, 1.32) - curve.predict(base_tokens, 1.32))
        row = {"run_id": f"p{len(rows):02d}", "cohort": "perturbation", "status": "complete"}
        row |= {f"mixture.{d}": documents[i] / n for i, d in enumerate(DOMAINS)}
        row |= {f"realised.{d}": documents[i] / n for i, d in enumerate(DOMAINS)}
        row |= {"train.n_samples": n, "train.n_tokens": float(documents @ lengths)}
        loss = 2.26011 + drop
        row |= dict.fromkeys(("outcome.coding", "outcome.avg_dev"), 100 * 2 ** (-loss))
        if column == "validation.loss":
            row |= {column: loss, "outcome.coding": 150.0, "outcome.avg_dev": 150.0}
        rows.append(row)
    return pd.concat([frame, pd.DataFrame(rows)], ignore_index=True)


def ask(frame, n_samples=60_000, **changes):
    roles = assign_roles(make_runs(frame), "signal", EstimatorConfig(name="x", kind="no_covariates"), OutcomeConfig())
    target = dataclasses.replace(make_target([1 / 3] * 3, make_box(3)), n_samples=n_samples, domains=DOMAINS)
    cfg = dataclasses.replace(baseline_config("dmo", PolicyConfig()), **changes)
    return propose(KnownEffects([1.0] * 3), roles, target, cfg)


def true_shares(total_tokens):
    return optimise_shares([TRUTH[d] for d in DOMAINS], total_tokens / 1e6)


@pytest.fixture(scope="module")
def plain():
    return ask(make_perturbations())


def test_known_curves_are_read_off_at_the_targets_size(plain):
    assert np.allclose(plain.weights, true_shares(60_000 * 330), atol=2e-3)
    assert "13 perturbation runs, read at 10 times their tokens" in plain.notes[-1]
    again = ask(make_perturbations().sample(frac=1.0, random_state=1))
    assert np.array_equal(again.weights, plain.weights)


def test_scores_stand_in_for_the_loss_and_it_says_so(plain):
    frame = make_perturbations(column="none")
    answer = ask(frame)
    assert np.allclose(answer.weights, plain.weights, atol=1e-4)
    assert "-log2(outcome / 100)" in answer.notes[0]
    frame.loc[frame["run_id"] == "p03", ["outcome.coding", "outcome.avg_dev"]] = 0.0
    frame.loc[frame["run_id"] == "p05", ["outcome.coding", "outcome.avg_dev"]] = 120.0
    with pytest.raises(AnalysisError, match=r"above 0 and at most at 100; outcome\.coding do not in p03, p05"):
        ask(frame)


@pytest.mark.parametrize(
    ("runs", "changes"),
    [({}, {"unit": "documents"}), ({"n_base": 20}, {"n_samples": 600})],
    ids=["documents of one length", "runs a hundred times smaller"],
)
def test_the_unit_and_the_scale_do_not_matter(plain, runs, changes):
    assert np.allclose(ask(make_perturbations(**runs), **changes).weights, plain.weights, atol=1e-4)


def test_shares_are_of_documents_where_lengths_differ():
    lengths = (660.0, 330.0, 165.0)
    answer = ask(make_perturbations(lengths))
    tokens = answer.weights * lengths
    size = 60_000 * np.mean(lengths)  # the reference's tokens a document
    assert np.allclose(tokens / tokens.sum(), true_shares(size), atol=2e-3)


def test_without_a_size_it_is_read_at_the_runs_own():
    answer = ask(make_perturbations(), n_samples=None)
    assert "target.n_samples is not known" in answer.notes[0]
    assert np.allclose(answer.weights, true_shares(3 * 660_000), atol=2e-3)


def test_seeds_of_one_amount_are_averaged(plain):
    frame = make_perturbations()
    twin = frame[frame["cohort"] == "perturbation"].copy()
    twin["run_id"] += "b"
    frame["validation.loss"] += np.where(frame["cohort"] == "perturbation", 0.003, 0.0)
    twin["validation.loss"] -= 0.003
    assert np.allclose(ask(pd.concat([frame, twin], ignore_index=True)).weights, plain.weights, atol=1e-4)


def test_an_analysis_asks_every_baseline_and_says_which_could_not_answer():
    frame = make_perturbations()
    rows = frame["cohort"] == "perturbation"
    frame.loc[rows, [c for c in frame if c.startswith(("state.", "design."))]] = 0.0
    cfg = make_config("no_covariates", baselines=["dmo", "mixing_law", "mixture_gp", "own_share", "grid"])
    cfg.outcome.name = "coding"
    analysis, _ = analyse_table(cfg, make_runs(frame), progress=False)
    # The perturbation runs have sizes of their own; the fitted runs' size still stands for the target.
    assert analysis.target.n_samples == 2000
    assert [answer.name for answer in analysis.baselines] == ["dmo", "mixing_law", "mixture_gp"]
    left_out = [note for note in analysis.notes if note.startswith("Left out:")]
    assert [note.split()[2] for note in left_out] == ["own_share:", "grid:"]


def test_runs_it_cannot_read_are_named_with_the_way_out():
    frame = make_perturbations()
    several = frame.copy()
    p04 = several["run_id"] == "p04"
    several.loc[p04, ["realised.code", "realised.if", "realised.math"]] = [0.5, 0.3, 0.2]
    unknown = frame.drop(columns="train.n_tokens")
    for table, changes, message in [
        (frame[frame["cohort"] == "signal"], {}, r"no complete run of cohort=perturbation \(other cohorts: none\)"),
        (several, {}, r"dmo: p04 change the documents of more than one domain"),
        (unknown, {}, r"lacks train\.n_tokens of its perturbation runs; policy\.unit=documents needs no tokens"),
        (frame[frame["run_id"] != "p01"][lambda f: f["run_id"] != "p02"], {}, r"domain code was tried at 3 amounts"),
        (frame, {"unit": "token"}, r"policy\.unit=token \(did you mean 'tokens'\?\); allowed: tokens, documents"),
    ]:
        with pytest.raises(AnalysisError, match=message):
            ask(table, **changes)
