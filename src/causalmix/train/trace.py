"""A trace of a few steps, for chrome://tracing or https://ui.perfetto.dev."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

N_STEPS = 3  # recorded, after one that warms the profiler up


class Trace:
    """Record some steps of a training into a file; without a path it does nothing.

    Parameters
    ----------
    path : Path or None
        ``.json`` or ``.json.gz``.
    n_steps : int
        Of the training.
    """

    def __init__(self, path: Path | None, n_steps: int) -> None:
        self._profiler: Any = None
        if path is None:
            return
        from torch.profiler import ProfilerActivity, profile, schedule

        n_warmup = min(1, n_steps - 1)
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
        path.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Profiler won't be using warmup")  # there is one step alone
            plan = schedule(wait=0, warmup=n_warmup, active=N_STEPS, repeat=1)
        self._profiler = profile(
            activities=activities,
            schedule=plan,
            on_trace_ready=lambda done: done.export_chrome_trace(str(path)),
        )

    def step(self) -> None:
        """Tell that a step ended."""
        if self._profiler is not None:
            self._profiler.step()

    def __enter__(self) -> Trace:
        if self._profiler is not None:
            self._profiler.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._profiler is not None:
            self._profiler.__exit__(kind, error, trace)
