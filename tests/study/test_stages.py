"""Stage-wise training: the state moves with the model, the fit does not, and each stage goes on from the last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from analysis.calls import answer_settings
from causalmix.config import CandidateConfig
from causalmix.errors import ConfigError, PoolError
from causalmix.pool.candidate import draw_candidates
from causalmix.pool.rescore import draw_sample, measure_shift, score_sample
from causalmix.pool.state import measure_state
from causalmix.pool.store import Pool, open_pool
from causalmix.run.identity import describe_identity, make_run_id
from causalmix.study.stages import StagesResult, make_stage, move_state, run_stages, split_evenly
from causalmix.sweep.points import Inputs, find_base
from causalmix.train.model import load_base
from tests.analysis.synthetic import make_frame
from tests.plain import make_plain
from tests.tiny import TINY, compose_tiny, launch

DOMAINS = ("coding", "instruction_following", "knowledge", "math", "safety")
STAGES = ["experiment=stages", "train.n_samples=301", "stages.n_documents=60", "mixture.use_candidate=true"]
QUICK = ["estimator.nuisance.outcome=ridge", "estimator.nuisance.n_folds=2", "resources.n_workers=1"]


@pytest.fixture(scope="module")
def pool(tiny_outputs: Path) -> Pool:
    return open_pool(Inputs(tiny_outputs).prepare_pool(compose_tiny(tiny_outputs)))


@pytest.fixture(scope="module")
def base(tiny_outputs: Path) -> Any:
    plain, inputs = compose_tiny(tiny_outputs), Inputs(tiny_outputs)
    found = find_base(plain, inputs.prepare_pool(plain), inputs, {})
    assert found is not None
    return load_base(found)


def test_documents_are_split_evenly() -> None:
    assert split_evenly(301, 2) == [150, 151]
    assert split_evenly(10, 3) == [3, 3, 4]
    assert all(sum(split_evenly(n, parts)) == n for n in range(40) for parts in range(1, 7))


def test_a_stage_is_a_fixed_mixture_from_the_model_of_the_one_before() -> None:
    plain = make_plain()
    stage = make_stage(plain, 1, 50, {"math": 1.0}, Path("/there/runs/0123456789abcdef/model"))
    assert stage["model"]["source"] == "pretrained"
    assert (stage["cohort"], stage["replicate"], stage["seed"]) == ("stage", 1, plain["seed"])
    assert plain["model"]["source"] == "config"  # the first stage's is left as it was
    moved = make_stage(plain, 1, 50, {"math": 1.0}, Path("/elsewhere/runs/0123456789abcdef/model"))
    other = make_stage(plain, 1, 50, {"math": 1.0}, Path("/there/runs/fedcba9876543210/model"))
    ids = [make_run_id(describe_identity(point, "pool")) for point in (stage, moved, other)]
    assert ids[0] == ids[1] != ids[2]  # known by the run, wherever its folder is


def test_a_model_that_has_learnt_nothing_moves_nothing(pool: Pool, base: Any) -> None:
    candidates = draw_candidates(pool, CandidateConfig(kind="all"), seed=0)
    sample = draw_sample(pool, candidates, 50, seed=3)
    assert np.bincount(sample.domain_ids).tolist() == [10] * 5
    assert draw_sample(pool, candidates, 50, seed=3).doc_ids.tolist() == sample.doc_ids.tolist()
    scores = score_sample(pool, sample, base, 4096)
    still = measure_shift(pool, sample, scores, score_sample(pool, sample, base, 4096))
    assert set(still) == {*pool.features[:2], *(f"{f}.{d}" for f in pool.features[:2] for d in DOMAINS)}
    assert set(still.values()) == {0.0}
    wide = measure_shift(pool, sample, scores, scores + np.array([0.0, 2.0]))
    sd = pool.facts["normaliser"]["sd"][pool.features.index("normalized_loss")]
    assert wide["normalized_loss"] == pytest.approx(2.0 / sd) == wide["normalized_loss.math"]
    assert wide["hes"] == 0.0
    with pytest.raises(PoolError, match="its training has diverged"):
        measure_shift(pool, sample, scores, scores * np.nan)


def test_a_shift_of_the_pool_is_that_of_its_domains_by_their_shares(pool: Pool) -> None:
    candidates = draw_candidates(pool, CandidateConfig(kind="tilted"), seed=1)
    sample = draw_sample(pool, candidates, 10_000, seed=0)  # more than there are: all of them
    assert sample.doc_ids.tolist() == candidates.doc_ids.tolist()
    after = pool.raw_scores[sample.doc_ids][:, :2]
    shift = measure_shift(pool, sample, np.zeros_like(after), after)
    sd = np.array(pool.facts["normaliser"]["sd"][:2])
    np.testing.assert_allclose([shift["hes"], shift["normalized_loss"]], after.mean(axis=0) / sd)
    state = measure_state(pool, candidates).named()
    moved = move_state(state, shift)
    assert moved["hes.math"] == pytest.approx(state["hes.math"] + shift["hes.math"])
    assert moved["writing_style"] == state["writing_style"]


def test_what_stages_cannot_do_is_refused(tiny_outputs: Path) -> None:
    plain = compose_tiny(tiny_outputs, "experiment=stages")
    with pytest.raises(ConfigError, match="job=stages needs runs="):
        run_stages(plain, answer_settings)
    plain = compose_tiny(tiny_outputs, "experiment=stages", "runs=t.csv", "train.n_samples=1", "plan=true")
    with pytest.raises(ConfigError, match=r"train.n_samples=1 cannot be split into stages.n_stages=2; plan=true with"):
        run_stages(plain, answer_settings)


def test_the_command_reaches_the_stages(tiny_outputs: Path) -> None:
    ended = launch(*TINY, "experiment=stages", f"outputs={tiny_outputs}")
    assert ended.returncode == 2
    assert ended.stderr.strip().endswith("job=stages needs runs=SWEEP-or-table: the runs that the policy is fitted on")


# --- end to end ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep whose effects hang on each domain's own state."""
    path = tmp_path_factory.mktemp("table") / "runs.csv"
    make_frame(200, domains=DOMAINS, noise=0.2).to_csv(path, index=False)
    return path


