"""Where the configs are."""

from __future__ import annotations

from pathlib import Path


def find_conf() -> Path:
    """Return ``conf/``: the copy that a wheel carries, else that of the source tree.

    Configs of one's own are added with Hydra's ``--config-dir=FOLDER``.
    """
    package = Path(__file__).resolve().parents[1]
    carried = package / "conf"
    return carried if carried.is_dir() else package.parents[1] / "conf"
