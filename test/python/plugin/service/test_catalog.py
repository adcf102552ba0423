"""What a run asks of the sidecar's catalog: once while a file stays as it is, and again when something may have changed."""

from __future__ import annotations

import os

import pytest
from refit_sidecar_plugin.client import Reply
from refit_sidecar_plugin.client.errors import SidecarRefused
from refit_sidecar_plugin.service.catalog import Catalog


class Link:
    """Answers `catalog.get` from a table, and counts."""

    def __init__(self, entries):
        self.entries, self.asked = entries, []

    def call(self, method, params=None, tensors=(), **_given):
        assert method == "catalog.get"
        self.asked.append(params)
        entry = self.entries.get(params.get("name") or params["sha256"])
        if entry is None:
            raise SidecarRefused("CATALOG_ENTRY_UNKNOWN", "not there")
        return Reply({"entry": {"id": "e", "family": "sdxl", "problem": None, "sha256": None, **entry}}, {})


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"x")
    return str(file)


@pytest.fixture
def link():
    return Link({"a.safetensors": {"id": "one"}, "s": {}})


@pytest.fixture
def catalog(link, tmp_path):
    made = Catalog(link)
    made.folders = {str(tmp_path): "f"}
    return made


def nothing() -> None: ...


def test_ids_families_and_contents_are_asked_for_once(catalog, link, path):
    for _ in range(3):
        assert catalog.id_of(path, nothing) == "one" and catalog.family(path, nothing) == "sdxl" and catalog.knows_content("s", nothing)
    assert len(link.asked) == 3


def test_a_file_that_changed_is_asked_for_again(catalog, link, path):
    assert catalog.id_of(path, nothing) == "one" and catalog.family(path, nothing) == "sdxl"
    link.entries["a.safetensors"] = {"id": "two", "family": "flux"}
    with open(path, "wb") as file:
        file.write(b"another")
    os.utime(path, ns=(1, 1))
    assert catalog.id_of(path, nothing) == "two" and catalog.family(path, nothing) == "flux"


def test_everything_is_asked_again_after_a_reconnection(catalog, link, path):
    assert catalog.id_of(path, nothing) == "one" and catalog.family(path, nothing) == "sdxl" and catalog.knows_content("s", nothing)
    link.entries = {"a.safetensors": {"id": "two", "family": "sd15"}}
    catalog.forget()
    assert catalog.id_of(path, nothing) == "two" and catalog.family(path, nothing) == "sd15" and not catalog.knows_content("s", nothing)


def test_what_is_not_known_yet_is_asked_for_every_time(catalog, link, path):
    link.entries = {"a.safetensors": {"family": None}}
    assert catalog.family(path, nothing) is None and not catalog.knows_content("s", nothing)
    link.entries = {"a.safetensors": {"family": "sdxl"}, "s": {}}
    assert catalog.family(path, nothing) == "sdxl" and catalog.knows_content("s", nothing)
