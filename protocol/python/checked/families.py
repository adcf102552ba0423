"""The descriptions of model families (docs/develop/adding-a-family.md), as the sidecar has them: a field that is not given is that of the family in `like`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Fields that are a description's own, whatever it is like.
OWN = ("like", "listed", "ran")


def read_families(package: Path, checkout: Path) -> Mapping[str, Mapping[str, Any]]:
    """Every description by its family's name, in list order. They lie in the folder `described` of an installed package; `checkout`: root of the repository."""
    folder = next((one for one in (package / "described", checkout / "protocol" / "families") if one.is_dir()), None)
    if folder is None:
        raise FileNotFoundError(
            f"the folder described with the families' descriptions is not in {package.name}: it was not copied whole. Install it with refit-sidecar."
        )
    given = {path.stem: json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")}

    def place(name: str) -> tuple[float, int, str]:
        return given[name].get("listed", float("inf")), given[name].get("checkpoint", {}).get("order", 0), name

    return {name: _whole(given[name], given) for name in sorted(given, key=place)}


def _whole(own: dict[str, Any], given: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    inherited = given[own["like"]] if "like" in own else {}
    return {key: value for key, value in {**inherited, **own}.items() if key not in OWN}
