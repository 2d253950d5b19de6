"""Where two tables of the same runs differ: what W&B, or a file, lost of the records."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from causalmix.errors import name_some
from causalmix.table.normal import is_missing
from causalmix.table.runs import RunsTable


@dataclass(frozen=True)
class CellDifference:
    """One cell that differs; None where it is empty, or its table has no such column."""

    run_id: str
    column: str
    first: Any
    second: Any


@dataclass(frozen=True)
class TableDifference:
    """What sets two tables apart.

    Attributes
    ----------
    only_first, only_second : tuple of str
        Runs that only one of them has.
    cells : tuple of CellDifference
        Cells of common runs; numbers are compared to the last digit.
    reasons : dict of str to str
        Why a run that only one has is not in the other, where that is known.
    """

    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    cells: tuple[CellDifference, ...]
    reasons: dict[str, str]

    def __bool__(self) -> bool:
        return bool(self.only_first or self.only_second or self.cells)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for ``--json``."""
        return {"same": not self, **asdict(self)}

    def render(self, first: str, second: str) -> str:
        """Write the difference for a reader."""
        if not self:
            return f"{first} and {second} hold the same runs, to the last digit"
        lines = []
        for missing, there, runs in ((second, first, self.only_first), (first, second, self.only_second)):
            if runs:
                named = name_some(self.reasons.get(run, run) for run in runs)
                lines.append(f"{len(runs)} runs are in {there} and not complete in {missing}: {named}")
        if self.cells:
            n_runs = len({cell.run_id for cell in self.cells})
            shown = (f"{cell.run_id} {cell.column} {cell.first} there, {cell.second} here" for cell in self.cells)
            lines.append(f"{len(self.cells)} cells of {n_runs} runs differ ({first} there, {second} here): ")
            lines[-1] += name_some(shown)
        return "\n".join(lines)


def compare_tables(first: RunsTable, second: RunsTable) -> TableDifference:
    """Compare two tables run by run and cell by cell."""
    rows = [{str(row["run_id"]): row for row in table.frame.to_dict(orient="records")} for table in (first, second)]
    columns = sorted({str(name) for table in (first, second) for name in table.frame.columns})
    cells = []
    for run_id in sorted(rows[0].keys() & rows[1].keys()):
        for column in columns:
            one, two = (None if is_missing(row[run_id].get(column)) else row[run_id].get(column) for row in rows)
            if one != two:
                cells.append(CellDifference(run_id, column, one, two))
    reasons: dict[str, str] = {}
    for problem in (*first.problems, *second.problems):
        reasons.setdefault(problem.split(":")[0], problem)
    only = [tuple(sorted(rows[i].keys() - rows[1 - i].keys())) for i in (0, 1)]
    apart = {run_id: reasons[run_id] for runs in only for run_id in runs if run_id in reasons}
    return TableDifference(only[0], only[1], tuple(cells), apart)
