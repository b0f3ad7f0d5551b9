"""From redis-py's errors to ours: what a failed call means, the same for both senders."""

from __future__ import annotations

from redis import exceptions as driver

from sessionsweep.errors import OutcomeUnknownError, StoreError, StoreFullError, StoreUnavailableError


def is_no_script(error: Exception) -> bool:
    """The server lost its script cache (a restart): loading the script and sending again is always safe."""
    return isinstance(error, driver.NoScriptError) or str(error).startswith("NOSCRIPT")


def refused(error: Exception) -> StoreError:
    """The server answered with an error: the call did not happen."""
    text = str(error)
    if "OOM" in text or "maxmemory" in text:
        return StoreFullError(f"the store is at its memory limit and takes nothing new: {text}")
    return StoreUnavailableError(f"the store refused: {text}")


def unreachable(error: Exception) -> StoreUnavailableError:
    """Nothing was sent."""
    return StoreUnavailableError(f"the store can't be reached: {error}")


def cut(error: Exception) -> OutcomeUnknownError:
    """It was sent and no answer came."""
    return OutcomeUnknownError(f"the connection to the store was cut before it answered: {error}")
