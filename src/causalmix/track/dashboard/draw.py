"""Telling W&B: a spec becomes a report or a workspace, through W&B's own package."""

from __future__ import annotations

import warnings
from typing import Any

from causalmix.errors import TrackerError
from causalmix.track.dashboard.spec import DashboardSpec, PanelSpec, SectionSpec, check_spec
from causalmix.track.session import is_setting

COLUMNS = 24  # of W&B's grid
HEIGHT = 8  # of a panel, in its rows
STEP = "training/step"


class FlatKey(str):
    """A config key whose dots are part of its name.

    W&B keeps ``{"mixture": {"code": x}}`` at ``mixture.value.code`` and ``{"mixture.code": x}`` at
    ``mixture.code.value``; its package takes every dotted key for the first kind. It finds the place by
    splitting at dots, so a key that does not split is taken whole.
    """

    def split(self, *_: Any, **__: Any) -> list[str]:
        """Return the key in one piece."""
        return [str(self)]


def save_report(spec: DashboardSpec, update: str | None = None) -> str:
    """Save a spec as a W&B report.

    Parameters
    ----------
    spec : DashboardSpec
    update : str, optional
        Address of a report that is to show this from now on.

    Returns
    -------
    str
        Its address.

    Raises
    ------
    TrackerError
        W&B refuses, is not to be reached, or knows no such project.
    """
    _import_package()
    import wandb_workspaces.reports.v2 as wr

    def save() -> str:
        report = wr.Report.from_url(update) if update else wr.Report(entity=spec.entity, project=spec.project)
        report.title, report.description, report.width = spec.title, spec.about, "fluid"
        report.blocks = [wr.TableOfContents(), *(block for section in spec.sections for block in _write(section, spec))]
        return str(report.save().url)

    return _ask(save, spec)


def save_workspace(spec: DashboardSpec, update: str | None = None) -> str:
    """Save a spec as a saved view of a W&B workspace; parameters and errors as of :func:`save_report`."""
    _import_package()
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces import expr

    def save() -> str:
        view = ws.Workspace.from_url(update) if update else ws.Workspace(entity=spec.entity, project=spec.project)
        view.name = spec.title
        view.sections = [ws.Section(name=part.title, panels=_draw_all(part), is_open=True) for part in spec.sections]
        view.runset_settings = ws.RunsetSettings(filters=_filter(spec), order=[expr.Ordering(expr.Metric("Name"))])
        return str(view.save().url)

    return _ask(save, spec)


def _import_package() -> None:
    """Import W&B's package once, without the warnings about its own age that it gives then."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import wandb_workspaces.reports.v2
        import wandb_workspaces.workspaces  # noqa: F401


def _ask(save: Any, spec: DashboardSpec) -> str:
    check_spec(spec)
    try:
        return str(save())
    except Exception as error:  # W&B's packages raise whatever their transport raises
        said = " ".join(str(error).split()) or type(error).__name__
        raise TrackerError(
            f"W&B did not save the dashboard: {said}. Is there a project {spec.entity}/{spec.project} with runs, and a "
            "key (WANDB_API_KEY, `wandb login`)? `--dry-run` prints the spec; `--spec FILE` takes it up again."
        ) from error


def _write(section: SectionSpec, spec: DashboardSpec) -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    runs = wr.Runset(entity=spec.entity, project=spec.project, name="runs", filters=_filter(spec))
    text = [wr.MarkdownBlock(section.text)] if section.text else []
    return [wr.H2(section.title), *text, wr.PanelGrid(runsets=[runs], panels=_draw_all(section), hide_run_sets=True)]


def _filter(spec: DashboardSpec) -> Any:
    from wandb_workspaces import expr

    filters = []
    if spec.groups:
        filters.append(expr.Metric("Group").isin(spec.groups))
    if spec.cohorts:
        filters.append(expr.Metric("JobType").isin(spec.cohorts))
    return expr.And(*filters) if filters else ""


def _draw_all(section: SectionSpec) -> list[Any]:
    """Draw a section's panels from left to right, row after row."""
    import wandb_workspaces.reports.v2 as wr

    panels, x, y = [], 0, 0
    for spec in section.panels:
        if x + spec.width > COLUMNS:
            x, y = 0, y + HEIGHT
        panel = _draw(spec)
        panel.layout = wr.Layout(x=x, y=y, w=spec.width, h=HEIGHT)
        panels.append(panel)
        x += spec.width
    return panels


def _draw(spec: PanelSpec) -> Any:
    import wandb_workspaces.reports.v2 as wr

    columns = [_name(column) for column in spec.y]
    grouped: dict[str, Any] = {}
    if spec.by:
        grouped = {"groupby": f"{spec.by}.value", "groupby_aggfunc": "mean", "groupby_rangefunc": spec.spread}
    match spec.kind:
        case "bars":
            return wr.BarPlot(title=spec.title, metrics=columns, max_bars_to_show=50, **grouped)
        case "scatter":
            return wr.ScatterPlot(title=spec.title, x=_name(str(spec.x)), y=columns[0], regression=True)
        case "lines":
            return wr.LinePlot(title=spec.title, x=STEP, y=spec.y, **grouped)
        case "number":
            return wr.ScalarChart(title=spec.title, metric=columns[0], groupby_aggfunc="samples")
        case _:
            axes = [wr.ParallelCoordinatesPlotColumn(column) for column in columns]
            return wr.ParallelCoordinatesPlot(title=spec.title, columns=axes)


def _name(column: str) -> Any:
    """Name a column of the runs table as W&B's panels do: as a setting, or as a part of the summary."""
    import wandb_workspaces.reports.v2 as wr

    if not is_setting(column):
        return wr.SummaryMetric(column)
    key = wr.Config(column)
    object.__setattr__(key, "name", FlatKey(column))  # W&B's class is frozen and would make a plain string of it
    return key
