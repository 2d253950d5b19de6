from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import torch
import yaml

from causalmix.config import EvaluateConfig
from causalmix.errors import EvaluateError
from causalmix.evaluate.evaluator import Evaluator
from causalmix.evaluate.outcomes import TaskScore, average_outcomes
from tests.evaluate.files import (
    make_config,
    make_documents,
    make_model,
    make_tokenizer,
    write_heldout,
)

torch.set_num_threads(1)
TASKS = ["math", "math_hard", "safety", "math_unseen"]
CONFIG = make_config(dev={"math": ["math", "math_hard"], "safety": ["safety"]}, unseen={"math": ["math_unseen"]})
STOCK = Path(lm_eval.__file__).parent / "tasks"
HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": "def double(x):\n",
    "test": "def check(candidate):\n    assert candidate(3) == 6\n",
    "entry_point": "double",
}
MBPP = {"text": "Double a number.", "test_list": ["assert double(1) == 2", "assert double(3) == 6", "assert True"]}


@pytest.fixture
def heldout(tmp_path: Path) -> Path:
    return write_heldout(tmp_path / "heldout.jsonl", make_documents(TASKS))


def make_evaluator(path: Path | None, cfg: EvaluateConfig = CONFIG) -> Evaluator:
    return Evaluator(cfg, make_tokenizer(), path)


def measure_by_hand(path: Path, task: str) -> float:
    """Second implementation: one document at a time through transformers' forward, full logits."""
    model, tokenizer = make_model(), make_tokenizer()
    bits = n_bytes = 0.0
    for line in path.read_text().splitlines():
        document = json.loads(line)
        if document["task"] != task:
            continue
        *turns, answer = document["messages"]
        context = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        first = tokenizer.encode(context)
        second = tokenizer.encode(answer["content"])
        log_probs = model(torch.tensor([first + second])).logits[0].detach().log_softmax(-1)
        for at, token in enumerate(second):
            bits -= log_probs[len(first) + at - 1, token].item() / math.log(2)
        n_bytes += len(answer["content"].encode())
    return bits / n_bytes


def test_outcomes_equal_those_made_by_hand(heldout: Path, tmp_path: Path) -> None:
    evaluation = make_evaluator(heldout).evaluate(make_model(), tmp_path / "eval")
    points = {task: 100 * 2 ** -measure_by_hand(heldout, task) for task in TASKS}
    outcomes = evaluation.outcomes
    math_mean = (points["math"] + points["math_hard"]) / 2
    expected = {
        "outcome.math.math": points["math"],
        "outcome.math.math_hard": points["math_hard"],
        "outcome.math": math_mean,
        "outcome.safety": points["safety"],
        "outcome.safety.safety": points["safety"],
        "outcome.avg_dev": (math_mean + points["safety"]) / 2,
        "unseen.math.math_unseen": points["math_unseen"],
        "unseen.math": points["math_unseen"],
        "unseen.avg": points["math_unseen"],
    }
    assert {key: outcomes[key] for key in expected} == pytest.approx(expected, rel=1e-5)
    accuracies = {"math.math", "math.math_hard", "safety.safety", "math.math_unseen"}
    assert set(outcomes) == set(expected) | {f"accuracy.{name}" for name in accuracies}
    assert sorted(path.name for path in (tmp_path / "eval").iterdir()) == sorted(f"{task}.json" for task in TASKS)
    written = json.loads((tmp_path / "eval" / "safety.json").read_text())
    assert written["task"] == "safety"
    assert written["score"] == outcomes["outcome.safety"]
    assert len(written["documents"]) == written["n_documents"] == 6
    assert sum(document["bits"] for document in written["documents"]) / written["n_bytes"] == pytest.approx(
        written["bits_per_byte"]
    )


def test_one_evaluator_serves_many_models(heldout: Path) -> None:
    evaluator = make_evaluator(heldout)
    first = evaluator.evaluate(make_model()).outcomes
    other = evaluator.evaluate(make_model(seed=1).train())
    assert other.outcomes["outcome.avg_dev"] != first["outcome.avg_dev"]
    assert evaluator.evaluate(make_model()).outcomes == first
    assert "evaluate" not in sys.modules  # the package of that name costs seconds


