"""Detectors on data that nobody here wrote: floors well below what was measured (docs/detectors.md)."""

from __future__ import annotations

import pytest

from benchmarks.real_detectors import rates
from tests.handmade import SHARED

DATA = SHARED / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real data sets are not in ../shared/data")


def measured(name: str) -> dict:
    try:
        return rates(name, DATA)
    except FileNotFoundError as missing:
        pytest.skip(f"{missing} is not here")


def test_refusals_are_told_from_answers():
    refusal = measured("xstest")["detectors"]["refusal"]
    assert refusal["precision"] >= 0.9
    assert refusal["recall"] >= 0.65


def test_users_reasons_are_read():
    found = measured("feedbackqa")
    complaint = found["detectors"]["negative_comment"]
    assert complaint["precision"] >= found["base_rate"] + 0.12
    assert complaint["recall"] >= 0.9


def test_answers_that_say_what_no_source_says_are_wrong_more_often():
    found = measured("ragtruth")
    for detector in ("ungrounded", "unsupported_sentence", "unsupported_name"):
        assert found["detectors"][detector]["precision"] >= found["base_rate"] + 0.1, detector
