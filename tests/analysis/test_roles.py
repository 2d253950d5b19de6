from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from analysis.app import analyse_table
from analysis.estimators.fit import check_estimator
from analysis.mappings import read_mapping
from analysis.roles import assign_roles
from causalmix.config import EstimatorConfig, OutcomeConfig, TargetConfig
from causalmix.errors import AnalysisError, CausalMixError, ConfigError
from tests.analysis.synthetic import ABILITIES, DOMAINS, FEATURES, make_config, make_frame, make_runs


def read(frame: pd.DataFrame, outcome: OutcomeConfig | None = None, **changes: object):
    cfg = EstimatorConfig(**{"name": "own_state", "kind": "own_state", "state": "domain", **changes})
    roles = assign_roles(make_runs(frame), "signal", cfg, outcome or OutcomeConfig())
    check_estimator(roles, cfg)
    return roles


def spoil(column: str, rows, value) -> pd.DataFrame:
    frame = make_frame(60)
    frame.loc[rows, column] = value
    return frame


def shift_share(rows, delta: float) -> pd.DataFrame:
    frame = make_frame(60)
    frame.loc[rows, "mixture.math"] += delta
    return frame


def one_mixture() -> pd.DataFrame:
    frame = make_frame(60)
    for domain in DOMAINS:
        frame[f"mixture.{domain}"] = 0.2
    return frame


def drop_domain() -> pd.DataFrame:
    frame = make_frame(60)
    frame["mixture.general"] += frame["mixture.math"]
    frame["mixture.math"] = 0.0
    return frame


def freeze_domain() -> pd.DataFrame:
    frame = make_frame(60)
    rest = [f"mixture.{d}" for d in DOMAINS if d != "math"]
    frame[rest] = frame[rest].div(frame[rest].sum(axis=1), axis=0) * 0.8
    frame["mixture.math"] = 0.2
    return frame


def zero_shares() -> pd.DataFrame:
    frame = make_frame(60)
    frame.loc[:2, "mixture.general"] += frame.loc[:2, "mixture.math"]
    frame.loc[:2, "mixture.math"] = 0.0
    return frame


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (spoil("outcome.math", [3, 5], np.nan), r"outcomes: outcome\.math must be a finite.*r0003, r0005"),
        (spoil("outcome.avg_dev", [7], np.inf), r"outcome\.avg_dev.*infinite.*1 of 60 runs: r0007"),
        (spoil("state.hes.math", [4], np.nan), r"state: state\.hes\.math.*r0004"),
        (shift_share([1, 2], -0.01), r"shares of 2 runs do not sum to one: r0001 \(0\.99\), r0002"),
        (spoil("mixture.math", [1], -0.1), r"negative shares in r0001"),
        (one_mixture(), r"all 60 runs have one mixture.*launch\.py -m"),
        (drop_domain(), r"never used: math has a share of 0 in every run"),
        (freeze_domain(), r"the share of math is the same in every run"),
        (zero_shares(), r"shares of zero in 3 runs \(r0000, r0001, r0002\).*log_offset"),
        (make_frame(2), r"2 runs are too few: estimator=own_state.*needs at least 20\. Run more"),
        (make_frame(60, domains=("math",)), r"at least two domains; the table has 1"),
        (make_frame(60)[:0], r"no complete run"),
    ],
)
def test_a_table_that_cannot_be_read_says_why(frame, message):
    with pytest.raises(AnalysisError, match=message):
        read(frame)


def test_zero_shares_are_read_with_an_offset():
    roles = read(zero_shares(), log_offset=1e-3)
    assert np.isfinite(roles.Z).all()


def test_wrong_settings_name_the_right_ones():
    frame = make_frame(60)
    for changes, message in [
        ({"state": "pools"}, r"estimator\.state=pools \(did you mean 'pool'\?\)"),
        ({"kind": "own_stat"}, r"estimator\.kind=own_stat \(did you mean 'own_state'\?\)"),
        ({"coordinates": "raw"}, "raw shares sum to one"),
        ({"kind": "linear_dml"}, r"60 runs are too few.*at least 160.*no_covariates \(20\)"),
    ]:
        with pytest.raises(AnalysisError, match=message):
            read(frame, **changes)
    with pytest.raises(AnalysisError, match=r"no outcome 'maths' \(did you mean 'math'\?\)"):
        read(frame, OutcomeConfig(weights={"maths": 1.0}))
    with pytest.raises(AnalysisError, match=r"finite, >= 0 and not all zero"):
        read(frame, OutcomeConfig(weights={"math": -1.0}))
    with pytest.raises(AnalysisError, match=r"has no column outcome\.avg_def.*did you mean"):
        read(frame, OutcomeConfig(name="avg_def"))