def test_a_model_learns_to_answer_exactly(tmp_path: Path) -> None:
    model = make_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    documents = make_documents(["math"], 2)
    pad = make_tokenizer().decode([0])  # all logits are equal: the first token is the greedy one
    documents[0]["messages"][-1]["content"] = pad
    path = write_heldout(tmp_path / "heldout.jsonl", documents)
    outcomes = make_evaluator(path, make_config()).evaluate(model).outcomes
    assert outcomes["accuracy.math.math"] == 0.5


def test_the_limit_and_truncation_are_counted(heldout: Path) -> None:
    evaluation = make_evaluator(heldout, make_config(limit=2, max_length=12)).evaluate(make_model())
    assert evaluation.scores["math"].n_documents == 2
    assert 0 < evaluation.n_truncated <= 2


def test_tasks_that_are_not_there_are_named(heldout: Path) -> None:
    cfg = make_config(dev={"math": ["math", "mth"], "coding": ["coding"]})
    with pytest.raises(EvaluateError, match=r"no document for the tasks mth \(did you mean 'math'\?\), coding; it has"):
        make_evaluator(heldout, cfg)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dev": {}}, r"at least one ability \(it has 0\)"),
        ({"dev": {"math": []}}, r"every ability a task \(without: math\)"),
        ({"unseen": {"other": ["math"]}}, r"those that do: math"),
        ({"dev": {"math": ["../math"]}}, r"Task names become file names: \.\./math"),
        ({"source": "magic"}, r"'magic' is not one of pool, lm_eval"),
    ],
)
def test_settings_that_make_no_sense_are_refused(heldout: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EvaluateError, match=message):
        make_evaluator(heldout, make_config(**changes))


def test_held_out_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluateError, match=r"has no held-out file: set pool.heldout_path"):
        make_evaluator(None)
    with pytest.raises(EvaluateError, match=r"There is no held-out file .*absent"):
        make_evaluator(tmp_path / "absent.jsonl")
    with pytest.raises(EvaluateError, match="holds no document"):
        make_evaluator(write_heldout(tmp_path / "empty.jsonl", []))
    documents = make_documents(["math"], 5)
    documents[1]["messages"] = documents[1]["messages"][:1]
    documents[2]["id"] = documents[0]["id"]
    documents[3]["messages"][1]["content"] = ""
    del documents[4]["task"]
    path = write_heldout(tmp_path / "bad.jsonl", documents)
    path.write_text(path.read_text() + "{\n")
    with pytest.raises(EvaluateError) as caught:
        make_evaluator(path)
    for part in (
        "line 2 (there is no assistant turn",
        "line 3 (id 'math-0'",
        "line 4 (the last assistant turn is",
    ):
        assert part in str(caught.value)
    assert "line 5 (no field 'task')" in str(caught.value)
    assert "line 6 (" in str(caught.value)


def test_a_model_of_nan_or_too_few_positions_is_refused(heldout: Path) -> None:
    model = make_model()
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(EvaluateError, match="not a number are math, math_hard, safety, math_unseen"):
        make_evaluator(heldout).evaluate(model)
    with pytest.raises(EvaluateError, match="2048 is more than the model's 1024 positions"):
        make_evaluator(heldout, make_config(max_length=2048)).evaluate(make_model())


def test_an_average_needs_every_score() -> None:
    score = TaskScore(50.0, 1.0, 0.0, 1, 1, [])
    with pytest.raises(EvaluateError, match="without a score are coding"):
        average_outcomes({"math": score}, {"math": ["math"], "coding": ["coding"]}, {})


