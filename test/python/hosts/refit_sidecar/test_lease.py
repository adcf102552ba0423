"""Folders of modules whose engine is a running sidecar's."""

import pytest
from refit_sidecar import lease

pytest.importorskip("fcntl", reason="Windows has no lock that goes with a process")


def test_a_killed_processs_folder_goes_and_a_living_ones_stays(tmp_path):
    mine, killed, new = (tmp_path / f"module-{name}" for name in ("mine", "killed", "new"))
    for folder in (mine, killed, new):
        folder.mkdir()
        (folder / "weights.safetensors").write_bytes(b"x")
    held = lease._held(mine)
    lease._held(killed).close()  # as the system does for a process that ends
    lease._sweep(tmp_path)
    # One that is just being made has no mark yet.
    assert sorted(place.name for place in tmp_path.iterdir()) == ["module-mine", "module-new"]
    held.close()
    lease._sweep(tmp_path)
    assert [place.name for place in tmp_path.iterdir()] == ["module-new"]
