"""Holds the list of ARCHITECTURE.md against the layers that `lint-imports` checks: imports point upwards in it only."""

from __future__ import annotations

import re
import tomllib

from pages import ROOT


def test_the_list_has_the_order_of_the_layers() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["id"] == "layers"]
    height = {module: -place for place, layer in enumerate(layers) for module in re.findall(r"\w+", layer)}
    rows = re.findall(r"^\| (`sessionsweep\..+?) \|", (ROOT / "ARCHITECTURE.md").read_text(), re.M)
    reached = min(height.values())
    for row in rows:
        here = [height[module] for module in re.findall(r"`sessionsweep\.(\w+)`", row)]
        assert min(here) >= reached, f"{row} imports what stands below it in the list"
        reached = max(here)
    assert reached == max(height.values()), "the list reaches the top"
