"""The registry: which model is champion, which challenges it, who decided so, and what MLflow knows of all that.

Who is champion stands in a journal on this machine (journal.py), with the files beside it (files.py); so freezing, mining, serving
and rolling back need no server. MLflow is told of every training and mirrors the aliases (recording.py, mirror.py): at once where
it answers, with the next turn where it did not.
"""

from tasks.live.registry.environment import watched
from tasks.live.registry.mirror import settle
from tasks.live.registry.models import (
    ERASED,
    Registered,
    challenger,
    champion,
    forget_rows,
    is_recorded,
    mark,
    page,
    pending,
    record,
    trained,
    versions,
)
from tasks.live.registry.promotion import (
    Approval,
    Asked,
    Promoted,
    decline,
    history,
    open_question,
    promote,
    promotion_is_due,
    rollback,
    user,
)

__all__ = [
    "ERASED", "Approval", "Asked", "Promoted", "Registered", "challenger", "champion", "decline", "forget_rows", "history",
    "is_recorded", "mark", "open_question", "page", "pending", "promote", "promotion_is_due", "record", "rollback", "settle",
    "trained", "user", "versions", "watched",
]  # fmt: skip
