"""``python -m analysis.simulate``: regret, error, coverage and false advice on sweeps with a known truth."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import cast

import hydra
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from causalmix.config import SimulateConfig, register_schemas
from causalmix.config.folder import find_conf
from causalmix.entry import end_with_message, hold_threads, run_command

register_schemas()


@hydra.main(version_base="1.3", config_path=str(find_conf()), config_name="simulate")
@end_with_message
def main(cfg: SimulateConfig) -> None:
    """Simulate and print two tables: effects by estimator, mixtures by policy."""
    from analysis.simulate.repeat import (
        check_simulation,
        load_arms,
        repeat,
        replace_nan,
        spell_summary,
        summarise_attained,
        summarise_effects,
        summarise_policies,
    )
    from causalmix.files import write_json

    plain = cast(SimulateConfig, OmegaConf.to_object(cfg))
    check_simulation(plain)
    trials = repeat(
        plain.dials,
        load_arms(plain),
        n_repetitions=plain.n_repetitions,
        n_targets=plain.n_targets,
        seed=plain.seed,
        n_workers=plain.n_workers,
        confidence=plain.confidence,
    )
    effects, policies = summarise_effects(trials), summarise_policies(trials)
    attained = summarise_attained(trials)
    content = replace_nan(
        {
            "settings": asdict(plain),
            "attained": {name: asdict(mean) for name, mean in attained.items()},
            "effects": spell_summary(effects),
            "policies": spell_summary(policies),
        }
    )
    if plain.json:
        write_json(Path(plain.json), content)
    if plain.as_json:
        print(json.dumps(content, indent=1, allow_nan=False))
        return
    console = Console(width=max(Console().width, 110))
    console.print(f"{plain.n_repetitions} sweeps; means over them with standard errors", highlight=False)
    for title, summary in (("effects theta", effects), ("mixtures, in points", policies)):
        table = Table(title=title)
        table.add_column("")
        for score in next(iter(summary.values())):
            table.add_column(score, justify="right")
        for name, row in summary.items():
            table.add_row(name, *map(str, row.values()))
        console.print(table)
    console.print(
        f"regret of an oracle that knows all but the sizes of the effects: {attained['oracle']}", highlight=False
    )
    console.print(
        f"and of one who knows only what kind they are, and their usual size: {attained['ideal']}", highlight=False
    )


if __name__ == "__main__":
    hold_threads()
    sys.exit(run_command(main, sys.argv))
