"""Python packages that some of lm-eval's tasks need and CausalMix does not; found out without importing any."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path

REQUIREMENT = re.compile(r"""^(?P<package>[\w.-]+).*;\s*extra == ["'](?P<extra>[\w-]+)["']""")


def find_lacking(tasks: Iterable[str], include_path: str | None = None) -> dict[str, list[str]]:
    """Find tasks whose packages are not installed.

    lm-eval names them as an extra of its own, which bears the task's name (``lm_eval[ifeval]``).

    Parameters
    ----------
    tasks : iterable of str
    include_path : str, optional
        A folder of further tasks; one that has a file of its own there is not lm-eval's.

    Returns
    -------
    dict
        Task -> the packages that it lacks; tasks that lack none are left out.
    """
    extras: dict[str, list[str]] = {}
    for line in requires("lm_eval") or ():
        found = REQUIREMENT.match(line)
        if found:
            extras.setdefault(found["extra"].replace("-", "_"), []).append(found["package"])
    own = {file.stem for file in Path(include_path).rglob("*.yaml")} if include_path else set()
    stock = [task for task in tasks if task in extras and task not in own]
    lacking = {task: [name for name in extras[task] if not _is_installed(name)] for task in stock}
    return {task: names for task, names in lacking.items() if names}


def describe_lacking(lacking: dict[str, list[str]]) -> str:
    """Say what is lacking and what mends it."""
    named = "; ".join(f"{task} needs {', '.join(names)}" for task, names in lacking.items())
    packages = " ".join(sorted({name for names in lacking.values() for name in names}))
    return f"{named}: pip install {packages}, or take the task out of evaluate.dev and evaluate.unseen"


def _is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True
