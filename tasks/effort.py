"""What an answer costs people: minutes, from the length of what must be read.

effort([1200, 6000], [], overlap 3)  ->  [4.5, 16.5]      a minute and a half each, five and a half each
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TO_DECIDE = 0.5  # minutes, whatever the length
CHARACTERS_A_MINUTE = 1200.0  # 240 words, silent reading of non-fiction (Brysbaert, 2019)
ENOUGH = 30  # timed answers from which people's own pace replaces the assumed one


def effort(lengths: Sequence[int], timed: Sequence[tuple[int, float]], overlap: int) -> np.ndarray:
    """Minutes of all who answer an interaction together, (n,), from its length in characters.

    `timed`: (length, minutes) of answers that were given; their median pace scales the estimate, because a mean would be
    that of those who went for lunch.
    """
    pace = 1.0
    if len(timed) >= ENOUGH:
        pace = float(np.median([minutes / _alone(length) for length, minutes in timed]))
    return np.array([_alone(n) for n in lengths], float) * pace * overlap


def _alone(length: int) -> float:
    return TO_DECIDE + length / CHARACTERS_A_MINUTE
