from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from analysis.app import run
from analysis.calls import answer_settings, find_policy_weights
from analysis.estimators.fit import FAMILIES
from analysis.extrapolate import answer_target
from analysis.fitted import fit_table
from analysis.settings import read_targets
from analysis.target_state import list_known_states
from causalmix.config import PolicyConfig, TargetConfig
from causalmix.errors import AnalysisError, ConfigError
from tests.analysis.synthetic import DOMAINS, FEATURES, make_config, make_frame, make_runs

NAMES = [f"{f}.{d}" for f in FEATURES for d in DOMAINS]
HERE, THERE = ({**dict.fromkeys(NAMES, 0.0), "hes.code": a, "hes.math": -a} for a in (0.6, -0.6))


@pytest.mark.parametrize("estimator", ["own_state", "causal_forest", "varying_coefficient_gp"])
def test_another_pool_another_size_and_another_policy_take_no_refit(estimator, monkeypatch):
    cfg = make_config(estimator, n_refits=4, target=TargetConfig(reference="equal"))
    table = fit_table(cfg, make_runs(make_frame(160)))
    first = answer_target(table, progress=False)

    def refuse(*given):
        raise AssertionError("an extrapolation refits nothing")

    for name, family in FAMILIES.items():
        monkeypatch.setitem(FAMILIES, name, dataclasses.replace(family, fit=refuse))
    state = {name: float(x) for name, x in zip(table.roles.x_names, table.roles.X[3])}
    small = TargetConfig(state=state, reference="equal", n_samples=100, available=dict.fromkeys(DOMAINS, 30))
    other = answer_target(table, small, PolicyConfig(name="s", kind="causalmix_s", n_candidates=5000), progress=False)
    assert np.abs(other.candidate.weights - first.candidate.weights).max() > 0.01
    assert sum(int(count["n"]) for count in other.counts.values()) == 100
    assert other.effects is first.effects
    assert other.spread is not None


def test_an_extrapolation_is_the_answer_of_an_analysis_of_its_own():
    runs = make_runs(make_frame(160))
    cfg = make_config(n_refits=3, target=TargetConfig(state=HERE, reference="equal"))
    table = fit_table(cfg, runs)
    answer_target(table, progress=False)
    there = TargetConfig(state=THERE, reference="equal")
    again = answer_target(table, there, progress=False).to_json()
    alone = answer_target(fit_table(dataclasses.replace(cfg, target=there), runs), progress=False).to_json()
    refits = {"CM011", "CM012", "CM013", "CM014", "CM015", "CM016"}  # asked once a fit, at the first target
    for each in (again, alone):
        each["checks"] = [check for check in each["checks"] if check["code"] not in refits]
    assert again == alone


def test_one_command_answers_several_targets(tmp_path):
    path = tmp_path / "runs.csv"
    make_frame(120).to_csv(path, index=False)
    targets = {"here": {"state": HERE}, "there": {"state": THERE, "reference": "equal"}}
    cfg = make_config(runs=str(path), output_dir=str(tmp_path / "out"), targets=targets, report=False)
    answers = run(cfg, progress=False)
    assert len(answers) == 2
    written = [json.loads((tmp_path / "out" / name / "mixture.json").read_text()) for name in targets]
    assert written[0]["candidate"]["code"] > written[1]["candidate"]["code"]


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({"../up": {"state": HERE}}, r"'\.\./up' names a folder"),
        ({"a": {"stat": HERE}}, r"targets\.a: no key 'stat' \(did you mean 'state'\?\)"),
        ({"a": {"n_samples": "800K"}}, r"targets\.a: Value '800K' .*\(n_samples\)"),
        ({"a": {"floor": "low"}}, r"targets\.a: Value 'low' .*\(floor\)"),
    ],
)
def test_wrong_targets_are_named(targets, message):
    with pytest.raises(ConfigError, match=message):
        read_targets(make_config(targets=targets))


def test_every_target_that_cannot_be_answered_is_named_before_the_fit(tmp_path, monkeypatch):
    import analysis.app

    monkeypatch.setattr(analysis.app, "fit_table", lambda *given: pytest.fail("nothing may be fitted"))
    path = tmp_path / "runs.csv"
    make_frame(60).to_csv(path, index=False)
    targets = {"a": {"state": HERE}, "b": {"caps": {"maths": 0.1}}, "c": {"state": {"hess": 1.0}}}
    for estimator in ("auto", "own_state"):
        cfg = make_config(estimator, runs=str(path), output_dir=str(tmp_path / "out"), targets=targets)
        with pytest.raises(AnalysisError, match=r"targets\.b: .*did you mean 'math'.*targets\.c: .*did you mean 'hes'"):
            run(cfg, progress=False)
    assert not (tmp_path / "out").exists()


def test_auto_takes_a_state_that_every_target_has():
    names = ["hes", "hes.math", "hes.code"]
    with_domains = TargetConfig(state={"hes": 0.1, "hes.math": 0.2, "hes.code": 0.0})
    assert list_known_states([TargetConfig()], names) is None
    assert list_known_states([TargetConfig(), with_domains], names) == names
    assert list_known_states([with_domains, TargetConfig(state={"hes": 0.3})], names) == ["hes"]


def test_an_output_folder_that_cannot_be_is_said_before_the_fit(tmp_path):
    make_frame(60).to_csv(tmp_path / "runs.csv", index=False)
    cfg = make_config(runs=str(tmp_path / "runs.csv"), output_dir=str(tmp_path / "runs.csv" / "out"))
    with pytest.raises(ConfigError, match=r"output_dir=.*runs\.csv is no folder"):
        run(cfg, progress=False)


def test_answers_of_one_table_share_one_fit(tmp_path, monkeypatch):
    import analysis.calls

    path = tmp_path / "runs.csv"
    make_frame(120).to_csv(path, index=False)
    fits = []
    monkeypatch.setattr(analysis.calls, "fit_table", lambda cfg, runs: fits.append(1) or fit_table(cfg, runs))
    estimator = dataclasses.asdict(make_config().estimator)
    for name, state in (("here", HERE), ("there", THERE)):
        settings = {"runs": str(path), "estimator": estimator, "policy": {"name": "a", "kind": "causalmix_a"}}
        settings |= {"target": {"state": state}, "output_dir": str(tmp_path / name), "n_refits": 0, "report": False}
        answer_settings(settings)
    assert len(fits) == 1


def test_a_launch_raises_what_its_outcome_says(tmp_path, capsys):
    """launch.py mixture=policy takes the same outcome, and the same word on failed checks, as python -m analysis."""
    path = tmp_path / "runs.csv"
    frame = make_frame(160)
    abilities = [c for c in frame.columns if c.startswith("outcome.") and c != "outcome.avg_dev"]
    assert len(abilities) > 1
    frame.to_csv(path, index=False)

    def ask(outcome, runs=path, allowed=()):
        config = {
            "runs": str(runs), "estimator": dataclasses.asdict(make_config().estimator),
            "policy": {"name": "a", "kind": "causalmix_a"}, "outcome": outcome, "allow_failed_checks": list(allowed),
            "target": dataclasses.asdict(TargetConfig(state=HERE)), "pool": {}, "outputs": str(tmp_path),
            "train": {"n_samples": 100}, "mixture": {"use_candidate": True},
        }  # fmt: skip
        return find_policy_weights(config, lambda: path)

    plain = ask({"name": "avg_dev"})
    first = ask({"name": "avg_dev", "weights": {abilities[0].removeprefix("outcome."): 1.0}})
    assert plain != first
    with pytest.raises(ConfigError, match="CM999"):
        ask({"name": "avg_dev"}, allowed=["CM999"])
