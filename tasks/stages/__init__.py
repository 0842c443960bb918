"""The file shell: each stage turns declared files into declared files. `dvc.yaml` opens it.

No Prefect, no MLflow, no clock, no environment: equal inputs give equal bytes, so DVC may skip what did not change.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tasks.errors import Refused


def run(work: Callable[..., None], names: Sequence[str], argv: Sequence[str] | None = None) -> int:
    """Call `work` with the paths given as --name PATH (all required). A Refused is told and becomes the exit code."""
    parser = argparse.ArgumentParser(prog=work.__module__, description=work.__doc__)
    for name in names:
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args(argv)
    try:
        work(**vars(arguments))
    except Refused as e:
        print(f"error: {e}", file=sys.stderr)
        return e.exit_code
    return 0


PARAMS = Path("params.yaml")
