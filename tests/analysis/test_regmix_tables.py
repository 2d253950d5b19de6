"""The public tables' layout, and both benchmarks that read it, on made-up tables."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from analysis.estimators.fit import fit_effects
from analysis.regmix_tables import make_roles, read_regmix_tables
from analysis.regressors.linear import LogShares
from benchmarks import deconfound, regmix_tables
from causalmix.config import EstimatorConfig, NuisanceConfig
from causalmix.errors import AnalysisError

DOMAINS = ("arxiv", "github", "pile_cc", "europarl")
TARGETS = ("github", "pile_cc")


def write_tables(folder, n_train=80, n_test=60, n_large=20):
    """Losses that fall with the log of the target's own share, and with the size of the model."""
    rng = np.random.default_rng(0)

    def write(part, size, T, shift):
        index = np.arange(1, len(T) + 1)
        mixtures = pd.DataFrame(T, columns=[f"train_the_pile_{name}" for name in DOMAINS])
        losses = pd.DataFrame(
            {
                f"metric/the_pile_{t}_val_loss": 5.0
                - shift
                - 0.3 * np.log(T[:, DOMAINS.index(t)] + 0.001)
                + 0.02 * rng.normal(size=len(T))
                for t in TARGETS
            }
        )
        mixtures.insert(0, "index", index)
        losses.insert(0, "index", index)
        mixtures.to_csv(folder / f"{part}_mixture_{size}.csv", index=False)
        losses.to_csv(folder / f"{part}_pile_loss_{size}.csv", index=False)

    train, test, large = (np.round(rng.dirichlet(np.ones(4), n), 3) for n in (n_train, n_test, n_large))
    write("train", "1m", train, 0.0)
    write("test", "1m", test, 0.0)
    write("test", "60m", test, 1.5)
    write("test", "1B", large, 3.0)
    return folder


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return write_tables(tmp_path_factory.mktemp("tables"))


def test_tables_are_read_by_name(data_dir):
    tables = read_regmix_tables(data_dir)
    assert list(tables) == ["train_1m", "test_1m", "test_60m", "test_1B"]
    train = tables["train_1m"]
    assert (train.domains, train.targets) == (DOMAINS, TARGETS)
    assert train.mixtures.shape == (80, 4)
    assert train.losses.shape == (80, 2)
    assert np.allclose(train.renormalised.sum(axis=1), 1.0, atol=1e-12)


def test_what_does_not_belong_together_is_named(data_dir, tmp_path):
    with pytest.raises(AnalysisError, match=r"no train_mixture_1m\.csv, train_pile_loss_1m\.csv"):
        read_regmix_tables(tmp_path)
    write_tables(tmp_path)
    losses = pd.read_csv(tmp_path / "test_pile_loss_60m.csv")
    losses.iloc[::-1].to_csv(tmp_path / "test_pile_loss_60m.csv", index=False)
    with pytest.raises(AnalysisError, match=r"test_mixture_60m\.csv and test_pile_loss_60m\.csv do not have the same"):
        read_regmix_tables(tmp_path)
    losses.rename(columns=lambda c: c.replace("github", "elsewhere")).to_csv(
        tmp_path / "test_pile_loss_60m.csv", index=False
    )
    with pytest.raises(AnalysisError, match=r"losses on elsewhere, which test_mixture_60m\.csv does not mix"):
        read_regmix_tables(tmp_path)


def test_causalmix_without_a_state_is_log_share_least_squares(data_dir):
    """So the leaderboard's two rows differ by the cross-fitted means alone."""
    table = read_regmix_tables(data_dir)["train_1m"]
    roles = make_roles(table, table.renormalised, table.losses, np.empty((80, 0)))
    cfg = EstimatorConfig(name="x", kind="no_covariates", nuisance=NuisanceConfig(outcome="ridge"))
    theta = fit_effects(roles, cfg, 0).effects.theta(np.empty(0))
    plain = LogShares().fit(table.renormalised, table.losses.mean(axis=1)).coefficients[1:]
    assert np.allclose(theta, -plain, atol=0.01)


def test_the_leaderboard_has_every_row_and_ranks_as_it_should(data_dir, tmp_path, capsys):
    assert regmix_tables.main([str(data_dir), "--json", str(tmp_path / "out.json")]) == 0
    content = json.loads((tmp_path / "out.json").read_text())
    names = list(dict.fromkeys(row["regressor"] for row in content["rows"]))
    assert len(names) == 8
    # Two targets and two means at three sizes; own share has no mean fitted as one.
    assert len(content["rows"]) == 8 * 4 * 3 - 3
    for row in content["rows"]:
        assert row["low"] <= row["spearman"] <= row["high"]
        assert row["regret"] >= 0
    found = {(row["regressor"], row["outcome"], row["scale"]): row["spearman"] for row in content["rows"]}
    assert found["log-share OLS", "pile_cc", "60m"] > 99
    assert found["own share", "pile_cc", "60m"] > 99
    printed = capsys.readouterr().out
    assert "| CausalMix, no state |" in printed
    assert "| pile_cc |" in printed


def test_the_interval_of_a_rank_correlation_agrees_with_scipy():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(1)
    truth = rng.normal(size=100)
    predicted = truth + rng.normal(size=100)
    value, low, high, regret = regmix_tables.score(predicted, truth, 400)
    assert value == pytest.approx(100 * spearmanr(predicted, truth).statistic)
    assert low < value < high
    assert regret == pytest.approx(truth[predicted.argmin()] - truth.min())


def test_adjusting_undoes_what_the_kept_rows_tie_together(data_dir, tmp_path, capsys):
    assert deconfound.main([str(data_dir), "--repeats", "4", "--json", str(tmp_path / "out.json")]) == 0
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert len(rows) == 2 * 3 * 3
    tied = {row["estimator"]: row for row in rows if row["strength"] == 3.0 and row["target"] == "pile_cc"}
    assert tied["naive"]["truth"] == pytest.approx(0.3, abs=0.02)
    assert tied["naive"]["bias"] > 0.2
    assert abs(tied["adjusted"]["bias"]) < 0.03
    assert abs(tied["DML"]["bias"]) < 0.03
    assert "| pile_cc | 3 |" in capsys.readouterr().out


def test_benchmarks_end_with_one_line_where_there_is_no_data(tmp_path, capsys):
    for benchmark in (regmix_tables, deconfound):
        assert benchmark.main([str(tmp_path)]) == 2
        assert capsys.readouterr().err.startswith("error: ")
