"""Step tensors that lie in a client's segment: frames that name them, the folder that they must lie in, and the memory that they are read into."""

import io
import os
from pathlib import Path

import pytest
import torch
from refit_host.checked.tensor_frame import PlacedTensor
from refit_host.failure import HostFailure
from refit_host.host.step_memory import GRAIN_BYTES, StepMemory
from refit_host.host.tensors import to_wire
from refit_host.wire import segments
from refit_host.wire.frames import WireTensor, encode_frame, read_frame
from refit_host.wire.protocol import CHECKS
from refit_host.wire.segments import SUPPORTED, SegmentFolder

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="this system opens no files relative to a folder: hosts offer no segments here")
GOLDEN = Path(__file__).resolve().parents[4] / "protocol/golden"
MESSAGE = {"jsonrpc": "2.0", "id": 1, "method": "step", "params": {"segments": ["s"]}}


def framed(*tensors, placed=()):
    return io.BytesIO(b"".join(bytes(part) for part in encode_frame(MESSAGE, "params", tensors, placed)))


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "segments"
    path.mkdir(mode=0o700)
    return path


def put(path, *values, gap=64):
    """Writes tensors side by side, each on a multiple of 64; returns where they are."""
    placed, data = [], bytearray(gap)
    for index, value in enumerate(values):
        wire = to_wire(f"t{index}", value)
        placed.append(PlacedTensor(wire.name, wire.dtype, wire.shape, 0, len(data)))
        data += bytes(wire.data) + bytes(-len(wire.data) % 64)
    path.write_bytes(data)
    return placed


def refused(memory, placed, names, code):
    with pytest.raises(HostFailure) as failure:
        params = {"engine": "e", "generation": 1, "segments": names}
        CHECKS["step"](params, "step")
        memory.inputs(placed, params)
    assert failure.value.code == code
    assert "/" not in failure.value.message


def test_both_golden_frames_are_read_and_written_as_the_other_side_does():
    sample = WireTensor("sample", "f32", (2, 3), memoryview(bytes(range(1, 25))))
    cases = [
        ("step-request.rft", {"engine": "é"}, [sample, WireTensor("timestep", "i64", (1,), memoryview(b"\x09" * 8))], []),
        (
            "step-in-segment.rft",
            {"engine": "é", "segments": ["a-segment_1"]},
            [sample],
            [PlacedTensor("mid_residual", "f16", (2, 3), 0, 640)],
        ),
    ]
    for name, params, tensors, placed in cases:
        golden = (GOLDEN / name).read_bytes()
        assert b"".join(bytes(part) for part in encode_frame({**MESSAGE, "params": params}, "params", tensors, placed)) == golden
        message, found = read_frame(io.BytesIO(golden))
        assert message["params"]["engine"] == "é" and found == [*placed, *tensors]


def test_a_frame_carries_placed_tensors_beside_others():
    sample = to_wire("sample", torch.arange(6.0))
    place = PlacedTensor("mid_residual", "f16", (2, 3), 0, 640)
    message, tensors = read_frame(framed(sample, placed=[place]))
    assert message["params"]["tensors"][0] == {
        "name": "mid_residual",
        "dtype": "f16",
        "shape": [2, 3],
        "offset": 640,
        "bytes": 12,
        "segment": 0,
    }
    assert tensors[0] == place and bytes(tensors[1].data) == bytes(sample.data)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("offset", 3),
        ("segment", -1),
        ("segment", "0"),
        ("segment", True),
        ("segment", None),
        ("bytes", 13),
        ("name", "sample"),
        ("shape", [1 << 60]),
    ],
)
def test_a_placed_tensor_that_cannot_be_right_is_a_malformed_frame(what, change):
    sample = to_wire("sample", torch.arange(6.0))
    row = {"name": "r", "dtype": "f16", "shape": [2, 3], "offset": 640, "bytes": 12, "segment": 0, what: change}
    inner = encode_frame({**MESSAGE, "params": {}}, "params", [sample])
    rows = [row, {"name": "sample", "dtype": "f32", "shape": [6], "offset": 0, "bytes": 24}]
    whole = encode_frame({**MESSAGE, "params": {"tensors": rows}}, None, [])
    prefix = bytearray(whole[0])
    prefix[6:8], prefix[16:24] = (2).to_bytes(2, "little"), (24).to_bytes(8, "little")
    frame = bytes(prefix) + b"".join(bytes(part) for part in whole[1:]) + bytes(inner[-1])
    with pytest.raises(HostFailure) as failure:
        read_frame(io.BytesIO(frame))
    assert failure.value.code == "HOST_MALFORMED_FRAME"


def test_placed_tensors_arrive_bit_for_bit_in_memory_that_is_used_again(folder, monkeypatch):
    monkeypatch.setattr(segments, "PIECE_BYTES", 1000)
    memory = StepMemory(torch.device("cpu"))
    assert memory.use(str(folder))
    addresses = set()
    for seed in range(3):
        torch.manual_seed(seed)
        values = [
            torch.randn(3, 700),
            torch.randn(5).half(),
            torch.randn(2, 9).bfloat16(),
            torch.empty(0, 4),
            torch.tensor(2.5),
            torch.arange(7),
        ]
        frame = framed(to_wire("timestep", torch.tensor([seed])), placed=put(folder / "s", *values))
        inputs = memory.inputs(read_frame(frame)[1], {"segments": ["s"]})
        assert list(inputs["timestep"]) == [seed]
        for index, value in enumerate(values):
            assert inputs[f"t{index}"].dtype == value.dtype and torch.equal(inputs[f"t{index}"], value)
        addresses.add(inputs["t0"].data_ptr())
    assert len(addresses) == 1
    memory.release()
    assert torch.equal(memory.inputs(put(folder / "s", values[0]), {"segments": ["s"]})["t0"], values[0])


