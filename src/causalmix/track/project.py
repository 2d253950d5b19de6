"""Which W&B project runs belong to: as their own settings say."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from causalmix.config import TrackerConfig
from causalmix.errors import TrackerError
from causalmix.table.from_wandb.api import is_wandb, parse_query


def read_tracker(run_dir: Path, mode: str = "offline") -> TrackerConfig:
    """Read where a run was to be mirrored, from its ``config.yaml``, for use in another mode.

    Raises
    ------
    TrackerError
        No such file, or one that does not say it.
    """
    import yaml

    try:
        told: dict[str, Any] = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))["tracker"]
        known = {item.name for item in fields(TrackerConfig)}
        return TrackerConfig(**{key: value for key, value in told.items() if key in known} | {"mode": mode})
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise TrackerError(
            f"{run_dir / 'config.yaml'} does not say which W&B project the run belongs to ({error!r})"
        ) from error


def find_project(runs: str, given: str | None) -> tuple[str, str]:
    """Find entity and project of a source of runs.

    Parameters
    ----------
    runs : str
        A source, as :func:`~causalmix.table.runs.load_runs` takes it.
    given : str, optional
        ``ENTITY/PROJECT``, which goes before what the source says.

    Raises
    ------
    TrackerError
        Neither says both.
    """
    if given is not None:
        entity, _, project = given.partition("/")
        if not entity or not project or "/" in project:
            raise TrackerError(f"--project {given}: ENTITY/PROJECT is wanted")
        return entity, project
    tracker = TrackerConfig("", project="")
    if is_wandb(runs):
        query = parse_query(runs.split(",")[0])
        tracker = TrackerConfig("", project=query.project, entity=query.entity)
    elif configs := sorted((Path(runs) / "runs").glob("*/config.yaml")):
        tracker = read_tracker(configs[0].parent)
    if not tracker.entity or not tracker.project:
        said = f"; the runs name the project {tracker.project} and no entity" if tracker.project else ""
        raise TrackerError(f"{runs} does not say in which W&B project it is{said}: add --project ENTITY/PROJECT")
    return tracker.entity, tracker.project
