"""For your own tests: a deployment in one process whose time the test moves, crashes at every step, and proof of order.

With pytest, in `conftest.py`:

    pytest_plugins = ["sessionsweep.testing.fixtures"]

and in a test:

    def test_an_upload_leaves_nothing_behind(deployment):
        app = make_app(deployment.sessions)
        for crash in deployment.crashes():  # dies before its first step, then before its second, and so on
            with crash:
                upload(app)
        deployment.assert_nothing_left_behind()
"""

from __future__ import annotations

from sessionsweep.testing.crashes import Crash, CrashedError
from sessionsweep.testing.deployment import Deployment

__all__ = ["Crash", "CrashedError", "Deployment"]
