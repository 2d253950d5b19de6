"""Several ranks train what one process trains, and go on from each other's checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from causalmix.errors import StoppedEarlyError, TrainError
from causalmix.train.ranks import VARIABLES, Ranks, join_ranks
from causalmix.train.schedule import deal_rows
from tests.train.together import do_job, together

torch.set_num_threads(1)

FULL = {"config": {"batch_rows": 3, "n_epochs": 2, "lr_peak": 5e-3}}
IN_PASSES = {"config": {"batch_rows": 5, "rows_per_pass": 1, "n_epochs": 2, "lr_peak": 5e-3}}
RECOMPUTED = {"config": {"batch_rows": 3, "n_epochs": 2, "lr_peak": 5e-3, "recompute": True}}
ADAPTED = {"config": {"batch_rows": 3, "n_epochs": 2, "lr_peak": 1e-2, "lora": {"rank": 3}}}
HALF = {"config": {"batch_rows": 3, "n_epochs": 2, "lr_peak": 5e-3}, "dtype": "bfloat16"}
SAVED = {"config": {"batch_rows": 3, "n_epochs": 3, "lr_peak": 5e-3, "checkpoint_every": 2}}
SAVED_ADAPTED = {"config": {**ADAPTED["config"], "checkpoint_every": 1}}
DIFFERENT = {**FULL, "model_seed": {"1": 9}}
WHOLE = {**FULL, "model_seed": {"1": 0}}
FEW = {**FULL, "n_documents": 3}
KINDS = {"full": FULL, "passes": IN_PASSES, "recomputed": RECOMPUTED, "adapted": ADAPTED, "half": HALF}


def stop(job: dict[str, Any], folder: Path, by: int = 0) -> dict[str, Any]:
    return {**job, "checkpoints": str(folder), "stop_at": 3, "stopped_by": by}


def resume(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {**job, "checkpoints": str(folder)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def two(folder: Path) -> dict[str, dict[str, Any]]:
    """What two ranks say; a checkpoint of one process lies there for them."""
    do_job(stop(SAVED, folder / "one"))
    jobs = {
        **KINDS,
        "different": DIFFERENT,
        "whole": WHOLE,
        "stopped": stop(SAVED, folder / "two", by=1),
        "stopped adapted": stop(SAVED_ADAPTED, folder / "two adapted"),
        "from one": resume(SAVED, folder / "one"),
        "other": resume({**SAVED, "config": {**SAVED["config"], "lr_peak": 1e-4}}, folder / "two"),
    }
    return dict(zip(jobs, together(list(jobs.values()), 2, folder / "of two")))


@pytest.fixture(scope="module")
def four(folder: Path, two: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What four ranks say: more than the last step of an epoch has rows, and than an adapter has."""
    jobs = {
        **KINDS,
        "few": FEW,
        "from two": resume(SAVED, folder / "two"),
        "from two adapted": resume(SAVED_ADAPTED, folder / "two adapted"),
        "stopped": stop(SAVED, folder / "four"),
    }
    return dict(zip(jobs, together(list(jobs.values()), 4, folder / "of four")))


def assert_close(found: dict[str, Any], wanted: dict[str, Any], tolerance: float = 1e-5) -> None:
    assert found["losses"].keys() <= wanted["losses"].keys()
    for step, loss in found["losses"].items():
        assert loss == pytest.approx(wanted["losses"][step], abs=tolerance), step
        assert found["norms"][step] == pytest.approx(wanted["norms"][step], rel=max(tolerance, 1e-4)), step
    for name in ("n_steps", "n_samples", "n_tokens", "n_target_tokens", "n_truncated"):
        assert found["result"][name] == wanted["result"][name]
    for name, total in wanted["sums"].items():
        if tolerance > 1e-3 and name.endswith("k_proj.bias"):
            continue  # adding a constant to all keys changes no attention: its gradient is rounding alone
        assert found["sums"][name] == pytest.approx(total, rel=max(tolerance, 1e-4)), name


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("size", ["two", "four"])
def test_losses_are_those_of_one_process(kind: str, size: str, request: pytest.FixtureRequest) -> None:
    said = request.getfixturevalue(size)[kind]
    alone = do_job(KINDS[kind])
    assert len(said["losses"]) >= 4
    assert_close(said, alone, 2e-2 if kind == "half" else 1e-5)


