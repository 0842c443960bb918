"""Privacy at the edge: identities become pseudonyms, credentials go, personal data in texts becomes typed surrogates.

    {"user_id": "kim", "response": "I wrote to kim@example.org"}
 -> {"user_id": "u_5c0e…", "response": "I wrote to [EMAIL_3fa91c]"}

The same value becomes the same surrogate everywhere in one conversation, and another one in the next. docs/privacy.md has what
is found, how well, and what is missed.
"""

from __future__ import annotations

from tasks.redact.document import Edge, conversation, targets
from tasks.redact.text import ROOMY, SCREEN, personal

__all__ = ["ROOMY", "SCREEN", "Edge", "conversation", "personal", "targets"]
