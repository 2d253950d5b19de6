"""Several runs in one process, their trainings one computation; all else of a run is its own, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from causalmix.run.guard import Guard
from causalmix.run.proxy import Point, live
from causalmix.run.record import Record
from causalmix.run.workshop import Workshop


@dataclass(frozen=True)
class Order:
    """A run to be done: what, where, and its ties to the worker."""

    point: Point
    run_dir: Path
    guard: Guard


def run_together(orders: Sequence[Order], workshop: Workshop) -> Iterator[tuple[str, Record | Exception]]:
    """Execute runs, their trainings together; a run that fails leaves the others as they are.

    Parameters
    ----------
    orders : sequence of Order
        Runs that :func:`causalmix.sweep.groups.form_groups` put together. One alone is done as
        :func:`~causalmix.run.proxy.run_proxy` does it.
    workshop : Workshop

    Yields
    ------
    str, Record or Exception
        A run's id with its record, or what ``run_proxy`` would raise; as they end.
    """
    lives, trainings = [], []
    for order in orders:
        life = live(order.point, order.run_dir, workshop, _describe_company(order.guard, len(orders)))
        try:
            trainings.append(next(life))
            lives.append((order.point.run_id, life))
        except StopIteration as end:  # it failed before its training
            yield order.point.run_id, end.value
        except Exception as error:
            yield order.point.run_id, error
    for (run_id, life), outcome in zip(lives, train_all(trainings)):
        try:
            life.throw(outcome) if isinstance(outcome, Exception) else life.send(outcome)
        except StopIteration as end:
            yield run_id, end.value
        except Exception as error:
            yield run_id, error


def train_all(trainings: list[Any]) -> list[Any]:
    """Train together where there are several; return a result or what was raised for each."""
    if len(trainings) > 1:
        from causalmix.train.together import train_together

        return list(train_together(trainings))
    try:
        return [training.train_alone() for training in trainings]
    except Exception as error:
        return [error]


def _describe_company(guard: Guard, n_runs: int) -> Guard:
    """Let the record say how many runs shared its computation."""
    return replace(guard, describe=lambda: {**guard.describe(), "batch_runs": n_runs}) if n_runs > 1 else guard
