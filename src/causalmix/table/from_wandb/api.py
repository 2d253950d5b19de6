"""Runs of a W&B project through its public API: page by page, patient with a server that is busy or away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qs

from causalmix.errors import TableError, name_some, nearest_name
from causalmix.table.from_wandb.rows import WandbRun

logger = logging.getLogger(__name__)

T = TypeVar("T")

SCHEME = "wandb:"
FILTERS = {"group": "group", "cohort": "jobType", "state": "state"}
"""What a source may ask for -> W&B's name of it; our groups are sweeps, our job types cohorts."""

_FORM = "wandb:ENTITY/PROJECT, or wandb:ENTITY/PROJECT?group=SWEEP_ID&cohort=signal"


@dataclass(frozen=True)
class Patience:
    """How long to bear with a server.

    Attributes
    ----------
    timeout_s : int
        For one page.
    attempts : int
        Calls for one page before giving up; what was read before stays read.
    wait_s : float
        Before the second call; doubled for each further one.
    page_size : int
        Runs a page.
    """

    timeout_s: int = 30
    attempts: int = 6
    wait_s: float = 1.0
    page_size: int = 100


@dataclass(frozen=True)
class WandbQuery:
    """Which runs of which project; entity None stands for the key's own."""

    entity: str | None
    project: str
    filters: dict[str, Any]

    @property
    def path(self) -> str:
        """``entity/project``, as W&B writes it."""
        return f"{self.entity}/{self.project}" if self.entity else self.project


def is_wandb(source: object) -> bool:
    """Say whether a source of runs is a W&B project."""
    return str(source).startswith(SCHEME)


def parse_query(source: str) -> WandbQuery:
    """Read ``wandb:entity/project?group=...``.

    Raises
    ------
    TableError
        Another form, or a filter that does not exist.
    """
    path, _, query = source.removeprefix(SCHEME).partition("?")
    parts = path.strip().strip("/").split("/")
    if not all(parts) or len(parts) > 2:
        raise TableError(f"{source}: {_FORM} is wanted.")
    asked = parse_qs(query, keep_blank_values=True)
    unknown = [f"{key}{nearest_name(key, FILTERS)}" for key in asked if key not in FILTERS]
    if unknown or (query and not asked):
        raise TableError(f"{source}: no filter {name_some(unknown) or query}; allowed: {name_some(FILTERS)}. {_FORM}.")
    filters = {FILTERS[key]: found[0] if len(found) == 1 else {"$in": found} for key, found in asked.items()}
    return WandbQuery(parts[0] if len(parts) == 2 else None, parts[-1], filters)


def read_wandb(source: str, patience: Patience | None = None) -> list[WandbRun]:
    """Read the runs of a W&B project.

    The key comes from the environment (``WANDB_API_KEY``) or from ``wandb login``.

    Returns
    -------
    list of WandbRun
        Oldest first, each of W&B's runs once: a page that moved while it was read brings none twice.

    Raises
    ------
    TableError
        A source of another form, no such project, no key, or a server that does not answer.
    """
    from tqdm import tqdm

    query, patience = parse_query(source), patience or Patience()
    ask = _Asking(source, patience)
    runs = ask(lambda: _open_runs(query, patience))
    n_runs = ask(lambda: len(runs))
    found: dict[str, WandbRun] = {}
    with tqdm(total=n_runs, desc="runs from W&B", unit="run", disable=None) as bar:
        index = 0
        while (run := ask(partial(_get, runs, index))) is not None:
            found[run.id] = WandbRun(run.id, run.state, dict(run.config), dict(run.summary_metrics))
            index += 1
            bar.update()
    return list(found.values())


class _Asking:
    """Calls W&B as often as patience allows; what cannot get better is not asked twice."""

    def __init__(self, source: str, patience: Patience) -> None:
        self.source = source
        self.patience = patience

    def __call__(self, call: Callable[[], T]) -> T:
        for attempt in range(1, self.patience.attempts + 1):
            try:
                return call()
            except Exception as error:  # the client raises a dozen kinds, several of them private
                said = " ".join(str(error).split())
                if _is_final(error):
                    raise TableError(
                        f"{self.source}: W&B says: {said}. Check the name, and the key (WANDB_API_KEY, `wandb login`)."
                    ) from error
                if attempt == self.patience.attempts:
                    raise TableError(
                        f"{self.source}: W&B did not answer {attempt} times, lastly: {said}. Try again later, or read "
                        f"the sweep's folder, which needs no server."
                    ) from error
                wait_s = self.patience.wait_s * 2 ** (attempt - 1)
                logger.warning("%s: %s; asking again in %.3g s", self.source, said, wait_s)
                time.sleep(wait_s)
        raise AssertionError("an attempt returns or raises")


def _is_final(error: Exception) -> bool:
    """Say whether asking again can change nothing: no key, a wrong one, no such project."""
    from wandb.errors import UsageError

    # A key that could not be checked looks like a wrong one: what the server said stands in the cause.
    said = (getattr(found, "response", None) for found in (error, error.__cause__))
    statuses = {getattr(response, "http_status", None) for response in said}
    return bool(statuses & {400, 401, 403, 404}) or isinstance(error, (UsageError, ValueError))


def _open_runs(query: WandbQuery, patience: Patience) -> Any:
    import wandb

    api = wandb.Api(timeout=patience.timeout_s)
    return api.runs(query.path, filters=query.filters, per_page=patience.page_size, lazy=False)


def _get(runs: Any, index: int) -> Any:
    """Get a run by its place; None at the end. A place can be asked for again, which an iterator's next cannot."""
    try:
        return runs[index]
    except IndexError:
        return None
