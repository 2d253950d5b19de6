"""Overrides, as they are typed, to a resolved config."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def compose_config(overrides: list[str] | None) -> dict[str, Any]:
    """Compose ``conf/config.yaml`` with overrides, outside of launch.py.

    Raises
    ------
    ConfigError
        Where an override is wrong.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.plugins import Plugins

    from causalmix.config import register_schemas, resolve
    from causalmix.config.folder import find_conf
    from hydra_plugins.causalmix_sweeper.sweeper import CausalMixSweeper

    here = Path.cwd() / "conf"  # a team's own copy, if it works in one
    folder = here if (here / "config.yaml").is_file() else find_conf()
    register_schemas()
    Plugins.instance().register(CausalMixSweeper)
    with initialize_config_dir(str(folder), version_base="1.3"):
        return resolve(compose("config", overrides=list(overrides or [])))


def compose_bare(overrides: list[str] | None) -> dict[str, Any]:
    """Compose a config whose mixture is not asked for: a policy's is not fitted."""
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("policy_weights", lambda: None, replace=True)
    return compose_config(overrides)
