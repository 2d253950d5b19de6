"""What the doctor says: one finding a question, with the reason for the question and the way to mend it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

GOOD, WARNING, FAILED, SKIPPED = "good", "warning", "failed", "skipped"
MARKS = {GOOD: "ok     ", WARNING: "warning", FAILED: "FAILED ", SKIPPED: "skipped"}


@dataclass(frozen=True)
class Finding:
    """One answer.

    Attributes
    ----------
    name : str
        What was looked at.
    state : str
        good, warning (runs will work, worse), failed (they will not) or skipped (does not apply, or cannot be asked).
    said : str
        What was found.
    why : str
        Why it matters.
    mend : str
        What to do about it; empty where nothing has to be done.
    """

    name: str
    state: str
    said: str
    why: str
    mend: str = ""


@dataclass(frozen=True)
class Question:
    """A question with its reason; its methods make findings of it."""

    name: str
    why: str

    def good(self, said: str) -> Finding:
        """Answer that all is well."""
        return Finding(self.name, GOOD, said, self.why)

    def skip(self, said: str) -> Finding:
        """Answer that the question does not apply here."""
        return Finding(self.name, SKIPPED, said, self.why)

    def warn(self, said: str, mend: str) -> Finding:
        """Answer that runs will work, but worse."""
        return Finding(self.name, WARNING, said, self.why, mend)

    def fail(self, said: str, mend: str) -> Finding:
        """Answer that runs will not work."""
        return Finding(self.name, FAILED, said, self.why, mend)


def has_failed(findings: Iterable[Finding]) -> bool:
    """Tell whether anything that must work does not."""
    return any(finding.state == FAILED for finding in findings)


def render_finding(finding: Finding) -> str:
    """Write a finding for a reader; reasons and remedies only where something is wrong."""
    lines = [f"{MARKS[finding.state]}  {finding.name}: {finding.said}"]
    if finding.mend:
        lines += [f"           why:  {finding.why}", f"           mend: {finding.mend}"]
    return "\n".join(lines)


def to_plain(findings: Iterable[Finding]) -> dict[str, Any]:
    """Return plain values for ``--json``."""
    listed = list(findings)
    return {"ok": not has_failed(listed), "findings": [asdict(finding) for finding in listed]}
