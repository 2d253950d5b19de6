"""The heartbeat of a claim: a thread that shows life while the work goes on, and hears when the claim is lost."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from causalmix.errors import LostClaimError
from causalmix.sweep.claims import Claim

BEATS_A_LEASE = 6


class Heart:
    """Beat for a claim while a ``with`` block runs.

    Parameters
    ----------
    claim : Claim
    lease_s : float
        A holder that could not beat for so long (a folder that does not answer) counts its claim as lost:
        others do.
    """

    def __init__(self, claim: Claim, lease_s: float) -> None:
        self.claim = claim
        self.lease_s = lease_s
        self.lost = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heart", daemon=True)

    def check(self) -> None:
        """Raise :class:`LostClaimError` where the claim is known to be lost; costs nothing."""
        if self.lost:
            raise LostClaimError(f"run {self.claim.run_id}: claim {self.claim.number} was lost")

    def __enter__(self) -> Heart:
        self.claim.beat()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(self.lease_s / BEATS_A_LEASE):
            try:
                self.claim.beat()
                last = time.monotonic()
            except LostClaimError:
                self.lost = True
                return
            except OSError:
                if time.monotonic() - last > self.lease_s:
                    self.lost = True
                    return
