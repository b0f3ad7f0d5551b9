"""What every framework's request session tells of the session it stands for, and how it says that there is none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from sessionsweep.errors import InvalidTokenError, ResourceNotFoundError
from sessionsweep.sessions.view import SessionView

S = TypeVar("S", bound=SessionView)


class RequestView(ABC, Generic[S]):
    """The client's session, if it has one. True where it has."""

    @property
    @abstractmethod
    def session(self) -> S | None:
        """The session itself; None for a client without a live one."""

    def __bool__(self) -> bool:
        return self.session is not None

    @property
    def id(self) -> str | None:
        """The public id, safe in logs; None without a session."""
        return None if self.session is None else self.session.id

    @property
    def user(self) -> str | None:
        """Who logged in; None for nobody."""
        return None if self.session is None else self.session.user

    @property
    def expires_in(self) -> float | None:
        """Seconds left after this request; None without a session."""
        return None if self.session is None else self.session.expires_in

    @property
    def resource_count(self) -> int:
        """Files that it owns."""
        return 0 if self.session is None else self.session.resource_count

    @property
    def bytes_used(self) -> int:
        """Bytes of its files."""
        return 0 if self.session is None else self.session.bytes_used

    def existing(self) -> S:
        """The session. Raises InvalidTokenError where there is none (401; a WebSocket is refused)."""
        if self.session is None:
            raise InvalidTokenError
        return self.session

    def _owner(self, resource_id: str) -> S:
        """The session that may own a resource. Raises ResourceNotFoundError: a stranger learns no more than that."""
        if self.session is None:
            raise ResourceNotFoundError(resource_id)
        return self.session
