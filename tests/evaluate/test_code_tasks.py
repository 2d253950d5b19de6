"""pass@k of programs in the sandbox; test_evaluator.py has it inside lm-eval's own tasks."""

from __future__ import annotations

import itertools

import pytest

from causalmix.evaluate.code_tasks import CodeEval, pass_at


def test_programs_pass_by_their_tests() -> None:
    found, verdicts = CodeEval().compute(
        references=["assert add(2, 3) == 5", "assert add(1, 1) == 2"],
        predictions=[["def add(a, b): return a + b", "def add(a, b): return 0"], ["import os; os._exit(0)"] * 2],
        k=[1, 2, 3],
    )
    assert found == {"pass@1": 0.25, "pass@2": 0.5}
    assert [[verdict.passed for verdict in each] for each in verdicts] == [[True, False], [False, False]]


@pytest.mark.parametrize(("k", "n", "n_passed"), [(1, 4, 1), (2, 4, 1), (2, 5, 3), (3, 3, 0), (2, 2, 2)])
def test_the_estimate_is_the_share_of_draws_with_a_pass(k: int, n: int, n_passed: int) -> None:
    draws = list(itertools.combinations([True] * n_passed + [False] * (n - n_passed), k))
    assert pass_at(k, n, n_passed) == pytest.approx(sum(map(any, draws)) / len(draws))