def test_a_smaller_family_is_named_only_where_the_table_can_feed_it():
    frame = make_frame(30)
    with pytest.raises(AnalysisError, match=r"linear_dml.*take one of .*own_state \(20\)"):
        read(frame, kind="linear_dml", state="pool")
    pooled = frame[[c for c in frame if c.count(".") < 2 or not c.startswith("state.")]]
    with pytest.raises(AnalysisError, match=r"take one of constant_dml \(20\).*no_covariates \(20\)") as caught:
        read(pooled, kind="linear_dml", state="pool")
    assert "own_state" not in str(caught.value)


def test_without_domain_states_the_pool_is_suggested():
    frame = make_frame(60)
    frame = frame[[c for c in frame if c.count(".") < 2 or not c.startswith("state.")]]
    with pytest.raises(AnalysisError, match=r"no column state\.<feature>\.<domain>.*estimator\.state=pool"):
        read(frame)


def test_avg_dev_must_be_the_mean_of_the_abilities():
    frame = make_frame(60)
    frame.loc[[2], "outcome.avg_dev"] += 1.0
    with pytest.raises(AnalysisError, match=r"not the mean of .* in 1 runs \(r0002\).*outcome\.weights"):
        read(frame)
    assert read(frame, per_outcome=False).outcome_names == ("avg_dev",)


def test_weights_choose_the_outcome():
    frame = make_frame(60)
    roles = read(frame, OutcomeConfig(weights={"math": 1.0, "coding": 3.0}))
    expected = 0.25 * frame["outcome.math"] + 0.75 * frame["outcome.coding"]
    assert np.allclose(roles.Y, expected)


def test_an_outcome_that_never_varies_is_refused():
    frame = make_frame(60).assign(**{"outcome.avg_dev": 5.0})
    with pytest.raises(AnalysisError, match=r"^outcome\.avg_dev is the same in all 60 runs \(5\).*outcome\.name"):
        read(frame, per_outcome=False)
    frame = make_frame(60).assign(**{"outcome.math": 5.0, "outcome.coding": 7.0})
    with pytest.raises(AnalysisError, match=r"^outcome\.math is the same in all 60 runs"):
        read(frame, OutcomeConfig(weights={"math": 1.0, "safety": 0.0}))
    with pytest.raises(AnalysisError, match=r"the weighted mean of outcome\.math, outcome\.coding is the same"):
        read(frame, OutcomeConfig(weights={"math": 1.0, "coding": 1.0}))
    assert np.ptp(read(frame, OutcomeConfig(weights={"math": 1.0, "safety": 1.0})).Y) > 0


def test_roles_split_the_state():
    pool = read(make_frame(60), kind="causal_forest", state="pool")
    assert pool.x_names == FEATURES
    assert len(pool.w_names) == len(FEATURES) * len(DOMAINS)
    assert pool.outcome_names == tuple(sorted(ABILITIES))
    assert pool.randomised
    assert read(make_frame(60), state="domain").w_names == FEATURES
    assert not read(make_frame(60, with_design=False)).randomised


def test_the_order_of_rows_never_matters():
    frame = make_frame(60)
    cfg = make_config()
    first = analyse_table(cfg, make_runs(frame))[0].to_json()
    second = analyse_table(cfg, make_runs(frame.sample(frac=1, random_state=1)))[0].to_json()
    assert first == second


def test_a_thousand_columns_do_no_harm():
    frame = make_frame(60)
    extra = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 1000)), columns=[f"note.{i}" for i in range(1000)])
    assert read(pd.concat([frame, extra], axis=1)).x_names == read(frame).x_names


