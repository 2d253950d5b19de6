"""One family of errors: what was given, what is allowed, and how to mend it.

Every error a user can cause derives from :class:`CausalMixError`. The entry points show it
without a traceback and exit with status 2; anything else is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CausalMixError(Exception):
    """Base of every error that a user can mend."""

    exit_status = 2


class ConfigError(CausalMixError, ValueError):
    """A setting that is unknown, of the wrong type or out of range."""


class PoolError(CausalMixError, ValueError):
    """A pool, document, tokenizer or score that cannot be used."""


class MixtureError(CausalMixError, ValueError):
    """Weights off the simplex, or more documents asked for than the pool can give."""


class TrainError(CausalMixError, ValueError):
    """A training run that cannot start or cannot go on."""


class EvaluateError(CausalMixError, ValueError):
    """An evaluation task or its data that cannot be used."""


class RecordError(CausalMixError, ValueError):
    """A run's record that is damaged, half-written or of another version."""


class OtherVersionError(RecordError):
    """A record that another version wrote: neither read nor overwritten."""


class SweepError(CausalMixError, ValueError):
    """A sweep that contradicts what its folder already holds."""


class TableError(CausalMixError, ValueError):
    """A runs table that does not say what an analysis needs."""


class TrackerError(CausalMixError, RuntimeError):
    """W&B, or a file of its, that an upload or a dashboard cannot use; no run ever ends on it."""


class AnalysisError(CausalMixError, ValueError):
    """A fit or an extrapolation that the data cannot support."""


class LostClaimError(Exception):
    """Another worker has taken a run over: nothing may be published, the work is dropped."""


class StoppedEarlyError(Exception):
    """A training that was told to stop, and did so between two steps with its checkpoint written."""


class RunTimedOutError(Exception):
    """A run that took longer than it may."""


def name_some(offenders: Iterable[object], limit: int = 10) -> str:
    """Name up to ``limit`` offenders, then count the rest.

    Parameters
    ----------
    offenders : iterable
        Whatever is wrong: ids, columns, line numbers.
    limit : int
        How many to name.

    Returns
    -------
    str
        For example ``"a, b, c and 12 more"``.
    """
    items = [str(item) for item in offenders]
    if len(items) <= limit:
        return ", ".join(items)
    return f"{', '.join(items[:limit])} and {len(items) - limit} more"


def nearest_name(given: str, allowed: Iterable[str]) -> str:
    """Suggest the allowed name closest to ``given``, as a clause to append to a message.

    Returns
    -------
    str
        ``" (did you mean 'x'?)"``, or an empty string where nothing is close.
    """
    matches = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.5)
    return f" (did you mean '{matches[0]}'?)" if matches else ""
