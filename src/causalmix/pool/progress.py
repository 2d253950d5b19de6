"""How far a long stage is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

SAY_EVERY_S = 30.0  # where there is no terminal


class Progress:
    """Documents done, of how many, how fast, and the time left.

    Parameters
    ----------
    name : str
    total : int
        Documents in all; an estimate is put right at the end.
    show : bool
    done : int
        Of them, those that an earlier attempt finished.
    """

    def __init__(self, name: str, total: int, *, show: bool, done: int = 0) -> None:
        self.name, self.total, self.done, self.before = name, total, done, done
        self.is_log = show and not sys.stderr.isatty()
        self.bar = tqdm(total=total, initial=done, desc=name, unit="doc", disable=None if show else True)
        self.started = self.said = time.monotonic()
        self.told = -1  # documents that the last line spoke of

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.total = self.bar.total = self.done
            if self.told not in (-1, self.done):
                self._say()
        self.bar.close()

    def update(self, count: int) -> None:
        """Count documents that are done."""
        self.done += count
        self.bar.update(count)
        if self.is_log and time.monotonic() - self.said >= SAY_EVERY_S:
            self._say()

    def _say(self) -> None:
        self.said, self.told = time.monotonic(), self.done
        rate = (self.done - self.before) / max(self.said - self.started, 1e-9)
        left = max(0, self.total - self.done) / max(rate, 1e-9)
        spelt = f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"
        print(
            f"{self.name}: {self.done} of {self.total} documents, {spelt} a second, {left / 60:.1f} min left",
            file=sys.stderr,
            flush=True,
        )
