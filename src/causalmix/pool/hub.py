"""Datasets of Hugging Face's `datasets`: saved to disk, or on the Hub at a pinned commit. Their code is never run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalmix.config import PoolConfig
from causalmix.errors import PoolError, RecordError, name_some
from causalmix.files import read_json
from causalmix.pool.checksum import Checksums
from causalmix.pool.tokenizer import COMMIT

if TYPE_CHECKING:
    from datasets import Dataset

STATE, SPLITS = "state.json", "dataset_dict.json"


def identify_dataset(cfg: PoolConfig, checksums: Checksums) -> Any:
    """Say what stands for a dataset's content: hashes of its Arrow files, or the Hub's commit.

    Raises
    ------
    PoolError
        For a folder that holds no whole dataset, or a Hub name without a commit.
    """
    folder = Path(str(cfg.path)).expanduser()
    chosen = sorted(cfg.hf.splits)
    if folder.is_dir():
        saved = find_saved(folder)
        names = [name for name in saved if not chosen or name in chosen]
        return {name: checksums.hash_files(list_files(saved[name])) for name in names}
    require_commit(cfg)
    return [str(cfg.path), cfg.hf.revision, cfg.hf.subset, dict(sorted((cfg.hf.data_files or {}).items())), chosen]


def require_commit(cfg: PoolConfig) -> None:
    """Refuse a Hub name without a commit: what a branch holds changes.

    Raises
    ------
    PoolError
    """
    is_folder = Path(str(cfg.path)).expanduser().is_dir()
    if not is_folder and not COMMIT.fullmatch(cfg.hf.revision or ""):
        raise PoolError(
            f"pool.path={cfg.path} is no local folder, so it is read as a Hugging Face name, and "
            f"pool.hf.revision={cfg.hf.revision!r} is not a commit: pin one of 40 hexadecimal digits."
        )


def find_saved(folder: Path) -> dict[str, Path]:
    """Find the splits that ``save_to_disk`` wrote: split -> folder. One dataset without splits is ``train``.

    Raises
    ------
    PoolError
    """
    if (folder / STATE).is_file():
        return {"train": folder}
    if not (folder / SPLITS).is_file():
        raise PoolError(f"pool.path={folder} holds no dataset saved with save_to_disk ({STATE} or {SPLITS}).")
    names = _read(folder / SPLITS).get("splits")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise PoolError(f"{folder / SPLITS} names no splits.")
    return {name: _inside(folder, name, folder / SPLITS) for name in names}


def list_files(folder: Path) -> list[Path]:
    """List the Arrow files of a saved split; a name that points out of its folder is refused.

    Raises
    ------
    PoolError
    """
    entries = _read(folder / STATE).get("_data_files")
    if not isinstance(entries, list):
        raise PoolError(f"{folder / STATE} names no data files.")
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in entries]
    files = [_inside(folder, str(name), folder / STATE) for name in names]
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise PoolError(f"{folder} lacks {name_some(missing)}: it was not saved or copied whole.")
    return files


def open_splits(cfg: PoolConfig) -> dict[str, Dataset]:
    """Open the splits of a dataset, memory-mapped; their names are the domains of rows that name none.

    Raises
    ------
    PoolError
        For a dataset that cannot be opened, or splits that it does not have.
    """
    import datasets

    folder = Path(str(cfg.path)).expanduser()
    try:
        if folder.is_dir():
            saved = find_saved(folder)
            for split in saved.values():
                list_files(split)  # refuses what points elsewhere before anything is opened
            found = {name: datasets.load_from_disk(str(split)) for name, split in saved.items()}
        else:
            found = dict(
                datasets.load_dataset(
                    str(cfg.path),
                    cfg.hf.subset,
                    revision=cfg.hf.revision,
                    data_files=dict(cfg.hf.data_files or {}) or None,
                )
            )
    except PoolError:
        raise
    except Exception as error:  # the library, Arrow, the network and the disk each raise their own
        hint = " Was it saved and copied whole?" if folder.is_dir() else ""
        raise PoolError(
            f"no dataset can be opened from pool.path={cfg.path}: {type(error).__name__}: {error}.{hint}"
        ) from error
    unknown = [name for name in cfg.hf.splits if name not in found]
    if unknown:
        raise PoolError(f"pool.hf.splits names {name_some(unknown)}; the dataset has {', '.join(found)}.")
    return {name: found[name] for name in (cfg.hf.splits or found)}


def _inside(folder: Path, name: str, source: Path) -> Path:
    path = folder / name
    if not name or Path(name).is_absolute() or not path.resolve().is_relative_to(folder.resolve()):
        raise PoolError(f"{source} names {name!r}, which lies outside of {folder}: this dataset is not read.")
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (RecordError, OSError) as error:
        raise PoolError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise PoolError(f"{path} is not a JSON object.")
    return content