@pytest.mark.parametrize("n_domains", [2, 39])
def test_few_and_many_domains(n_domains):
    domains = tuple(f"d{k:02d}" for k in range(n_domains))
    frame = make_frame(160, domains=domains)
    analysis = analyse_table(make_config(), make_runs(frame))[0]
    assert analysis.candidate.weights.sum() == pytest.approx(1.0)
    assert len(analysis.theta) == n_domains


@pytest.mark.parametrize("coordinates", ["ilr", "alr", "tangent"])
def test_two_domains_have_one_log_ratio(coordinates):
    cfg = make_config("constant_dml", "causalmix_s")
    cfg.estimator = dataclasses.replace(cfg.estimator, coordinates=coordinates)
    analysis = analyse_table(cfg, make_runs(make_frame(60, domains=("code", "math"))))[0]
    assert analysis.candidate.weights.sum() == pytest.approx(1.0)
    assert "CM004" in {check.code for check in analysis.checks if check.value is not None}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"state": {"hes": 0.1}}, r"target\.state: the fit also reads hes\.code.*estimator\.state=pool"),
        ({"state": {"hess.math": 0.1}}, r"unknown 'hess\.math' \(did you mean 'hes\.math'\?\)"),
        ({"state": {"hes": {"math": "low"}}}, r"hes\.math='low'; finite numbers are wanted"),
        ({"state": {"hes.math": True}}, r"hes\.math=True; finite numbers are wanted"),
        ({"state": 3}, r"target\.state=3: a mapping is wanted"),
        ({"state_file": "nowhere.json"}, r"target\.state_file=nowhere\.json: no such file"),
        ({"available": {"math": 10}}, r"no count for 'code'"),
        ({"available": dict.fromkeys(DOMAINS, 1.5)}, r"counts of documents are wanted"),
        ({"reference": "same"}, r"target\.reference=same"),
        ({"reference": "fixed"}, r"needs target\.reference_weights"),
        (
            {"n_samples": 10_000, "available": dict.fromkeys(DOMAINS, 10)},
            r"Lower target\.n_samples or raise target",
        ),
        ({"n_samples": 0}, r"n_samples=0: a run needs at least one document"),
        ({"floor": 0.5}, r"target\.floor=null takes 0\.02"),
        ({"caps": "{C#: .2}"}, r"target\.caps: unknown domain 'C#'"),
    ],
)
def test_a_target_that_cannot_be_answered_says_why(target, message):
    with pytest.raises(CausalMixError, match=message):
        analyse_table(make_config(target=TargetConfig(**target)), make_runs(make_frame(60)))


def test_unknown_checks_policies_and_runs_are_refused():
    runs = make_runs(make_frame(60))
    with pytest.raises(ConfigError, match=r"no check 'CM0010' \(did you mean 'CM001'|CM010"):
        analyse_table(make_config(allow_failed_checks=["CM0010"]), runs)
    with pytest.raises(AnalysisError, match=r"baselines=equall \(did you mean 'equal'\?\)"):
        analyse_table(make_config(baselines=["equall"]), runs)
    with pytest.raises(ConfigError, match=r"confidence=95"):
        analyse_table(make_config(confidence=95), runs)


def test_a_number_out_of_range_is_named():
    runs = make_runs(make_frame(60))
    for changes, message in [
        ({"seed": -1}, r"seed=-1 \(at least 0\)"),
        ({"n_refits": -1, "n_threads": 0}, r"n_refits=-1 \(at least 0\), n_threads=0 \(at least 1\)"),
        ({"estimator": EstimatorConfig("own_state", "own_state", log_offset=-1)}, r"estimator\.log_offset=-1"),
        (
            {"estimator": EstimatorConfig("f", "causal_forest", max_samples=0.9)},
            r"max_samples=0\.9: above 0",
        ),
    ]:
        with pytest.raises(ConfigError, match=message):
            analyse_table(dataclasses.replace(make_config(), **changes), runs)


def test_a_mapping_may_be_given_as_text():
    text = "{math: .1, 'code, hard': .2}"
    assert read_mapping(text, "target.caps") == {"math": 0.1, "code, hard": 0.2}
    for wrong in ("{math: ", "math", "[1]"):
        with pytest.raises(AnalysisError, match="a mapping is wanted"):
            read_mapping(wrong, "target.caps")
