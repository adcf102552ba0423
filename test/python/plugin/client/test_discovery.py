import json
import os
import sys
from pathlib import Path

import pytest
from refit_sidecar_plugin.client import SidecarUnavailable, default_data_dir, read_discovery

GOOD = {"url": "http://127.0.0.1:1", "ws_url": "ws://127.0.0.1:1/ws", "token": "secret", "read_token": "r", "pid": 1, "version": "1"}
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no file modes")


def write(folder: Path, content) -> Path:
    path = folder / "sidecar.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    path.chmod(0o600)
    return path


def code_of(folder: Path) -> str:
    with pytest.raises(SidecarUnavailable) as caught:
        read_discovery(folder)
    assert str(folder) not in str(caught.value)
    return caught.value.code


def test_read_discovery_reads_what_the_sidecar_wrote(tmp_path):
    write(tmp_path, GOOD)
    address = read_discovery(tmp_path)
    assert (address.ws_url, address.token, address.pid) == ("ws://127.0.0.1:1/ws", "secret", 1)
    assert "secret" not in repr(address)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "7", {**GOOD, "token": 7}, {**GOOD, "pid": True}, {"ws_url": "ws://127.0.0.1:1/ws"}, " " * 70_000 + "{}"]
)
def test_read_discovery_takes_a_broken_file_for_no_sidecar(tmp_path, content):
    write(tmp_path, content)
    assert code_of(tmp_path) == "CLIENT_NOT_RUNNING"


def test_read_discovery_says_when_there_is_none(tmp_path):
    assert code_of(tmp_path) == "CLIENT_NOT_RUNNING"
    (tmp_path / "sidecar.json").mkdir()
    assert code_of(tmp_path) == "CLIENT_NOT_RUNNING"


@posix_only
def test_read_discovery_refuses_a_file_that_others_can_read(tmp_path):
    write(tmp_path, GOOD).chmod(0o644)
    assert code_of(tmp_path) == "CLIENT_DISCOVERY_UNSAFE"


@posix_only
def test_read_discovery_does_not_wait_for_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "sidecar.json", 0o600)
    assert code_of(tmp_path) == "CLIENT_NOT_RUNNING"


def test_default_data_dir_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("REFIT_DATA_DIR", str(tmp_path))
    assert default_data_dir() == tmp_path
    monkeypatch.delenv("REFIT_DATA_DIR")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_data_dir() == tmp_path / "refit-sidecar"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert default_data_dir() == tmp_path / "local" / "refit-sidecar"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert default_data_dir().parts[-3:] == ("Library", "Application Support", "refit-sidecar")
