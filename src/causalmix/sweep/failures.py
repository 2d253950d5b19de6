"""What failed in a sweep: runs grouped by cause, each group with the last words of one of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from causalmix.errors import SweepError
from causalmix.sweep.folder import SweepFolder
from causalmix.sweep.logs import LOG_LINES, list_logs, read_end


@dataclass
class Failure:
    """Runs that failed of one cause.

    Attributes
    ----------
    cause : str
        One stands for all that differ in numbers alone.
    n_runs : int
    example : str
        A run of it, to look at.
    log : list of str
        The last lines that it wrote.
    """

    cause: str
    n_runs: int
    example: str
    log: list[str]


def group_failures(sweep: Path, failed: dict[str, str]) -> list[Failure]:
    """Group failed runs by cause, each with the last lines of one of them."""
    failures = []
    for cause, n_runs in count_causes(failed.values()).items():
        example = next(run_id for run_id, said in failed.items() if said == cause)
        logs = list_logs(sweep / "runs" / example)
        failures.append(Failure(cause, n_runs, example, read_end(logs[0], LOG_LINES) if logs else []))
    return failures


def count_causes(causes: Iterable[str]) -> dict[str, int]:
    """Count causes, most frequent first; those that differ in numbers alone (ids, steps) count as their first."""
    examples: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for cause in causes:
        shape = re.sub(r"\d[\d.,\s]*", "#", cause)
        counts[examples.setdefault(shape, cause)] += 1
    return dict(counts.most_common())


def describe_failures(folder: SweepFolder, failed: dict[str, str], n_runs: int) -> SweepError:
    """Make the error of a pass in which runs failed: causes grouped, most frequent first."""
    lines = "\n".join(f"  {n} x {cause}" for cause, n in list(count_causes(failed.values()).items())[:10])
    example = next(iter(failed))
    return SweepError(
        f"{len(failed)} of {n_runs} runs failed:\n{lines}\n"
        f"Look at {folder.run_dir(example) / 'log'}; the same command tries the failed ones again."
    )
