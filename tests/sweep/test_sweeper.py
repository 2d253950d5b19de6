"""From a command line to points: products, groups, order and refusals."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf.errors import OmegaConfBaseException

from causalmix.config import register_schemas
from causalmix.errors import ConfigError
from hydra_plugins.causalmix_sweeper.sweeper import CausalMixSweeper, merge_values
from tests.tiny import ROOT, TINY


@pytest.fixture(scope="module")
def sweeper() -> CausalMixSweeper:
    register_schemas()
    Plugins.instance().register(CausalMixSweeper)
    loader = ConfigLoaderImpl(create_config_search_path(str(ROOT / "conf")))
    config = loader.load_configuration("config", overrides=list(TINY), run_mode=RunMode.MULTIRUN)
    made = CausalMixSweeper()
    context = HydraContext(config_loader=loader, callbacks=Callbacks())
    made.setup(hydra_context=context, task_function=lambda _: None, config=config)
    return made


def expand(sweeper: CausalMixSweeper, *overrides: str) -> tuple[list[dict[str, Any]], list[str]]:
    assert sweeper.hydra_context is not None
    parser = OverridesParser.create(config_loader=sweeper.hydra_context.config_loader)
    return sweeper.compose_points(parser.parse_overrides([*TINY, *overrides]))


@pytest.mark.parametrize("written", [["mixture=equal", "train.lr_peak=1e-3"], ["mixture=regmix", "pool=jsonl"]])
def test_what_hydra_composed_already_is_not_composed_again(
    sweeper: CausalMixSweeper, monkeypatch: pytest.MonkeyPatch, written: list[str]
) -> None:
    swept = ["seed=range(3)", "train.n_epochs=1,2"]
    again, _ = expand(sweeper, *written, *swept)
    assert sweeper.hydra_context is not None
    loader = sweeper.hydra_context.config_loader
    config = loader.load_configuration("config", overrides=[*TINY, *written, *swept], run_mode=RunMode.MULTIRUN)
    monkeypatch.setattr(sweeper, "config", config)
    monkeypatch.setattr(loader, "load_sweep_config", lambda *_: pytest.fail("composed again"))
    points, names = expand(sweeper, *written, *swept)
    assert names == ["seed", "train.n_epochs"]
    assert len(points) == 6
    assert repr(points) == repr(again), "types and order too"


def test_seeds(sweeper: CausalMixSweeper) -> None:
    points, swept = expand(sweeper, "seed=range(5)")
    assert [point["seed"] for point in points] == [0, 1, 2, 3, 4]
    assert swept == ["seed"]
    assert all("hydra" not in point for point in points)
    first = {key: value for key, value in points[0].items() if key != "seed"}
    assert all({key: value for key, value in point.items() if key != "seed"} == first for point in points)


def test_a_product_of_groups_and_values(sweeper: CausalMixSweeper) -> None:
    points, swept = expand(sweeper, "mixture=equal,natural", "train.lr_peak=1e-3,2e-3", "seed=range(2)")
    found = [(point["mixture"]["kind"], point["train"]["lr_peak"], point["seed"]) for point in points]
    assert found == [(kind, rate, seed) for kind in ("equal", "natural") for rate in (1e-3, 2e-3) for seed in (0, 1)]
    assert swept == ["mixture", "seed", "train.lr_peak"]


def test_the_last_mention_of_a_key_wins(sweeper: CausalMixSweeper) -> None:
    points, _ = expand(sweeper, "seed=1", "train.n_samples=7", "train.n_samples=9")
    assert [(point["seed"], point["train"]["n_samples"]) for point in points] == [(1, 9)]
    points, swept = expand(sweeper, "seed=1,2", "train.n_samples=1,2", "seed=3")
    assert [(point["seed"], point["train"]["n_samples"]) for point in points] == [(3, 1), (3, 2)]
    assert swept == ["train.n_samples"]


def test_values_reach_inside_a_swept_group(sweeper: CausalMixSweeper) -> None:
    """A value of a group that is swept too is set on each of its choices."""
    points, _ = expand(sweeper, "model=tiny,small", "model.n_layers=1", "model.base.n_steps=3,4")
    assert [(p["model"]["name"], p["model"]["n_layers"], p["model"]["base"]["n_steps"]) for p in points] == [
        ("tiny", 1, 3),
        ("tiny", 1, 4),
        ("small", 1, 3),
        ("small", 1, 4),
    ]


def test_mixtures_by_hand_are_whole_values(sweeper: CausalMixSweeper) -> None:
    points, _ = expand(sweeper, "mixture=fixed", "mixture.weights={math: .5, coding: .5},{safety: 1}")
    assert [point["mixture"]["weights"] for point in points] == [{"math": 0.5, "coding": 0.5}, {"safety": 1}]


@pytest.mark.parametrize(
    "overrides",
    [
        ["seed=range(3)", "train.lr_peak=1,2e-3"],  # an integer for a float
        ["model.path=null,x", "evaluate.limit=null,3", "replicate=0,1"],
        ["cluster.modules=[a],[b,c]", "tracker.mode=offline,online"],
        ["mixture=fixed", "mixture.weights={math: .5},{safety: 1}", "seed=1,2"],
    ],
)
def test_merging_at_once_is_merging_one_by_one(
    sweeper: CausalMixSweeper, monkeypatch: pytest.MonkeyPatch, overrides: list[str]
) -> None:
    points, _ = expand(sweeper, *overrides)
    monkeypatch.setattr(
        "hydra_plugins.causalmix_sweeper.sweeper.merge_all",
        lambda base, combinations: [merge_values(base, values) for values in combinations],
    )
    slow, _ = expand(sweeper, *overrides)
    assert points == slow
    assert repr(points) == repr(slow), "types too"


def test_512_points_are_composed_in_seconds(sweeper: CausalMixSweeper) -> None:
    start = time.perf_counter()
    points, _ = expand(sweeper, "seed=range(512)")
    assert len(points) == 512
    assert time.perf_counter() - start < 20  # about two where nothing else runs; stock Hydra takes a minute


def test_what_cannot_be_swept_is_refused(sweeper: CausalMixSweeper) -> None:
    with pytest.raises(ConfigError, match="only lists"):
        expand(sweeper, "seed=interval(0,1)")
    with pytest.raises(OmegaConfBaseException, match="could not be converted to Integer"):
        expand(sweeper, "seed=a,b")
    with pytest.raises(OmegaConfBaseException, match="n_sample"):
        expand(sweeper, "train.n_sample=1,2")


def test_sweeps_may_stand_in_a_file(sweeper: CausalMixSweeper, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    monkeypatch.setattr(
        "causalmix.sweep.submit.run_sweep", lambda points, swept: seen.update(n=len(points), swept=swept)
    )
    monkeypatch.setattr(sweeper, "params", {"seed": "range(3)"})
    sweeper.sweep([*TINY, "mixture=equal,natural"])
    assert seen == {"n": 6, "swept": ["mixture", "seed"]}