@pytest.fixture
def own_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of stock-style tasks: a choice task, a group of it, and one that generates."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "tasks"
    folder.mkdir()
    data = tmp_path / "choices.jsonl"
    rows = [{"question": "face", "choices": ["gin", "ice cab"], "answer": at % 2} for at in range(4)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(tmp_path / "cache")},
        "test_split": "test",
        "doc_to_text": "{{question}}",
        "num_fewshot": 0,
    }
    choice = {
        **common,
        "output_type": "multiple_choice",
        "doc_to_target": "answer",
        "doc_to_choice": "choices",
    }
    choice["metric_list"] = [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]
    generate = {**common, "output_type": "generate_until", "doc_to_target": "{{choices[0]}}"}
    generate["generation_kwargs"] = {"until": ["\n"], "max_gen_toks": 4}
    generate["metric_list"] = [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}]
    group = {"group": "both", "task": ["own_a", "own_b"]}
    tasks = {
        "own_a": choice,
        "own_b": choice,
        "own_generate": generate,
        "own_unsafe": {**choice, "unsafe_code": True},
    }
    for name, task in tasks.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, **task}))
    (folder / "both.yaml").write_text(yaml.safe_dump(group))
    return folder


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
@pytest.mark.slow
def test_tasks_of_lm_eval_are_scored_by_the_likelihood_of_the_right_choice(own_tasks: Path) -> None:
    cfg = make_config(
        source="lm_eval", include_path=str(own_tasks), dev={"x": ["both"]}, unseen={"y": ["own_generate"]}
    )
    evaluator = make_evaluator(None, cfg)
    evaluation = evaluator.evaluate(make_model())
    model, tokenizer = make_model(), make_tokenizer()
    bits = n_bytes = 0.0
    for answer in (" gin", " ice cab"):
        first, second = tokenizer.encode("face"), tokenizer.encode(answer)
        log_probs = model(torch.tensor([first + second])).logits[0].detach().log_softmax(-1)
        bits -= sum(log_probs[len(first) + at - 1, t].item() for at, t in enumerate(second)) / math.log(2)
        n_bytes += len(answer)
    assert evaluation.outcomes["outcome.x.both"] == pytest.approx(100 * 2 ** -(bits / n_bytes), rel=1e-5)
    assert evaluation.scores["both"].n_documents == 8
    assert evaluator.evaluate(make_model()).outcomes == evaluation.outcomes  # requests are made once
    assert evaluation.outcomes["unseen.y.own_generate"] == 0.0
    with pytest.raises(EvaluateError, match=r"no task own_c \(did you mean"):
        make_evaluator(None, make_config(source="lm_eval", include_path=str(own_tasks), dev={"x": ["own_c"]}))
    with pytest.raises(EvaluateError, match="own_unsafe run code that a model has written"):
        make_evaluator(None, make_config(source="lm_eval", include_path=str(own_tasks), dev={"x": ["own_unsafe"]}))
    with pytest.raises(EvaluateError, match=r"own_unsafe run code .* and not through code_eval"):
        make_evaluator(
            None,
            make_config(
                source="lm_eval",
                include_path=str(own_tasks),
                dev={"x": ["own_unsafe"]},
                allow_code_execution=True,
            ),
        )


@pytest.fixture
def code_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """HumanEval and MBPP of lm-eval, over a problem each that lies here."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_ALLOW_CODE_EVAL", raising=False)
    folder = tmp_path / "tasks"
    folder.mkdir()
    for name, row in (("humaneval", HUMANEVAL), ("mbpp", MBPP)):
        data = tmp_path / f"{name}.jsonl"
        data.write_text(json.dumps(row) + "\n")
        task = {
            "include": str(STOCK / name / f"{name}.yaml"),
            "task": f"own_{name}",
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(tmp_path / "cache")},
            "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 4, "do_sample": False},
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task))
    return folder


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
@pytest.mark.slow
def test_humaneval_and_mbpp_are_refused_or_run_in_the_sandbox(code_tasks: Path) -> None:
    dev = {"coding": ["own_humaneval", "own_mbpp"]}
    cfg = make_config(source="lm_eval", include_path=str(code_tasks), dev=dev, max_length=512)
    with pytest.raises(EvaluateError, match=r"code that a model has written: evaluate.allow_code_execution=true"):
        make_evaluator(None, cfg)
    cfg.allow_code_execution = True
    evaluator = make_evaluator(None, cfg)
    outcomes = evaluator.evaluate(make_model()).outcomes
    assert outcomes["outcome.coding.own_humaneval"] == outcomes["outcome.coding.own_mbpp"] == 0.0
    for name, answer in (("own_humaneval", "    return 2 * x\n"), ("own_mbpp", "def double(x): return 2 * x\n")):
        task = evaluator.loaded["tasks"][name]
        (instance,) = task.instances
        instance.resps, instance.filtered_resps = [answer], {}
        task.apply_filters()
        (found,) = [task.process_results(instance.doc, [response]) for response in instance.filtered_resps.values()]
        assert list(found.values()) == [1.0], found
