"""The corpus of malformed frames and headers against every Python reader: all refuse what the TypeScript and C++ readers refuse, by the same code."""

import base64
import io
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
for folder in ("sidecar/hosts/python", "plugin"):
    sys.path.insert(0, str(ROOT / folder))

from refit_graphs import errors as graph_errors  # noqa: E402
from refit_graphs import header as graph_header  # noqa: E402
from refit_host.checked.tensor_header import HeaderError as HostHeaderError  # noqa: E402
from refit_host.failure import HostFailure  # noqa: E402
from refit_host.files.safetensors_header import read_header as host_header  # noqa: E402
from refit_host.wire.frames import read_frame  # noqa: E402
from refit_sidecar_plugin.client.errors import SidecarError  # noqa: E402
from refit_sidecar_plugin.client.frames import decode_frame  # noqa: E402
from refit_sidecar_plugin.files.header import HeaderError, read_header  # noqa: E402


def corpus(name):
    rows = json.loads((ROOT / "test/corpus" / name).read_text(encoding="utf-8"))
    return [pytest.param(base64.b64decode(row["base64"]), row["code"], id=row["name"]) for row in rows]


@pytest.mark.parametrize(("data", "code"), corpus("frames.json"))
def test_frames_of_the_plugin(data, code):
    if code is None:
        decode_frame(data)
        return
    with pytest.raises(SidecarError) as caught:
        decode_frame(data)
    assert f"[{code}]" in str(caught.value)


@pytest.mark.parametrize(("data", "code"), corpus("frames.json"))
def test_frames_of_the_hosts(data, code):
    if code is None:
        assert read_frame(io.BytesIO(data)) is not None
        return
    if not data:
        assert read_frame(io.BytesIO(data)) is None, "a pipe that ends between two frames has ended well"
        return
    stream = io.BytesIO(data)
    with pytest.raises(HostFailure) as caught:
        # On a pipe a byte too many is the beginning of the next frame.
        while read_frame(stream) is not None:
            pass
    assert caught.value.code == "HOST_MALFORMED_FRAME"
    assert code == "FRAME_TRUNCATED" or caught.value.evidence["reason"] == code


# What a file is instead is named by the sidecar, which looks at its first bytes; other readers only have to refuse it.
NAMED_ELSEWHERE = {"PICKLE_REFUSED", "NOT_SAFETENSORS"}


@pytest.mark.parametrize(("data", "code"), corpus("headers.json"))
def test_headers(data, code, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    if code is None:
        rows = {name: (one.dtype, one.shape) for name, one in read_header(str(path)).entries.items()}
        assert rows == {name: (one.dtype, one.shape) for name, one in host_header(path).entries.items()}
        assert rows == {name: (one["dtype"], tuple(one["shape"])) for name, one in graph_header.read_header(path).items()}
        return
    with pytest.raises(HeaderError) as plugin:
        read_header(str(path))
    with pytest.raises(HostFailure) as host:
        host_header(path)
    with pytest.raises(graph_errors.HeaderError) as graphs:
        graph_header.read_header(path)
    assert f"[{plugin.value.code}]" in str(graphs.value)
    assert isinstance(host.value.__cause__, HostHeaderError)
    assert plugin.value.code == host.value.__cause__.code
    assert code in NAMED_ELSEWHERE or plugin.value.code == code
