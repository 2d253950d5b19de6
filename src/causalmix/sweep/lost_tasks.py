"""Tasks that ended before their worker could do or say anything, and what is known of why.

A node that does not see the sweep's folder cannot say so in it: SLURM fails to open the task's log there, and ends the
task without a word. It is told from what is missing: wherever the folder is seen, a task that was started left a log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from causalmix.sweep.claims import Claims
from causalmix.sweep.jobs import Submission
from causalmix.sweep.logs import LOG_LINES, read_end
from causalmix.sweep.slurm import Task

MOST_LOGS = 20  # read at most: tasks that cannot begin mostly say the same
UNSEEN = (
    "no log came back: the node does not see this folder, which must lie on a file system that all nodes share "
    "(`causalmix doctor` tries it), or somebody else cancelled the task before it began"
)


@dataclass
class LostTasks:
    """Tasks that ended for one reason, and none of which claimed a run.

    Attributes
    ----------
    cause : str
    n_tasks : int
    example : str
        One of them, as SLURM names it.
    log : list of str
        The last lines that it wrote.
    """

    cause: str
    n_tasks: int
    example: str
    log: list[str]


def find_lost_tasks(
    sweep: Path,
    submissions: list[Submission],
    tables: Mapping[str, Collection[str]],
    left: set[str],
    active: list[Task],
    states: Mapping[str, str],
) -> list[LostTasks]:
    """Find tasks that ended and did nothing while there was work.

    Parameters
    ----------
    sweep : Path
    submissions : list of Submission
        Oldest first: the newest one that has a run answers for it.
    tables : mapping
        Table of points -> its runs.
    left : set of str
        Runs that have not ended and that nobody holds.
    active : list of Task
        Tasks that wait or run.
    states : mapping
        Task -> state, of those that the accounting knows.
    """
    waiting = {f"{task.job_id}_{task.index}" for task in active}
    found: list[LostTasks] = []
    todo = set(left)
    for submission in reversed(submissions):
        runs = tables.get(submission.points, ())
        mine = todo.intersection(runs)
        todo -= mine
        if not mine or submission.cancelled:
            continue
        ended = [task for task in list_task_ids(submission) if task not in waiting]
        # an array that was cancelled before any of it began is one row under its own number
        gone = {task for task in ended if "CANCELLED" in (states.get(task), states.get(task.partition("_")[0]))}
        logs = {task: find_log(sweep, task) for task in ended if task not in gone}
        unseen = [task for task, log in logs.items() if log is None]
        if unseen:
            found.append(LostTasks(UNSEEN, len(unseen), unseen[0], []))
        if len(ended) == submission.n_tasks and not has_claimed(sweep, submission, runs):
            found += list(group_logs({task: log for task, log in logs.items() if log is not None}))
    return found


def list_task_ids(submission: Submission) -> list[str]:
    """List the tasks of a submission as SLURM names them, ``100_3``."""
    arrays = [array for array in submission.arrays if array["job_id"]]
    return [f"{array['job_id']}_{at}" for array in arrays for at in range(array["n_tasks"])]


def find_log(sweep: Path, task: str) -> Path | None:
    """Find a task's log."""
    return next((sweep / "log").glob(f"*-{task}.txt"), None)


def has_claimed(sweep: Path, submission: Submission, runs: Collection[str]) -> bool:
    """Tell whether any worker of a submission came as far as a claim."""
    claims = Claims(sweep / "claims")
    return any(attempt.get("submission") == submission.name for run_id in runs for attempt in claims.history(run_id))


def group_logs(logs: Mapping[str, Path]) -> Iterator[LostTasks]:
    """Group tasks by the last line of their logs; an empty one says nothing."""
    ends = {task: read_end(log, LOG_LINES) for task, log in list(logs.items())[:MOST_LOGS]}
    last = {task: end[-1] if end else "its log is empty" for task, end in ends.items()}
    for cause, n_tasks in Counter(last.values()).most_common():
        example = next(task for task, said in last.items() if said == cause)
        yield LostTasks(f"ended before a run was begun: {cause}", n_tasks, example, ends[example])
