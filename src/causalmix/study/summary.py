"""What a study says at its end: the mixture, its gain, the confirmation table, where the files are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from causalmix.files import read_json, write_text
from causalmix.study.loop import StudyResult
from causalmix.study.page import write_page
from causalmix.study.tables import describe_seconds, describe_spread, describe_twins, list_confirmation, list_mixtures


def present(result: StudyResult, plain: dict[str, Any], arguments: Sequence[str]) -> None:
    """Print a study's answer, and write the page that ``study.docs_file`` names."""
    docs_file = plain["study"]["docs_file"]
    if docs_file:
        write_text(Path(docs_file), write_page(result, plain, arguments))
    if plain["as_json"]:
        print(json.dumps(read_json(result.folder / "study.json"), indent=1))
        return
    console = Console(width=max(Console().width, 150))  # tables in a log file are as wide as they need
    mixture = result.mixtures[result.main_arm]
    for title, rows in (
        ("Mixtures", list_mixtures(result)),
        ("Confirmation (AvgDev, points)", list_confirmation(result)),
    ):
        table = Table(title=title, title_justify="left")
        for name in rows[0]:
            table.add_column(name, overflow="fold")
        for row in rows[1:]:
            table.add_row(*row)
        console.print(table)
    gain = mixture["gain"]
    reason = f": {mixture['reason']}" if mixture.get("reason") else ""
    console.print(
        f"Predicted gain of {result.main_arm} over the reference: {gain['estimate']:+.2f} points "
        f"({100 * gain['confidence']:.0f}% interval {gain['low']:+.2f} to {gain['high']:+.2f}); "
        f"advice {mixture['advice']}{reason}",
        highlight=False,
    )
    console.print(describe_spread(result), highlight=False)
    for sentence in describe_twins(result):
        console.print(sentence, highlight=False)
    console.print(describe_seconds(result), highlight=False)
    paths = {
        "mixture": mixture["file"],
        "report": result.report,
        "results": result.folder / "study.json",
        "page": docs_file,
    }
    for name, path in paths.items():
        if path:
            console.print(f"{name + ':':9}{path}", highlight=False, soft_wrap=True)
