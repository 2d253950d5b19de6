"""Runs that a worker on a cluster trains together: a claim, a heart, a guard and an end each."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from causalmix.errors import LostClaimError
from causalmix.run.record import Record
from causalmix.sweep.attempts import list_deaths
from causalmix.sweep.claims import Claim
from causalmix.sweep.heart import Heart

if TYPE_CHECKING:
    from causalmix.sweep.packed import Shift


def try_group(shift: Shift, run_ids: list[str]) -> list[str]:
    """Do runs that nobody else does, together; return those that other workers hold."""
    name = shift.submission.name
    # A run that a worker has died of takes no other down with it.
    alone = [run_id for run_id in run_ids if len(run_ids) == 1 or list_deaths(shift.claims, run_id, name)]
    held = [run_id for run_id in alone if not shift.try_run(run_id)]
    claims = []
    for run_id in run_ids:
        if run_id in alone or shift.told or shift.is_settled(run_id):
            continue
        claim = shift.claims.take(run_id)
        if claim is None:
            held.append(run_id)
        elif shift.is_settled(run_id):  # published between the look and the claim
            claim.end("settled before")
        else:
            claims.append(claim)
    return held + (do_together(shift, claims) if claims else [])


def do_together(shift: Shift, claims: list[Claim]) -> list[str]:
    """Do claimed runs as one group.

    Returns
    -------
    list of str
        Runs whose claim was lost on the way: other workers hold them.

    Raises
    ------
    Exception
        The first that left a run without a record, once the others have ended.
    """
    from causalmix.run.together import Order, run_together

    hearts: dict[str, ExitStack] = {}
    orders: list[Order] = []
    company = Company(shift, {claim.run_id: claim for claim in claims}, hearts)
    try:
        for claim in claims:
            hearts[claim.run_id] = ExitStack()
            try:
                heart = hearts[claim.run_id].enter_context(Heart(claim, shift.lease_s))
            except LostClaimError as error:
                company.settle(claim.run_id, error)
                continue
            guard = shift.make_guard(claim.run_id, claim, heart, len(claims))
            orders.append(Order(shift.make_point(claim.run_id), shift.folder.run_dir(claim.run_id), guard))
        for run_id, outcome in run_together(orders, shift.workshop):
            company.settle(run_id, outcome)
    except BaseException as error:
        for run_id in list(company.claims):
            company.settle(run_id, error)
        raise
    if company.errors:
        raise company.errors[0]
    return company.lost


class Company:
    """What became of the runs of a group; each ends once."""

    def __init__(self, shift: Shift, claims: dict[str, Claim], hearts: dict[str, ExitStack]) -> None:
        self.shift, self.claims, self.hearts = shift, claims, hearts
        self.lost: list[str] = []
        self.errors: list[BaseException] = []

    def settle(self, run_id: str, outcome: Record | BaseException) -> None:
        """End a run's heart and claim, and say how it went."""
        claim = self.claims.pop(run_id)
        if run_id in self.hearts:
            self.hearts[run_id].close()
        if isinstance(outcome, LostClaimError):
            self.shift.drop(outcome)
            self.lost.append(run_id)
        elif isinstance(outcome, BaseException):
            claim.end(f"{type(outcome).__name__}: {outcome}")
            self.errors.append(outcome)
        else:
            self.shift.end(claim, outcome)
