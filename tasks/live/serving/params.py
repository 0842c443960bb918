"""The settings of `flywheel serve` (section `serve` of params.yaml)."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.errors import Refused
from tasks.verdict import INCONCLUSIVE, PROMOTE


@dataclass(frozen=True, slots=True)
class ServeParams:
    """Shares are of users; times are in the unit that their name ends with."""

    max_in_flight: int
    max_batch: int
    poll_s: float
    canary: str
    challenger_share: float
    shadow: bool
    holdback_share: float
    holdback_days: float
    outcome_minutes: float
    alpha: float
    margin: float

    def checked(self) -> ServeParams:
        """Raises Refused for what cannot be meant."""
        wrong = [
            (self.canary not in (PROMOTE, INCONCLUSIVE), "canary", f"{PROMOTE} or {INCONCLUSIVE}"),
            (not 0 <= self.challenger_share <= 0.5, "challenger_share", "a share from 0 to 0.5"),
            (not 0 <= self.holdback_share <= 0.5, "holdback_share", "a share from 0 to 0.5"),
            (not 0 < self.alpha < 0.5, "alpha", "a chance above 0 and below 0.5"),
            (not 0 < self.margin < 1, "margin", "a share above 0 and below 1"),
            (self.max_in_flight < 1, "max_in_flight", "1 or more"),
            (self.max_batch < 1, "max_batch", "1 or more"),
            (self.poll_s <= 0, "poll_s", "more than 0"),
            (self.outcome_minutes <= 0, "outcome_minutes", "more than 0"),
        ]
        for is_wrong, key, right in wrong:
            if is_wrong:
                raise Refused(f"params.yaml: 'serve.{key}' is {getattr(self, key)!r}", f"write {right}")
        return self
