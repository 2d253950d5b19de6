"""lm-eval's tasks of code, HumanEval and MBPP, with every program run in the sandbox.

Their metric is ``code_eval`` of Hugging Face's evaluate package, which is fetched from the Hub and runs programs as
this user. While the tasks are loaded that name stands for :class:`CodeEval`; all the rest of them stays lm-eval's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import comb
from typing import Any

import numpy as np

from causalmix.errors import EvaluateError, name_some
from causalmix.evaluate.sandbox import Verdict, find_isolation, run_program

HINT = (
    "evaluate.allow_code_execution=true runs it in a sandbox (docs/evaluation.md says what that prevents); or take "
    "them out of evaluate.dev and evaluate.unseen."
)


class CodeEval:
    """pass@k of programs: they pass where they and their test run to the last line in the sandbox."""

    def compute(
        self, *, references: Sequence[str], predictions: Sequence[Sequence[str]], k: Sequence[int] = (1,), **_: Any
    ) -> tuple[dict[str, float], list[list[Verdict]]]:
        """Run every candidate of every problem.

        Parameters
        ----------
        references : sequence of str
            The test of each problem.
        predictions : sequence of sequence of str
            Its candidates.
        k : sequence of int
            Left out where a problem has fewer candidates.

        Returns
        -------
        dict
            ``pass@k``: the unbiased estimate of Chen et al. (2021), arXiv 2107.03374, eq. 1, meaned over problems.
        list of list of Verdict
        """
        verdicts = [
            [run_program(f"{candidate}\n{test}") for candidate in candidates]
            for test, candidates in zip(references, predictions, strict=True)
        ]
        counts = [(len(found), sum(verdict.passed for verdict in found)) for found in verdicts]
        allowed = [size for size in k if all(n >= size for n, _ in counts)]
        return {f"pass@{size}": float(np.mean([pass_at(size, *c) for c in counts])) for size in allowed}, verdicts


def pass_at(k: int, n: int, n_passed: int) -> float:
    """Chance that at least one of ``k`` of the ``n`` candidates passes."""
    return 1.0 - comb(n - n_passed, k) / comb(n, k)


@contextmanager
def refused_metric() -> Iterator[None]:
    """Turn what comes of loading tasks of code into the hint where nobody allowed them.

    They load ``code_eval`` at once: it refuses, or there is no network to fetch it.
    """
    try:
        yield
    except Exception as error:
        if "code_eval" not in str(error):
            raise
        raise EvaluateError(f"These tasks run code that a model has written: {HINT}") from error


@contextmanager
def sandboxed_metric() -> Iterator[None]:
    """Let ``evaluate.load("code_eval")`` give the sandbox, for tasks that are loaded inside."""
    import evaluate  # type: ignore[import-untyped]

    find_isolation()
    stock = evaluate.load

    def load(path: str, *args: Any, **options: Any) -> Any:
        return CodeEval() if path == "code_eval" else stock(path, *args, **options)

    evaluate.load = load
    try:
        yield
    finally:
        evaluate.load = stock


def check_sandboxed(tasks: dict[str, Any]) -> None:
    """Refuse tasks that run code in a way of their own.

    Raises
    ------
    EvaluateError
        Naming those whose metric does not come from a module that loaded ``code_eval``.
    """
    loose = [name for name, task in tasks.items() if not _is_sandboxed(task)]
    if loose:
        raise EvaluateError(
            f"The tasks {name_some(loose)} run code that a model has written, and not through code_eval, which is what "
            "the sandbox stands in for: take them out of evaluate.dev and evaluate.unseen, or load code_eval in them."
        )


def _is_sandboxed(task: Any) -> bool:
    # lm-eval keeps a function's __call__, whose __self__ is the function.
    metrics = [getattr(metric, "__self__", metric) for metric in task._metric_fn_list.values()]
    modules = [getattr(metric, "__globals__", {}) for metric in metrics]
    return bool(modules) and all(any(isinstance(value, CodeEval) for value in each.values()) for each in modules)
