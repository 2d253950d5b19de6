"""``python -m analysis.compare runs=SWEEP reference=equal``: targets trained under each policy, side by side."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import cast

import hydra
from omegaconf import OmegaConf

from causalmix.config import CompareConfig, register_schemas
from causalmix.config.folder import find_conf
from causalmix.entry import end_with_message, run_command

register_schemas()


def compare(cfg: CompareConfig) -> None:
    """Compare, print, and write ``compare.md``, ``.tex``, ``.html`` and ``.json`` into ``cfg.output_dir``."""
    from analysis.compare.arms import read_arms
    from analysis.compare.page import PAGES, describe, list_arms, list_mixtures
    from analysis.compare.paired import compare_arms
    from causalmix.files import write_json, write_text

    comparison = compare_arms(read_arms(cfg), cfg.reference, cfg.confidence)
    folder = Path(cfg.output_dir)
    for ending, write in PAGES.items():
        write_text(folder / f"compare.{ending}", write(comparison))
    write_json(folder / "compare.json", comparison.to_json())
    if cfg.as_json:
        print(json.dumps(comparison.to_json(), indent=1))
        return
    for title, rows in [*list_arms(comparison), ("Mixtures: mean shares over runs", list_mixtures(comparison))]:
        print_table(title, rows)
    for line in [*describe(comparison), f"written: {folder}/compare.md, .tex, .html, .json"]:
        print(line)


def print_table(title: str, rows: list[list[str]]) -> None:
    """Print rows, header first, on a terminal or into a log."""
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    console = Console(width=max(Console().width, 150))
    table = Table(title=title or None, title_justify="left")
    for at, name in enumerate(rows[0]):
        table.add_column(name, justify="right" if at else "left", overflow="fold")
    for row in rows[1:]:
        table.add_row(*row)
    console.print(table, markup=False)


@hydra.main(version_base="1.3", config_path=str(find_conf()), config_name="compare")
@end_with_message
def main(cfg: CompareConfig) -> None:
    """Hand the composed config over."""
    compare(cast(CompareConfig, OmegaConf.to_object(cfg)))


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv))
