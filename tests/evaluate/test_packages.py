"""Packages that tasks of lm-eval need, missed before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from causalmix.errors import ConfigError, EvaluateError
from causalmix.evaluate import packages
from causalmix.evaluate.evaluator import Evaluator
from causalmix.evaluate.packages import find_lacking
from causalmix.sweep.points import Inputs, plan_runs
from tests.evaluate.files import make_config, make_tokenizer
from tests.tiny import compose_tiny


@pytest.fixture(autouse=True)
def _without_langdetect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_is_installed", lambda package: package != "langdetect")


def test_lm_eval_s_own_extras_say_what_a_task_needs(tmp_path: Path) -> None:
    assert find_lacking(["gsm8k", "ifeval"]) == {"ifeval": ["langdetect"]}
    (tmp_path / "ifeval.yaml").write_text("task: ifeval\n")
    assert find_lacking(["ifeval"], str(tmp_path)) == {}  # a task of the user's own


def test_they_are_missed_at_submission(tmp_path: Path) -> None:
    plain = compose_tiny(tmp_path, "evaluate=qwen_sft")
    with pytest.raises(ConfigError, match=r"evaluate=qwen_sft: ifeval needs langdetect: pip install langdetect, or"):
        plan_runs([plain], Inputs(tmp_path))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_they_are_missed_before_a_task_is_loaded(tmp_path: Path) -> None:
    cfg = make_config(source="lm_eval", dev={"if": ["ifeval"]})
    with pytest.raises(EvaluateError, match="ifeval needs langdetect: pip install langdetect"):
        Evaluator(cfg, make_tokenizer(), None)
