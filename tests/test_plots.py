"""Pictures for the Prefect UI: what is known is drawn and nothing else, in a picture that asks nobody for anything."""

from __future__ import annotations

import base64
import math
from dataclasses import fields
from xml.etree import ElementTree

import pytest

from flows import plots
from tasks.estimate import Estimate
from tasks.live.labels import Audit
from tasks.records import Cluster

pytestmark = pytest.mark.slow  # matplotlib
UNKNOWN = Estimate(math.nan, math.nan, math.nan, 0)


def words(image: str) -> str:
    head, _, data = image.partition(",")
    assert head == "data:image/svg+xml;base64"
    root = ElementTree.fromstring(base64.b64decode(data))
    outside = [v for e in root.iter() for k, v in e.attrib.items() if k.endswith("href") and not v.startswith("#")]
    assert not outside and not list(root.iter("{http://www.w3.org/2000/svg}script"))
    return "\n".join("".join(e.itertext()) for e in root.iter("{http://www.w3.org/2000/svg}text"))


def cluster(name: str, turn: int, share: float) -> Cluster:
    blank = {f.name: 0 if f.type in ("int", "float") else "" for f in fields(Cluster)}
    return Cluster(**blank | {"cluster_id": name, "name": name, "turn": turn, "share": share, "state": "growing"})


def compared(difference: float, low: float, high: float, groups: int = 50) -> dict:
    return {"difference": difference, "low": low, "high": high, "groups": groups}


def test_every_batch_with_a_known_rate_is_on_the_axis():
    first, third = Estimate(0.5, 0.4, 0.6, 80), Estimate(0.2, 0.1, 0.3, 80)
    audits = [Audit("batch-1", first), Audit("batch-2", UNKNOWN), Audit("batch-3", third)]
    shown = words(plots.error_rate(audits))
    assert "batch-1" in shown and "batch-3" in shown and "batch-2" not in shown
    assert plots.error_rate([Audit("batch-2", UNKNOWN)]) == ""


def test_the_commonest_clusters_are_named_whatever_their_name_holds():
    names = [f"cluster-{n:02d}" for n in range(20)] + ["a $x_ <b> $ & formula"]
    shown = words(plots.clusters([cluster(name, turn, 0.01 * (n + turn)) for n, name in enumerate(names) for turn in (1, 2)]))
    assert "a $x_ <b> $ & formula (growing)" in shown and "cluster-19" in shown and "cluster-05" not in shown
    assert plots.clusters([]) == ""


def test_the_verdict_shows_the_comparisons_and_the_worst_slices_and_of_a_refusal_without_any_nothing():
    slices = {f"s{n:02d}": {"compared": compared(n / 100, n / 100 - 0.1, n / 100 + 0.1)} for n in range(12)}
    nothing = {"compared": compared(0, 0, 0, groups=0)}
    document = {"decision": "refuse", "primary": compared(0.05, 0.01, 0.09), "guards": {"safety": nothing}, "slices": slices}
    shown = words(plots.verdict(document))
    assert "right answers" in shown and "slice s00" in shown and "slice s11" not in shown and "safety" not in shown
    assert plots.verdict({"decision": "refuse", "reasons": ["no data"]}) == ""
