"""What hygiene may be told: the section `hygiene` of params.yaml, where each key is explained."""

from __future__ import annotations

from dataclasses import dataclass

DAY = 86_400_000_000  # µs


@dataclass(frozen=True, slots=True)
class HygieneParams:
    key: str
    # triggers
    min_actors: int
    aged_days: float
    trigger_z: float
    trigger_times: float
    trigger_prior: float
    alpha: float
    # single rows
    encoded_length: int
    echo_words: int
    echo_share: float
    shift_votes: int
    # caps
    actor_rows: int
    actor_share: float
    tenant_rows: int
    tenant_share: float
    day_rows: int
    group_rows: int
    claim_rows: int
    # dedup, noise, balance, anchors
    near_duplicate: float
    noise_confidence: float
    noise_rows: int
    noise_drop: bool
    slice_floor: int
    slice_rows: int
    temperature: float
    anchor_share: float
    # audits
    audit_rows: int
    audit_level: float
