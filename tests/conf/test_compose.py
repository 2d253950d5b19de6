"""Every file of conf/ composes, every experiment has a test, and a wrong setting is named with the right one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from causalmix.cli import compose_config
from causalmix.config import GROUPS
from causalmix.entry import (
    explain_hydra_error,
    find_cause,
    known_keys,
    name_program,
    refuse_sweep_without_multirun,
    sort_flags,
    suggest_key,
)
from causalmix.errors import ConfigError
from causalmix.sweep.points import to_config
from causalmix.sweep.settings import OWN_COHORT, check_settings
from tests.tiny import ROOT, launch

CONF = ROOT / "conf"
FILES = sorted((path.parent.name, path.stem) for group in GROUPS for path in (CONF / group).glob("*.yaml"))


@pytest.fixture(autouse=True)
def policy_weights() -> Any:
    """What launch.py registers: mixture=policy becomes numbers; here without a fit."""
    OmegaConf.register_new_resolver("policy_weights", lambda: {"math": 0.5, "coding": 0.5}, replace=True)
    yield
    OmegaConf.clear_resolver("policy_weights")


# --- files of conf/ ----------------------------------------------------------------------------------


def test_every_group_has_a_schema_and_files() -> None:
    folders = {path.name for path in CONF.iterdir() if path.is_dir()} - {"experiment", "hydra"}
    assert folders == set(GROUPS)
    assert {group for group, _ in FILES} == set(GROUPS)


@pytest.mark.parametrize(("group", "name"), FILES)
def test_every_file_composes_to_the_types_of_its_schema(group: str, name: str) -> None:
    own_cohort = OWN_COHORT.get(name, "signal") if group == "mixture" else "signal"
    plain = compose_config([f"{group}={name}", f"cohort={own_cohort}"])
    assert plain[group]["name"] == name
    assert isinstance(getattr(to_config(plain), group), GROUPS[group])
    check_settings(plain)


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "estimator").glob("*.yaml")))
def test_analysis_composes_with_every_estimator(name: str) -> None:
    plain = compose_analysis(f"estimator={name}")
    assert plain["estimator"]["name"] == name
    assert plain["output_dir"] == f"outputs/analysis/{name}-causalmix_a"


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "policy").glob("*.yaml")))
def test_analysis_composes_with_every_policy(name: str) -> None:
    assert compose_analysis(f"policy={name}")["policy"]["name"] == name


def compose_analysis(*overrides: str) -> dict[str, Any]:
    from hydra import compose, initialize_config_dir

    from causalmix.config import register_schemas, resolve

    register_schemas()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return resolve(compose("analysis", overrides=list(overrides)))


# --- mappings and messages ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "path", "value"),
    [
        ("evaluate.dev={support: [our_tickets]}", ("evaluate", "dev", "support"), ["our_tickets"]),
        ("pool.candidate.tau={math: {hes: 1.5}}", ("pool", "candidate", "tau"), {"math": {"hes": 1.5}}),
        ("pool.domain_map={some/source: math, other: null}", ("pool", "domain_map", "other"), None),
        ("study.targets={swap: {math: {hes: 1.5}}}", ("study", "targets", "swap"), {"math": {"hes": 1.5}}),
    ],
)
def test_a_mapping_is_given_whole(given: str, path: tuple[str, ...], value: Any) -> None:
    found: Any = compose_config([given])
    for part in path:
        found = found[part]
    assert found == value


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("pool.candidate.tau={math: 3}", "Value 3 (int) is incompatible"),
        (
            "pool.candidate.tou.math=1",
            "unknown key 'pool.candidate.tou.math' (did you mean something in 'pool.candidate.tau'?)",
        ),
        ("train={n_sample: 3}", "unknown key 'train.n_sample' (did you mean 'train.n_samples'?)"),
        ("evaluate.dov={a: [b]}", "unknown key 'evaluate.dov' (did you mean 'evaluate.dev'?)"),
    ],
)
def test_a_right_key_is_never_answered_with_itself(given: str, said: str) -> None:
    with pytest.raises((HydraException, OmegaConfBaseException)) as caught:
        compose_config([given])
    message = explain_hydra_error(str(caught.value), str(find_cause(caught.value)))
    assert said in message
    assert "full_key" not in message
    assert f"'{given.split('=')[0]}' (did you mean '{given.split('=')[0]}'" not in message


# --- experiments: one test each -------------------------------------------------------------------------

EXPERIMENTS = {
    "demo": {
        "study.n_proxies": 160,
        "study.confirm_sizes": [2],
        "study.docs_file": None,
        "pool.source": "demo",
    },
    "study": {"study.n_proxies": 512, "study.confirm_sizes": [2, 8], "study.docs_file": "docs/study.md"},
    "real_pool": {"pool.source": "jsonl", "evaluate.name": "pool", "train.max_length": 512},
    "stages": {"job": "stages", "stages.n_stages": 2, "stages.rescore": True, "mixture.kind": "natural"},
    "causalmix_sft": {
        "model.path": "Qwen/Qwen2.5-0.5B",
        "train.n_samples": 100_000,
        "train.n_epochs": 3,
        "train.max_length": 4096,
        "train.lr_peak": 1e-5,
        "train.warmup_fraction": 0.1,
        "mixture.kind": "dirichlet",
        "pool.candidate.kind": "tilted",
        "evaluate.source": "lm_eval",
        "resources.ranks": 1,
        "cohort": "signal",
    },
    "causalmix_sft_target": {
        "model.path": "Qwen/Qwen2.5-7B",
        "model.dtype": "bfloat16",
        "train.n_samples": 800_000,
        "train.n_epochs": 3,
        "train.lr_peak": 5e-6,
        "train.recompute": True,
        "mixture.kind": "policy",
        "pool.candidate.kind": "all",
        "resources.ranks": 8,
        "resources.gpus": 8,
        "resources.nodes": 1,
        "cohort": "confirmation",
    },
    "causalmix_longcot": {
        "model.path": "Qwen/Qwen3-4B-Base",
        "train.max_length": 32_768,
        "train.lr_peak": 5e-5,
        "outcome.weights": {"math": 0.5, "coding": 0.5},
        "resources.ranks": 8,
        "cohort": "confirmation",
    },
    "ablation": {"model.path": "Qwen/Qwen2.5-0.5B", "train.n_samples": 800_000, "mixture.kind": "policy"},
}
"""What each experiment promises; a new file in conf/experiment needs an entry."""


def test_every_experiment_has_a_test() -> None:
    assert set(EXPERIMENTS) == {path.stem for path in (CONF / "experiment").glob("*.yaml")}


POOLS = {"causalmix_sft": "tulu3_800k", "causalmix_sft_target": "tulu3_800k", "ablation": "tulu3_800k"}
POOLS |= {"causalmix_longcot": "longcot"}


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_an_experiment_composes_and_keeps_its_promises(name: str) -> None:
    plain = compose_config([f"experiment={name}"])
    check_settings(plain)
    to_config(plain)
    if plain["job"] == "study":
        assert plain["study"]["name"] == name
        assert plain["study"]["confirm_model"]["hidden_size"] > plain["model"]["hidden_size"]
    assert name not in POOLS or plain["job"] == "run"
    text = (CONF / "experiment" / f"{name}.yaml").read_text()
    assert name not in POOLS or f"/pool: {POOLS[name]}" in text or "- causalmix_sft" in text
    for key, value in EXPERIMENTS[name].items():
        found: Any = plain
        for part in key.split("."):
            found = found[part]
        assert found == value, key


def test_an_ablation_sweeps_estimators_and_policies() -> None:
    from hydra import compose, initialize_config_dir

    from causalmix.config import register_schemas

    register_schemas()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("config", overrides=["experiment=ablation"], return_hydra_config=True)
    assert dict(composed.hydra.sweeper.params) == {
        "estimator": "causal_forest,no_orthogonalisation,no_covariates",
        "policy": "causalmix_a,causalmix_s",
    }


def test_pretrained_models_are_pinned_and_their_architecture_is_known() -> None:
    from causalmix.train.architectures import ARCHITECTURES

    pinned = 0
    for group, name in FILES:
        model = compose_config([f"model={name}"])["model"] if group == "model" else {"source": "config"}
        if model["source"] == "pretrained":
            assert re.fullmatch(r"[0-9a-f]{40}", model["revision"]), name
            assert model["path"] in ARCHITECTURES
            pinned += 1
    assert pinned >= 3


def test_a_study_names_policies_and_ablations_whole() -> None:
    study = compose_config(["experiment=study"])["study"]
    assert set(study["policies"]) == {"causalmix_a", "causalmix_s", "regmix", "best_observed"}
    assert study["policies"]["regmix"]["n_best"] == 128
    assert set(study["ablations"]) >= {"no_orthogonalisation", "no_covariates"}


def test_the_swap_is_a_swap() -> None:
    """Domains with junk in one target have none in the other, but instruction following, clean in both."""
    one, two = compose_config(["experiment=demo"])["study"]["targets"].values()
    spoilt = [{domain for domain, tilt in target.items() if tilt["normalized_loss"] > 0} for target in (one, two)]
    assert not spoilt[0] & spoilt[1]
    assert set(one) - spoilt[0] - spoilt[1] == {"instruction_following"}


# --- wrong settings, by function ------------------------------------------------------------------------


def explain(*overrides: str) -> str:
    with pytest.raises((HydraException, OmegaConfBaseException)) as caught:
        compose_config(list(overrides))
    return explain_hydra_error(str(caught.value), str(find_cause(caught.value)))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("modle=tiny", "unknown key 'modle' (did you mean 'model'?)"),
        ("train.n_sample=3", "unknown key 'train.n_sample' (did you mean 'train.n_samples'?)"),
        ("trian.n_samples=3", "unknown key 'trian.n_samples' (did you mean 'train.n_samples'?)"),
        (
            "pool.candidat.tau_sd=3",
            "unknown key 'pool.candidat.tau_sd' (did you mean 'pool.candidate.tau_sd'?)",
        ),
        ("n_samples=3", "unknown key 'n_samples' (did you mean 'train.n_samples'?)"),
        (
            "model=tiy",
            "tiny (did you mean 'tiny'?)",
        ),
        ("mixture=dirichle", "(did you mean 'dirichlet'?)"),
        ("experiment=dmeo", "(did you mean 'demo'?)"),
        ("policy=xyzzy", "is not one of best_observed, causalmix_a, causalmix_s"),
        ("seed=abc", "seed=abc: a whole number"),
        ("train.lr_peak=high", "train.lr_peak=high: a number"),
        ("train.n_samples=1e3", "train.n_samples=1000.0: a whole number"),
        ("resources.timeout_min=0.5", "resources.timeout_min=0.5: a whole number of minutes, 1 or more"),
        ("cluster.wait=perhaps", "cluster.wait=perhaps: true or false"),
        ("cluster.modules=cuda", "cluster.modules=cuda: a list, as [a,b]"),
        ("cluster.partition=[a]", "cluster.partition=[a]: one text"),
        ("train.n_samples=null", "train.n_samples=null: a value is needed"),
        ("evaluate.dev=[math]", "evaluate.dev=[math]: a mapping"),
        ("model.hidden_size={a: 1}", "a whole number"),
    ],
)
def test_a_wrong_setting_is_named_with_the_right_one(override: str, message: str) -> None:
    assert message in explain(override)


@pytest.mark.parametrize("key", ["train.n_samples", "pool.candidate.tau_sd", "estimator.nuisance.n_folds", "seed"])
def test_a_typing_slip_in_any_key_is_mended(key: str) -> None:
    slipped = key[:-2] + key[-1] + key[-2]
    assert f"'{key}'" in suggest_key(slipped)


def test_known_keys_are_those_of_both_schemas() -> None:
    keys = known_keys()
    assert {"train.lora.rank", "study.n_proxies", "allow_failed_checks", "target.state_file"} <= set(keys)


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["job=studdy"], ["job=studdy (did you mean 'study'?)", "allowed: run, study"]),
        (["mixture.kind=dirichlt"], ["mixture.kind=dirichlt (did you mean 'dirichlet'?)"]),
        (["cluster.kind=slrm"], ["cluster.kind=slrm (did you mean 'slurm'?); allowed: local, slurm, auto"]),
        (["cohort=sgnal"], ["did you mean 'signal'"]),
        (["tracker.mode=ofline"], ["did you mean 'offline'"]),
        (["model.source=hub"], ["allowed: config, pretrained"]),
        (["resources.n_workers=0"], ["resources.n_workers=0: 1 or more"]),
        (["seed=-1"], ["seed=-1: 0 or more"]),
        (["train.n_samples=0", "job=x"], ["train.n_samples=0: 1 or more", "job=x"]),  # all of them at once
        (["job=study"], ["job=study needs study.targets, study.policies"]),
        (["experiment=demo", "plan=true"], ["plan=true with job=study"]),
        (["resources.time_min=0"], ["resources.time_min=0: 1 or more"]),
        (["resources.time_min=2"], ["resources.time_min=2 with cluster.grace_s=120: a task would be told to stop"]),
        (["model.name=../../x"], ["model.name=../../x: letters, digits"]),
        (["stages.name=/x", "study.name=.."], ["stages.name=/x: letters", "study.name=..: letters"]),
        (["experiment=demo", "study.n_seeds=1"], ["study.n_seeds=1: 2 or more"]),
        (["experiment=demo", "study.shares=[equal]"], ["study.shares=['equal']: equal and natural"]),
        (["experiment=demo", "study.confirm_sizes=[2,2]"], ["study.confirm_sizes=[2, 2]: different"]),
    ],
)
def test_values_that_no_run_could_have(overrides: list[str], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        check_settings(compose_config(overrides))
    for part in parts:
        assert part in str(caught.value)


def test_a_range_without_m_says_what_to_type() -> None:
    with pytest.raises(
        ConfigError, match=r"-m was not given.*python launch\.py -m 'mixture=dirichlet' 'seed=range\(512\)'"
    ):
        refuse_sweep_without_multirun(["mixture=dirichlet", "seed=range(512)"])
    with pytest.raises(ConfigError, match="model=tiny,small asks for several runs"):
        refuse_sweep_without_multirun(["model=tiny,small"])
    with pytest.raises(ConfigError, match=r"python -m analysis -m 'policy=equal,natural'"):
        refuse_sweep_without_multirun(["policy=equal,natural"], name_program(str(ROOT / "analysis/__main__.py")))
    assert name_program("launch.py") == "python launch.py"


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "seed=range(3)"],
        ["seed=1,2", "--multirun"],
        ["study.confirm_sizes=[2,8]"],
        ["mixture.weights={math: .5, coding: .5}"],
        ["'not an override="],
        [],
    ],
)
def test_what_is_no_sweep_passes(arguments: list[str]) -> None:
    refuse_sweep_without_multirun(arguments)


def test_m_may_stand_anywhere() -> None:
    assert sort_flags(["a=1", "-m", "b=2"]) == ["-m", "a=1", "b=2"]


# --- wrong settings, as typed ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["modle=tiny"], "did you mean 'model'"),
        (["mixture=dirichlet", "seed=range(512)"], "asks for several runs, but -m was not given"),
        (["train.n_sample=1,2", "-m"], "did you mean 'train.n_samples'"),
        (["-m", "tarin.n_samples=1,2"], "unknown key 'tarin' (did you mean 'train'?)"),
        (["-m", "seed=a,b"], "error: seed=a: a whole number"),
        (
            ["-m", "resources.timeout_min=0.5,1"],
            "error: resources.timeout_min=0.5: a whole number of minutes, 1 or more",
        ),
        (["-m", "seed=interval(0,1)"], "only lists, range(...) and choice(...) can be swept"),
        (["-m", "experiment=demo"], "leave -m out"),
        (["mixture=policy"], "error: mixture=policy needs runs=SWEEP-or-table"),
        (["mixture=policy", "runs=nowhere"], "nowhere"),
        (["job=studdy"], "did you mean 'study'"),
        (["pool=jsonl"], "pool.path"),
        (["mixture=fixed", "mixture.file=nowhere.json"], "mixture.file=nowhere.json: cannot be read"),
    ],
)
def test_a_mistake_ends_with_status_2_and_no_traceback(tiny_outputs: Path, arguments: list[str], message: str) -> None:
    from tests.tiny import TINY

    ended = launch(f"outputs={tiny_outputs}", *TINY, *arguments)
    assert message in ended.stderr
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr


def test_analysis_ends_the_same_way(tmp_path: Path) -> None:
    for arguments, message in (
        ([], "runs=... is missing"),
        (["runz=x"], "did you mean 'runs'"),
        (["policy=causalmix_x"], "did you mean 'causalmix_"),
    ):
        ended = launch(*arguments, f"output_dir={tmp_path}", module="analysis")
        assert message in ended.stderr
        assert ended.returncode == 2
        assert "Traceback" not in ended.stderr


def test_the_command_ends_the_same_way(tmp_path: Path) -> None:
    for arguments, message in (
        (["status", str(tmp_path)], "is no sweep folder"),
        (["pool", "prepare", "pool=demmo"], "did you mean 'demo'"),
        (["table", str(tmp_path / "none.csv"), str(tmp_path / "out.csv")], "none.csv"),
    ):
        ended = launch(*arguments, module="causalmix.cli")
        assert message in ended.stderr, ended.stderr
        assert ended.returncode == 2
        assert "Traceback" not in ended.stderr