def train(outputs: Path, table: Path, *overrides: str) -> StagesResult:
    def answer(settings: dict[str, Any]) -> Any:
        return answer_settings({**settings, "n_refits": 0, "n_placebo": 20, "baselines": [], "report": False})

    return run_stages(compose_tiny(outputs, *STAGES, *QUICK, f"runs={table}", *overrides), answer)


@pytest.mark.slow
def test_stages_end_to_end(tiny_outputs: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import analysis.calls

    fits: list[int] = []
    fit_table = analysis.calls.fit_table
    monkeypatch.setattr(analysis.calls, "_tables", {})
    monkeypatch.setattr(analysis.calls, "fit_table", lambda *given: (fits.append(1), fit_table(*given))[1])
    result = train(tiny_outputs, table)
    first, second = result.stages
    assert len(fits) == 1  # asked twice, fitted once
    assert [first.n_samples, second.n_samples] == [150, 151]
    # The state moved by what the first stage taught: the loss of a model that trained on the pool falls.
    assert first.shift["normalized_loss"] < 0
    for name, value in second.state.items():
        assert value == pytest.approx(first.state[name] + first.shift.get(name, 0.0)), name
    assert second.state["writing_style"] == first.state["writing_style"]
    # ... so the mixture is another, and it is what the analysis said at that state.
    assert max(abs(second.weights[d] - first.weights[d]) for d in DOMAINS) > 1e-4
    answered = json.loads((result.folder / "answer-1" / "mixture.json").read_text())
    assert answered["candidate"] == second.weights
    assert answered["state"]["normalized_loss.math"] == pytest.approx(second.state["normalized_loss.math"])
    # The second stage goes on from the first one's model, with other documents.
    configs = [find_run(tiny_outputs, stage.run_id) for stage in result.stages]
    assert str(configs[0] / "model") in (configs[1] / "config.yaml").read_text()
    before, after = (load_file(folder / "model" / "model.safetensors") for folder in configs)
    assert any(not np.array_equal(before[name], after[name]) for name in before)
    written = json.loads((result.folder / "stages.json").read_text())
    assert [stage["run_id"] for stage in written["stages"]] == [first.run_id, second.run_id]

    again = train(tiny_outputs, table)
    assert again.stages == result.stages
    still = train(tiny_outputs, table, "stages.rescore=false", "stages.name=still")
    assert still.stages[0] == first  # the same run: it is not done again
    assert still.stages[1].weights == pytest.approx(first.weights, abs=5e-3)
    assert still.stages[1].state == first.state


def find_run(outputs: Path, run_id: str) -> Path:
    (folder,) = (outputs / "sweeps").glob(f"*/runs/{run_id}")
    return folder.resolve()
