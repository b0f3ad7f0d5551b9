"""What the server's answers and its silence mean, the same for both senders."""

from __future__ import annotations

import logging
from typing import Any

from sessionsweep.errors import (
    OutcomeUnknownError,
    RecordUnreadableError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)

log = logging.getLogger(__name__)


def is_no_script(error: Exception) -> bool:
    """The server lost its script cache (a restart): loading the script and sending again is always safe."""
    return str(error).startswith("NOSCRIPT")


def refused(error: Exception) -> StoreError:
    """The server answered with an error: the call did not happen."""
    text = str(error)
    if "OOM" in text or "maxmemory" in text:
        return StoreFullError(f"the store is at its memory limit and takes nothing new: {text}")
    # WRONGTYPE: something else stands where a record stood
    if text.startswith(("FORMAT ", "DAMAGED ", "WRONGTYPE ")):
        return RecordUnreadableError(f"the store can't read it: {text.partition(' ')[2]}")
    if text.startswith("MISCONF "):
        return StoreUnavailableError(
            "the store's server can't write to its disk, and takes no writes until it can: make room on the disk of "
            f"its data folder, and it goes on by itself ({text.partition(' ')[2]})"
        )
    return StoreUnavailableError(f"the store refused: {text}")


def unreachable(error: Exception) -> StoreUnavailableError:
    """Nothing was sent."""
    return StoreUnavailableError(f"the store can't be reached: {str(error) or type(error).__name__}")


def closed() -> StoreUnavailableError:
    """`close` was called: nothing is sent any more."""
    return StoreUnavailableError("the store was closed in this process; make a new Sessions")


def cut(error: Exception) -> OutcomeUnknownError:
    """It was sent and no answer came."""
    return OutcomeUnknownError(f"the connection to the store was cut before it answered: {error}")


def location(message: Any) -> str:
    """What a message on a nudge's channel names; "" at the end of a wait. Anybody may publish, so it may be no text."""
    return message["data"].decode("utf-8", "replace") if message else ""


def warn_deaf(error: Exception) -> None:
    """This user may not subscribe (ACL): said once, for nothing is lost but time."""
    log.warning("this user hears no nudges, so what is due waits for the next look: %s", error)
