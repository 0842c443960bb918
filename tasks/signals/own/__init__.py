"""Detectors of the team's own: each file here with DETECTORS is found by lying here (docs/extend.md)."""
