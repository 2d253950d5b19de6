"""The report's explorer: the same fit and the same closed forms, computed in the page."""

from __future__ import annotations

from analysis.report.explorer.content import Explorer, build_explorer

__all__ = ["Explorer", "build_explorer"]
