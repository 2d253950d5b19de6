"""Claims under any order of events: sleeping, dying, publishing late, letting go."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from causalmix.errors import LostClaimError
from causalmix.sweep.claims import Claim
from tests.sweep.claiming import LEASE_S, Clock, make_claims, publish


class Sleepers(RuleBasedStateMachine):
    """Three workers on one run, each free to sleep, die, publish late or let go at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.workers = [make_claims(self.root, self.clock, name) for name in "abc"]
        self.held: list[Claim] = []
        self.newest = 0
        self.published = 0

    @rule(worker=st.integers(0, 2))
    def take(self, worker: int) -> None:
        claim = self.workers[worker].take("r1")
        if claim is not None:
            assert claim.number == self.newest + 1, "numbers grow by one, each is given once"
            self.newest = claim.number
            self.held.append(claim)

    @rule(seconds=st.sampled_from([1.0, LEASE_S / 2, LEASE_S * 2]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(data=st.data())
    def act(self, data: st.DataObject) -> None:
        if not self.held:
            return
        claim = data.draw(st.sampled_from(self.held))
        how = data.draw(st.sampled_from(["beat", "publish", "end", "die"]))
        if how == "die":
            self.held.remove(claim)
        elif how == "end":
            claim.end("gave up")
            self.held.remove(claim)
        else:
            try:
                claim.beat() if how == "beat" else publish(claim, self.root / "record.json")
            except LostClaimError:
                assert claim.number < self.newest or claim.number == self.published
                self.held.remove(claim)
            else:
                assert claim.number == self.newest, "only the newest claim can do anything"
                if how == "publish":
                    self.published = claim.number
                    self.held.remove(claim)

    @invariant()
    def record_is_the_newest_published(self) -> None:
        path = self.root / "record.json"
        assert (json.loads(path.read_text())["claim"] if path.exists() else 0) == self.published

    @invariant()
    def at_most_one_ticket(self) -> None:
        assert len(list(self.root.glob("r1/ticket-*"))) <= 1


TestSleepers = Sleepers.TestCase
TestSleepers.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
