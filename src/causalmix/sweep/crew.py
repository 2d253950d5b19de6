"""A crew: the ranks of one task, which train its runs together.

The first rank claims runs, draws their documents, evaluates and writes; it hands each run's documents to the others,
which train along and write nothing but their parts of checkpoints. A run that does not end well dissolves its crew: a
rank may be left waiting for the others in the middle of a step. The task is queued again, and goes on with new ranks.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from causalmix.errors import StoppedEarlyError, SweepError
from causalmix.run.guard import Guard
from causalmix.sweep.script import STOPPED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from causalmix.sweep.packed import Shift
    from causalmix.train.ranks import Ranks

FAILED = 86  # exit status of a rank that failed while it followed
LAST_WORDS_S = 20.0  # what failed on every rank is the first one's to record, before the task is ended
SLACK_MIN = 60.0  # beyond a run's time: how long ranks wait for the first one's evaluation and its next claim


@dataclass
class Crew:
    """This rank's place among those of its task.

    Attributes
    ----------
    ranks : Ranks
    announced : str or None
        The run whose documents the others have last been given.
    """

    ranks: Ranks
    announced: str | None = None

    def lead(self, run_id: str, guard: Guard) -> Guard:
        """Return a run's guard that hands its documents to the others."""

        def announce(documents: NDArray[np.int64]) -> None:
            self.announced = run_id
            self.ranks.share(json.dumps({"run_id": run_id, "documents": documents.tolist()}))

        return replace(guard, announce=announce)

    def dismiss(self) -> None:
        """Tell the others that nothing is left to do, and leave them."""
        from causalmix.train.ranks import leave_ranks

        self.ranks.share("")
        leave_ranks()

    def follow(self, shift: Shift) -> int:
        """Train along until the first rank says that nothing is left; return the exit status."""
        from causalmix.run.follow import follow_run
        from causalmix.train.ranks import leave_ranks

        while said := self.ranks.share(""):
            order: dict[str, Any] = json.loads(said)
            point = shift.make_point(order["run_id"])
            documents = np.asarray(order["documents"], dtype=np.int64)
            guard = Guard(should_stop=lambda: shift.told, can_resume=True)
            try:
                follow_run(point, shift.folder.run_dir(point.run_id), shift.workshop, documents, guard)
            except StoppedEarlyError:
                return STOPPED
            except Exception:
                traceback.print_exc()
                time.sleep(LAST_WORDS_S)
                return FAILED
        leave_ranks()
        return 0


def join_crew(resources: dict[str, Any], rank: int, n_ranks: int) -> Crew | None:
    """Join the other ranks of this task; None where its runs are trained by one process each.

    Parameters
    ----------
    resources : dict
        Of the submission.
    rank, n_ranks : int
        As SLURM numbers the processes of the task.

    Raises
    ------
    SweepError
        Where SLURM started another number of processes than the submission asked for.
    TrainError
        Where the others do not come.
    """
    wanted = int(resources.get("ranks", 1))
    if wanted == 1:
        return None
    if wanted != n_ranks:
        raise SweepError(f"resources.ranks={wanted}, but SLURM started {n_ranks} processes: was the script changed?")
    from causalmix.train.ranks import join_ranks

    os.environ.update(RANK=str(rank), WORLD_SIZE=str(n_ranks))
    return Crew(join_ranks(float(resources["timeout_min"]) + SLACK_MIN))
