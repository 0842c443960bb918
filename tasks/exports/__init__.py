"""Rows of a dataset as the files of other tools: one module a dialect, all of them known to `dialects`.

Nothing is imported here, so that who needs one dialect (a provider's trainer) does not depend on the others.
"""
