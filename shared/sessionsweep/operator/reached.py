"""A deployment as whoever operates it reaches it: its sessions, and what stands behind them."""

from __future__ import annotations

from typing import TypeVar

from sessionsweep.deployment import Core
from sessionsweep.sessions.sync import Sessions
from sessionsweep.settings import Settings
from sessionsweep.store.flow import Flow, run
from sessionsweep.store.protocol import Store

R = TypeVar("R")


class Deployment:
    """What a command, or a request to the admin side, works on."""

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions

    @property
    def settings(self) -> Settings:
        """Its settings."""
        return self.sessions.settings

    @property
    def core(self) -> Core:
        """Its settings in the store's units, and this node's volumes."""
        return self.sessions.core

    @property
    def store(self) -> Store:
        """Its store."""
        return self.sessions.store

    def run(self, flow: Flow[R]) -> R:
        """Drives a flow."""
        return run(flow, self.store)