def test_memory_grows_with_what_is_wanted_and_large_steps_keep_none(folder, monkeypatch):
    memory = StepMemory(torch.device("cpu"))
    memory.use(str(folder))
    for count in (10, GRAIN_BYTES // 4 + 1):
        value = torch.arange(float(count))
        assert torch.equal(memory.inputs(put(folder / "s", value), {"segments": ["s"]})["t0"], value)
    assert memory._kept.numel() == 2 * GRAIN_BYTES
    monkeypatch.setattr("refit_host.host.step_memory.KEEP_BYTES", 100)
    value = torch.ones(GRAIN_BYTES)
    assert torch.equal(memory.inputs(put(folder / "s", value), {"segments": ["s"]})["t0"], value)
    assert memory._kept.numel() == 2 * GRAIN_BYTES


def test_memory_is_pinned_for_the_device_and_plain_where_the_driver_refuses(folder, monkeypatch):
    asked = []

    def arena(nbytes, device):
        asked.append((nbytes, device))
        raise HostFailure("HOST_OUT_OF_MEMORY", "the driver refused to pin host memory; use base: file")

    monkeypatch.setattr("refit_host.host.step_memory.host_arena", arena)
    memory = StepMemory(torch.device("cuda", 1))
    memory.use(str(folder))
    value = torch.arange(50.0)
    for _ in range(2):
        assert torch.equal(memory.inputs(put(folder / "s", value), {"segments": ["s"]})["t0"], value)
    assert asked == [(GRAIN_BYTES, torch.device("cuda", 1))]


def test_only_plain_files_of_the_folder_are_read(folder, tmp_path):
    memory = StepMemory(torch.device("cpu"))
    placed = put(folder / "s", torch.arange(100.0))
    refused(memory, placed, ["s"], "HOST_SEGMENT_REFUSED")
    memory.use(str(folder))
    put(tmp_path / "outside", torch.arange(100.0))
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "own-link").symlink_to(folder / "s")
    (folder / "inner").mkdir()
    os.mkfifo(folder / "pipe")
    for name in ("link", "own-link", "inner", "pipe", "missing"):
        refused(memory, placed, [name], "HOST_SEGMENT_REFUSED")
    for names in (["../outside"], [str(tmp_path / "outside")], ["."], [""], [7], ["s\0"], ["s\n"], ["s"] * 9, "s"):
        refused(memory, placed, names, "HOST_INVALID_PARAMS")
    refused(memory, placed, [], "HOST_SEGMENT_REFUSED")
    refused(memory, [PlacedTensor("t", "f32", (4,), 1, 0)], ["s"], "HOST_SEGMENT_REFUSED")
    assert list(memory.inputs(placed, {"segments": ["s"]})["t0"][:3]) == [0, 1, 2]


def test_a_range_beyond_the_end_is_short_before_memory_is_taken(folder):
    memory = StepMemory(torch.device("cpu"))
    memory.use(str(folder))
    put(folder / "s", torch.arange(100.0))
    for shape, offset in (((113,), 64), ((100,), 128), ((1 << 30,), 0), ((4,), 1 << 50)):
        refused(memory, [PlacedTensor("t", "f32", shape, 0, offset)], ["s"], "HOST_SEGMENT_SHORT")
    assert memory._kept is None
    os.truncate(folder / "s", 1 << 40)
    refused(memory, [PlacedTensor(f"t{index}", "f32", (1 << 30,), 0, 0) for index in range(3)], ["s"], "HOST_SEGMENT_REFUSED")


def test_a_file_cut_while_it_is_read_is_short(folder, monkeypatch):
    memory = StepMemory(torch.device("cpu"))
    memory.use(str(folder))
    placed = put(folder / "s", torch.arange(10_000.0))
    whole = os.preadv

    def cut(file, buffers, offset):
        os.truncate(folder / "s", 2000)
        return whole(file, buffers, offset)

    monkeypatch.setattr(os, "preadv", cut)
    refused(memory, placed, ["s"], "HOST_SEGMENT_SHORT")


def test_no_descriptor_stays_open(folder):
    memory = StepMemory(torch.device("cpu"))
    memory.use(str(folder))
    placed = put(folder / "s", torch.arange(100.0))
    memory.inputs(placed, {"segments": ["s"]})
    before = os.dup(0)
    os.close(before)
    for _ in range(20):
        memory.inputs(placed, {"segments": ["s"]})
        refused(memory, [PlacedTensor("t", "f32", (4000,), 0, 0)], ["s"], "HOST_SEGMENT_SHORT")
    after = os.dup(0)
    os.close(after)
    assert after == before


def test_a_folder_that_is_not_this_users_alone_is_not_used(folder, tmp_path):
    assert SegmentFolder.open(str(tmp_path / "nowhere")) is None
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert SegmentFolder.open(str(link)) is None
    folder.chmod(0o750)
    assert SegmentFolder.open(str(folder)) is None
    folder.chmod(0o700)
    SegmentFolder.open(str(folder)).close()
