"""The gate: rows that two models answered (rows.py), what makes them unusable (soundness.py), which level this look has
(looks.py), what must not get worse (guards.py, slices.py, poison.py), and what could have been seen (power.py).

tasks/verdict.py puts them together: `decide`.
"""
