"""What a check is: a class with a code, a title and one question to a fitted analysis."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.estimators.fit import Fitted
from analysis.roles import Roles
from analysis.target import Target
from causalmix.config import AnalysisConfig

PASSED, WARNING, FAILED, SKIPPED = "passed", "warning", "failed", "not applicable"


@dataclass(frozen=True)
class CheckResult:
    """One line of checks.json.

    Attributes
    ----------
    code, title : str
    status : str
        passed | warning | failed | not applicable. Unless it is allowed, a failure before the fit stops the
        analysis, and one after it withholds the advice.
    value : float or None
        The number that was judged.
    message : str
        What was found.
    action : str
        What to do about it; empty where nothing is.
    why : str
        Why the question matters, in a sentence or two.
    page : str
        The page of the project's documentation that explains the check.
    must : bool
        Whether the check may fail at all: the others warn at most.
    """

    code: str
    title: str
    status: str
    value: float | None
    message: str
    action: str
    why: str = ""
    page: str = ""
    must: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-like content."""
        return asdict(self)


@dataclass(frozen=True)
class Evidence:
    """What a check may look at.

    Attributes
    ----------
    roles : Roles
    frame : DataFrame
        The whole runs table, replicates included.
    cfg : AnalysisConfig
    target : Target or None
        Absent before the target is read.
    fitted : Fitted or None
        Absent before the fit.
    predicted : ndarray (n,) or None
        Out-of-fold effect part ``theta(x_i)' z_i`` of every run.
    candidate : ndarray (K,) or None
        The policy's mixture.
    """

    roles: Roles
    frame: pd.DataFrame
    cfg: AnalysisConfig
    target: Target | None = None
    fitted: Fitted | None = None
    predicted: NDArray[np.float64] | None = None
    candidate: NDArray[np.float64] | None = None


class Check(ABC):
    """One question; its class's docstring says, in a sentence or two, why it is asked.

    A check with ``must`` may fail, and then stands against advice; the others warn at most. ``before_fit``
    checks run on the table alone, and a failure stops the analysis there. One with ``refits`` tries to break the
    fit, not the answer: it is asked once a fit, at the first target.
    """

    code: ClassVar[str]
    title: ClassVar[str]
    before_fit: ClassVar[bool] = False
    must: ClassVar[bool] = False
    refits: ClassVar[bool] = False

    @abstractmethod
    def run(self, evidence: Evidence) -> CheckResult:
        """Judge the evidence."""

    def say(self, status: str, value: float | None, message: str, action: str = "") -> CheckResult:
        """Return a result under this check's code; a value that is not finite is left out."""
        assert status != FAILED or self.must, f"{self.code} is no must-check and cannot fail"
        number = None if value is None or not np.isfinite(value) else float(value)
        why, page = explain(type(self)), f"docs/checks/{self.code}.md"
        return CheckResult(self.code, self.title, status, number, message, action, why, page, self.must)

    def skip(self, why: str) -> CheckResult:
        """Return "not applicable" with the reason."""
        return self.say(SKIPPED, None, why)


def explain(check: type[Check]) -> str:
    """Return why a check is asked: its docstring, on one line."""
    return " ".join((inspect.getdoc(check) or "").split())


def begin(sentence: str) -> str:
    """Return a sentence with a capital first letter, all else as it is (``str.capitalize`` lowers the rest)."""
    return sentence[:1].upper() + sentence[1:]
