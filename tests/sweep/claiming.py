"""Workers on machines of their own, with a clock that a test moves."""

from __future__ import annotations

import json
from pathlib import Path

from causalmix.sweep.claims import Claim, Claims

LEASE_S = 10.0
ELSEWHERE = {"host": "elsewhere", "space": "other", "pid": 1, "started": 1}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def make_claims(root: Path, clock: Clock, name: str = "a") -> Claims:
    """Claims of a worker on a machine of its own: nobody can see whether its process lives."""
    return Claims(root, {"job": name}, LEASE_S, clock, {**ELSEWHERE, "host": name})


def publish(claim: Claim, path: Path) -> None:
    claim.publish(path, json.dumps({"claim": claim.number}))
