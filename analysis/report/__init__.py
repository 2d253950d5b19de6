"""The report: one self-contained HTML page, the answer first."""

from __future__ import annotations

from analysis.report.page import render_report, write_report

__all__ = ["render_report", "write_report"]
