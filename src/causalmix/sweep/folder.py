"""A sweep's folder: its name, what is fixed in it, and its table of points."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from causalmix.errors import OtherVersionError, RecordError, SweepError, name_some
from causalmix.files import DiskFullError, fingerprint, read_json, read_sealed, write_json, write_sealed
from causalmix.sweep.points import PlannedRun

FORMAT = 1
FREE = ("seed", "replicate")  # may differ between submissions of one sweep without being swept


@dataclass(frozen=True)
class SweepFolder:
    """An opened sweep folder."""

    path: Path
    sweep_id: str

    def run_dir(self, run_id: str) -> Path:
        """Folder of one run; the id is a hash of ours, so it cannot leave the sweep folder."""
        if not run_id.isalnum():
            raise SweepError(f"'{run_id}' is not a run id: letters and digits only")
        return self.path / "runs" / run_id


def describe_fixed(run: PlannedRun, swept: list[str]) -> dict[str, Any]:
    """Flatten a run's identity without what is swept or free: what all runs of a sweep share."""
    flat = flatten(run.identity)
    moving = [*FREE, *swept]
    return {
        key: value
        for key, value in flat.items()
        if not any(key == name or key.startswith(f"{name}.") for name in moving)
    }


def find_sweep(
    outputs: Path, sweep_dir: str | None, runs: list[PlannedRun], swept: list[str]
) -> tuple[SweepFolder, dict[str, Any]]:
    """Find the folder of a sweep, and what its ``sweep.json`` must hold, without writing anything.

    Parameters
    ----------
    outputs : Path
        Root of everything written; the default folder lies in its ``sweeps``.
    sweep_dir : str or None
        A folder of the user's choice; None derives one from the fixed values, so that the same
        command finds it again.
    runs : list of PlannedRun
        What was asked for.
    swept : list of str
        The keys that were swept.

    Raises
    ------
    SweepError
        Where the folder already belongs to a sweep with other fixed values; the difference is shown.
    """
    names = sorted(set(swept) - set(FREE))
    fixed = describe_fixed(runs[0], names)
    sweep_id = fingerprint([fixed, names], length=12)
    path = Path(sweep_dir) if sweep_dir else outputs / "sweeps" / sweep_id
    header = path / "sweep.json"
    content = {"format": FORMAT, "sweep_id": sweep_id, "swept": names, "fixed": fixed}
    if header.exists():
        _refuse_other_sweep(path, read_sealed(header, FORMAT), content)
    elif path.exists() and any(path.iterdir()):
        raise SweepError(f"sweep_dir={path} is not empty and is no sweep (it has no sweep.json); name another folder")
    return SweepFolder(path=path, sweep_id=sweep_id), content


def open_sweep(outputs: Path, sweep_dir: str | None, runs: list[PlannedRun], swept: list[str]) -> SweepFolder:
    """Make or extend the folder of a sweep; parameters and errors as of :func:`find_sweep`."""
    folder, content = find_sweep(outputs, sweep_dir, runs, swept)
    header = folder.path / "sweep.json"
    if not header.exists():
        try:
            write_sealed(header, content)
        except DiskFullError:
            raise
        except OSError as error:
            raise SweepError(
                f"sweep_dir={folder.path} cannot be written ({error.strerror}); name another folder"
            ) from error
    return folder


def refuse_no_sweep(path: Path) -> None:
    """Refuse a folder that is no sweep.

    Raises
    ------
    SweepError
    """
    if not (path / "sweep.json").exists():
        raise SweepError(f"{path} is no sweep folder: it has no sweep.json")


def write_points(folder: SweepFolder, entries: list[dict[str, Any]]) -> Path:
    """Freeze a submission's points: one table, common values once, differences a point.

    Parameters
    ----------
    entries : list of dict
        ``run_id``, ``plain`` (the resolved config) and where the inputs of each run lie.

    Returns
    -------
    Path
        ``<sweep>/points/<hash of the content>.json``; the same submission again gives the same file.
    """
    common = entries[0]["plain"]
    rows = []
    for entry in entries:
        plain = entry["plain"]
        values = {key: value for key, value in plain.items() if value != common[key]}
        rows.append({**entry, "plain": values})
    content = {"format": FORMAT, "common": common, "points": rows}
    path = folder.path / "points" / f"{fingerprint(content, length=32)}.json"
    if not path.exists():
        write_json(path, content)
    return path


def read_points(path: Path) -> dict[str, dict[str, Any]]:
    """Read a table of points back: run_id -> entry, with ``plain`` whole again.

    Raises
    ------
    RecordError
        Where the table is not the one that its name is the hash of.
    """
    content = read_json(path)
    if fingerprint(content, length=len(path.stem)) != path.stem:
        raise RecordError(
            f"{path} is not what was written: a disk, a network or a hand changed it. Delete it, `causalmix cancel` "
            f"the sweep's tasks and run the same command again."
        )
    if content["format"] != FORMAT:
        raise OtherVersionError(f"{path} has format {content['format']!r}; this version reads format {FORMAT}.")
    strange = [row["run_id"] for row in content["points"] if not str(row["run_id"]).isalnum()]
    if strange:  # an id is a folder's name: it must not lead out of the sweep
        raise SweepError(f"{path} holds what are no run ids: {name_some(map(repr, strange))}")
    return {row["run_id"]: {**row, "plain": {**content["common"], **row["plain"]}} for row in content["points"]}


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to dotted keys; empty mappings stay, as values."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat


def _refuse_other_sweep(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    if old["swept"] != new["swept"]:
        raise SweepError(
            f"{path} is a sweep over {old['swept'] or ['seed']}, not over {new['swept'] or ['seed']}; "
            f"use another sweep_dir for it"
        )
    keys = [key for key in sorted({*old["fixed"], *new["fixed"]}) if old["fixed"].get(key) != new["fixed"].get(key)]
    if keys:
        difference = name_some(
            f"{key}: {json.dumps(old['fixed'].get(key))} there, {json.dumps(new['fixed'].get(key))} asked"
            for key in keys
        )
        raise SweepError(f"{path} holds a sweep of another design ({difference}); use another sweep_dir for this one")
