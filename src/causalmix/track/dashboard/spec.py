"""What a dashboard shows, as plain values that can be printed, edited and read back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from causalmix.errors import TrackerError, name_some, nearest_name

KINDS = ("bars", "scatter", "lines", "number", "parallel")


@dataclass
class PanelSpec:
    """One panel.

    Attributes
    ----------
    kind : str
        bars (``y``, a mean a group of runs), scatter (``x`` against the one ``y``), lines (``y`` over the
        training's steps), number (of runs that have ``y``), parallel (one line a run through all of ``y``).
    title : str
    y : list of str
        Columns of the runs table; for lines, metrics of the training: ``training/loss``.
    x : str or None
        Column of the horizontal axis of a scatter.
    by : str or None
        Column whose values are the groups; None: each run by itself.
    spread : str or None
        What the whiskers of grouped runs show: stderr, stddev or minmax.
    width : int
        In columns of 24.
    """

    kind: str
    title: str
    y: list[str] = field(default_factory=list)
    x: str | None = None
    by: str | None = None
    spread: str | None = None
    width: int = 8


@dataclass
class SectionSpec:
    """Some panels under a heading; the text is Markdown and stands in reports alone."""

    title: str
    text: str = ""
    panels: list[PanelSpec] = field(default_factory=list)


@dataclass
class DashboardSpec:
    """A report or a workspace.

    Attributes
    ----------
    title, about : str
    entity, project : str
        Where the runs are, and where it is saved.
    groups : list of str
        Sweeps whose runs it shows; empty: all of the project.
    cohorts : list of str
        Cohorts whose runs it shows; empty: all.
    arm : str
        Column that tells the policies apart.
    sections : list of SectionSpec
    """

    title: str
    entity: str
    project: str
    about: str = ""
    groups: list[str] = field(default_factory=list)
    cohorts: list[str] = field(default_factory=list)
    arm: str = "design.name"
    sections: list[SectionSpec] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as a YAML file holds them."""
        return asdict(self)


def write_spec(spec: DashboardSpec) -> str:
    """Write a spec as YAML; :func:`read_spec` reads it back."""
    import yaml

    return str(yaml.safe_dump(spec.to_dict(), sort_keys=False, allow_unicode=True, width=110))


def read_spec(path: Path) -> DashboardSpec:
    """Read a spec from YAML.

    Raises
    ------
    TrackerError
        A file that cannot be read, keys that do not exist or are missing, panels that cannot be drawn; all of them.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        given = OmegaConf.merge(OmegaConf.structured(DashboardSpec), OmegaConf.load(path))
        spec = OmegaConf.to_object(given)
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException) as error:
        said = " ".join(str(error).split())
        raise TrackerError(
            f"{path}: no dashboard ({said}). `causalmix dashboard RUNS --dry-run` prints one."
        ) from error
    assert isinstance(spec, DashboardSpec)
    check_spec(spec, str(path))
    return spec


def check_spec(spec: DashboardSpec, source: str = "dashboard") -> None:
    """Refuse what W&B could not draw.

    Raises
    ------
    TrackerError
        Naming every panel and what it lacks.
    """
    faults = [f"{name} is empty" for name in ("entity", "project", "title") if not getattr(spec, name)]
    for panel in (panel for section in spec.sections for panel in section.panels):
        if panel.kind not in KINDS:
            faults.append(f"'{panel.title}': kind {panel.kind}{nearest_name(panel.kind, KINDS)}, not one of {KINDS}")
        elif not panel.y:
            faults.append(f"'{panel.title}': y names no column")
        elif panel.kind == "scatter" and (panel.x is None or len(panel.y) != 1):
            faults.append(f"'{panel.title}': a scatter wants x and one y")
        if not 1 <= panel.width <= 24:
            faults.append(f"'{panel.title}': width {panel.width} is not within 1 to 24")
    if faults:
        raise TrackerError(f"{source}: {name_some(faults)}.")