def test_recomputing_changes_nothing() -> None:
    assert do_job(RECOMPUTED)["losses"] == pytest.approx(do_job(FULL)["losses"], abs=1e-6)


@pytest.mark.slow
def test_any_number_of_ranks_goes_on_where_another_stopped(
    two: dict[str, dict[str, Any]], four: dict[str, dict[str, Any]], folder: Path
) -> None:
    whole = do_job(SAVED)
    assert two["stopped"]["stopped"]
    assert four["stopped"]["stopped"]
    shutil.copytree(folder / "four", folder / "four, for one")
    one = do_job(resume(SAVED, folder / "four, for one"))
    for said in (two["from one"], four["from two"], one):
        assert min(map(int, said["losses"])) == 4
        assert_close(said, whole)
    adapted = four["from two adapted"]
    assert min(map(int, adapted["losses"])) == 4
    assert_close(adapted, do_job(ADAPTED))


@pytest.mark.slow
def test_a_checkpoint_of_ranks_is_safetensors_and_json(four: dict[str, dict[str, Any]], folder: Path) -> None:
    (step,) = (folder / "four").iterdir()
    assert {file.suffix for file in step.iterdir()} == {".safetensors", ".json"}
    assert json.loads((step / "state.json").read_text())["n_ranks"] == 4


@pytest.mark.slow
def test_ranks_may_bring_the_whole_model(two: dict[str, dict[str, Any]]) -> None:
    assert two["whole"]["losses"] == two["full"]["losses"]
    assert two["whole"]["sums"] == two["full"]["sums"]


@pytest.mark.slow
def test_more_ranks_than_documents_are_refused(four: dict[str, dict[str, Any]]) -> None:
    assert "4 ranks cannot share 3 documents: set resources.ranks to at most 3" in four["few"]["error"]


@pytest.mark.slow
def test_ranks_that_hold_different_things_are_refused(two: dict[str, dict[str, Any]]) -> None:
    assert "Ranks [1] of 2 would train something else" in two["different"]["error"]


@pytest.mark.slow
def test_a_checkpoint_of_another_training_is_refused_by_all(two: dict[str, dict[str, Any]]) -> None:
    assert "checkpoint of another training" in two["other"]["error"]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["flipped", "missing"])
def test_a_damaged_part_is_refused(four: dict[str, dict[str, Any]], folder: Path, tmp_path: Path, what: str) -> None:
    shutil.copytree(folder / "four", tmp_path / "copy")
    (step,) = (tmp_path / "copy").iterdir()
    file = sorted(step.glob("*.safetensors"))[1]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    if what == "missing":
        file.unlink()
    with pytest.raises(TrainError, match=r"is damaged .* delete .*step-.* to restart"):
        raise TrainError(do_job(resume(SAVED, tmp_path / "copy"))["error"])


@given(n_rows=st.integers(1, 40), rows_per_pass=st.integers(0, 5), size=st.integers(1, 9))
def test_every_row_counts_once_and_all_ranks_keep_step(n_rows: int, rows_per_pass: int, size: int) -> None:
    rows = tuple((at,) for at in range(n_rows))
    dealt = [deal_rows(rows, rows_per_pass, Ranks(rank, size)) for rank in range(size)]
    assert len({len(passes) for passes, _ in dealt}) == 1
    counted = [row for passes, n_real in dealt for part in passes[:n_real] for row in part]
    assert sorted(counted) == sorted(rows)
    assert all(part for passes, _ in dealt for part in passes)


def test_one_process_needs_nobody() -> None:
    alone = Ranks()
    assert alone.add(1, 2.5) == [1, 2.5]
    assert alone.share("x") == "x"
    assert alone.agree(lambda: True)
    alone.check_same("digest")
    alone.wait()


def test_joining_without_an_environment_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(TrainError, match="needs WORLD_SIZE, MASTER_ADDR, MASTER_PORT in the environment"):
        join_ranks(1)


def test_a_stop_of_another_rank_is_an_early_end() -> None:
    """The sum that ``agree`` gets stands for what the others said."""

    class Heard(Ranks):
        def add(self, *numbers: float) -> list[float]:
            return [numbers[0] + 4]

    with pytest.raises(StoppedEarlyError, match="another process"):
        Heard(0, 2).agree(lambda: False)
