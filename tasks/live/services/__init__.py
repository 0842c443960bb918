"""The processes of `flywheel up`: what they are (table), who keeps them alive (supervisor), what is known of them (known)."""

from tasks.live.services.known import Known, Running, addresses, alive, prefect_url, read
from tasks.live.services.supervisor import down, supervise

__all__ = ["Known", "Running", "addresses", "alive", "down", "prefect_url", "read", "supervise"]
