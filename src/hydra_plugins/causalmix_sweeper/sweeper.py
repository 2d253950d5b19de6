"""The sweeper behind ``launch.py -m``: compose once a choice of groups, merge values, run what is missing."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from causalmix.config import resolve
from causalmix.errors import ConfigError


@dataclass
class CausalMixSweeperConf:
    """Config node ``hydra/sweeper=causalmix``."""

    _target_: str = "hydra_plugins.causalmix_sweeper.sweeper.CausalMixSweeper"
    params: dict[str, Any] | None = field(default_factory=dict)  # sweeps written in a config file


ConfigStore.instance().store(group="hydra/sweeper", name="causalmix", node=CausalMixSweeperConf, provider="causalmix")


class CausalMixSweeper(Sweeper):
    """Turn ``key=a,b`` and ``key=range(n)`` into points and hand them to :mod:`causalmix.sweep`."""

    def __init__(self, params: Mapping[str, Any] | None = None) -> None:
        self.params = dict(params or {})
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra hands over; the task function is not used, sweeps have their own workers."""
        self.hydra_context = hydra_context
        self.config = config

    def sweep(self, arguments: list[str]) -> Any:
        """Expand ``arguments``, and run or submit every point that has no complete record yet."""
        from causalmix.sweep.submit import run_sweep

        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        written = [f"{key}={value}" for key, value in self.params.items()]
        points, swept = self.compose_points(parser.parse_overrides([*written, *arguments]))
        if any(point["job"] == "study" for point in points):
            raise ConfigError("job=study is a whole loop of its own sweeps: leave -m out.")
        return run_sweep(points, swept=swept)

    def compose_points(self, overrides: list[Override]) -> tuple[list[dict[str, Any]], list[str]]:
        """Compose every point as plain resolved values.

        Returns
        -------
        points : list of dict
            One resolved config a point, in the order of the command line's product.
        swept : list of str
            The keys that were swept.
        """
        assert self.hydra_context is not None
        assert self.config is not None
        loader = self.hydra_context.config_loader
        choices: dict[str, list[str]] = {}
        composed: set[str] = set()  # keys that take part in composing: all but swept values
        swept: set[str] = set()
        for override in overrides:
            key = override.get_key_element()
            composed.discard(key)  # the last mention of a key wins, as in Hydra
            swept.discard(key)
            if override.is_sweep_override():
                if not override.is_discrete_sweep():
                    raise ConfigError(f"{override.input_line}: only lists, range(...) and choice(...) can be swept")
                choices[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
                swept.add(key)
            else:
                choices[key] = [f"{key}={override.get_value_element_as_str()}"]
            is_group = bool(loader.get_group_options(override.key_or_group, ObjectType.CONFIG))
            if is_group or len(choices[key]) == 1:
                composed.add(key)

        by_group = [choices[key] for key in choices if key in composed]
        by_value = [choices[key] for key in choices if key not in composed]
        points = []
        for composed_from in itertools.product(*by_group):
            base = loader.load_sweep_config(self.config, list(composed_from))
            with open_dict(base):
                base.pop("hydra", None)
            for values in itertools.product(*by_value):
                points.append(merge_values(base, values))
        return points, sorted(swept)


def merge_values(base: DictConfig, values: tuple[str, ...]) -> dict[str, Any]:
    """Merge ``key=value`` strings into a copy of a composed config and resolve it to plain values."""
    point = base.copy()
    parsed = OverridesParser.create().parse_overrides(list(values))
    for override in parsed:
        OmegaConf.update(point, override.key_or_group, override.value(), merge=True)
    return resolve(point)
