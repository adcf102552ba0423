"""Blocks that clients share: who gets one, which tensors lie in it, and how a GPU's are made (with a driver that notes what it is asked)."""

import base64
import hashlib
import os
import sys

import pytest
import torch
from refit_host.checked.tensor_frame import PlacedTensor
from refit_host.failure import HostFailure
from refit_host.host.options import parse_options
from refit_host.shared import cuda, medium
from refit_host.shared.memfd import Memfd, SealedBlock
from refit_host.shared.memory import MAX_BYTES, SharedMemory

MIB = 1 << 20


class Block:
    def __init__(self, nbytes):
        self.memory, self.handle, self.released = torch.zeros(nbytes, dtype=torch.uint8), b"handle", False

    def release(self):
        self.released = True


class Simulated:
    """A device with so much memory."""

    name, device = "cuda-ipc", "ab" * 16

    def __init__(self, room=64 * MIB):
        self.room, self.blocks, self.settled = room, [], 0

    def allocate(self, nbytes):
        if nbytes > self.room:
            raise RuntimeError("cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY (2)")
        self.blocks.append(Block(nbytes))
        return self.blocks[-1]

    def settle(self):
        self.settled += 1


def wish(**changes):
    return {"medium": "cuda-ipc", "device": "ab" * 16, "bytes": 3 * MIB, **changes}


def code_of(action):
    with pytest.raises(HostFailure) as failure:
        action()
    return failure.value.code, failure.value.message


def test_a_client_gets_whole_grains_that_begin_with_what_proves_them():
    shared = SharedMemory(Simulated())
    row = shared.share(wish())
    block = shared.medium.blocks[0]
    assert row["bytes"] == shared.nbytes == 4 * MIB and base64.b64decode(row["handle"]) == b"handle"
    assert hashlib.sha256(bytes(block.memory[:32].tolist())).hexdigest() == row["proof"]
    assert not block.memory[32:].any() and shared.is_name(row["name"]) and not shared.is_name("a-file")
    assert row["name"] != shared.share(wish())["name"] and shared.offer() == {"shares": {"medium": "cuda-ipc", "device": "ab" * 16}}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"medium": "memfd"}, "another kind of device"),
        ({"device": "cd" * 16}, "another device"),
        ({"bytes": 100 * MIB}, "CUDA_ERROR_OUT_OF_MEMORY"),
        ({"bytes": MAX_BYTES + 1}, "may share 1024"),
    ],
)
def test_whoever_gets_none_is_told_why(changes, reason):
    shared = SharedMemory(Simulated())
    code, message = code_of(lambda: shared.share(wish(**changes)))
    assert code == "HOST_SHARE_REFUSED" and reason in message and shared.nbytes == 0


def test_all_clients_together_have_a_gigabyte_and_what_is_given_back_counts_no_more():
    shared = SharedMemory(Simulated(MAX_BYTES))
    shared.medium.allocate = lambda nbytes: Block(2 * MIB) if nbytes else None
    names = [shared.share(wish(bytes=2 * MIB))["name"] for _ in range(MAX_BYTES // (2 * MIB))]
    assert code_of(lambda: shared.share(wish(bytes=1)))[0] == "HOST_SHARE_REFUSED"
    assert shared.unshare(names[0]) == 2 * MIB and shared.unshare(names[0]) == 0
    assert shared.share(wish(bytes=1))["bytes"] == 2 * MIB


def test_a_tensor_lies_inside_its_block_or_is_refused():
    shared = SharedMemory(Simulated())
    name = shared.share(wish())["name"]
    value = torch.arange(6, dtype=torch.float16).reshape(2, 3)
    shared.medium.blocks[0].memory[64:76].view(torch.float16).copy_(value.reshape(-1))
    placed = PlacedTensor("sample", "f16", (2, 3), 0, 64)
    assert torch.equal(shared.tensor(name, placed), value)
    for offset in (4 * MIB - 8, 4 * MIB, 65):
        assert (
            code_of(lambda offset=offset: shared.tensor(name, PlacedTensor("sample", "f16", (2, 3), 0, offset)))[0] == "HOST_SEGMENT_SHORT"
        )
    assert code_of(lambda: shared.tensor("shared-none", placed))[0] == "HOST_SEGMENT_STALE"
    shared.unshare(name)
    assert code_of(lambda: shared.tensor(name, placed))[0] == "HOST_SEGMENT_STALE"
    assert code_of(lambda: shared.check_reply({"segment": name, "offset": 0, "bytes": 64}))[0] == "HOST_SEGMENT_STALE"


def test_outputs_are_left_where_they_fit_and_travel_where_they_do_not():
    shared = SharedMemory(Simulated())
    name = shared.share(wish())["name"]
    outputs = {"a": torch.ones(3), "b": torch.full((2, 2), 2, dtype=torch.bfloat16)}
    rows, rest = shared.leave(outputs, {"segment": name, "offset": 128, "bytes": 128})
    assert rest == {} and [(row.name, row.dtype, row.shape, row.offset) for row in rows] == [
        ("a", "f32", (3,), 128),
        ("b", "bf16", (2, 2), 192),
    ]
    assert all(torch.equal(shared.tensor(name, row), outputs[row.name]) for row in rows)
    assert shared.leave(outputs, {"segment": name, "offset": 128, "bytes": 64}) == ([], outputs)
    assert shared.leave({"a": torch.ones(3, dtype=torch.float64)}, {"segment": name, "offset": 128, "bytes": 128})[0] == []
    assert shared.leave(outputs, None) == ([], outputs)


@pytest.mark.skipif(sys.platform != "linux", reason="a bell is a sealed file in memory, which is Linux's")
def test_the_bell_of_a_block_shows_the_number_that_the_step_named_to_whoever_has_it_open():
    shared = SharedMemory(Simulated())
    row = shared.share(wish())
    process, _, number = base64.b64decode(row["bell"]).decode().partition(":")
    path = f"/proc/{process}/fd/{number}"
    with open(path, "rb", buffering=0) as seen:
        for place, expected in (({"bell": 2**40 + 5}, 2**40 + 5), ({}, 2**40 + 5), ({"bell": 1}, 1)):
            shared.ring({"segment": row["name"], "offset": 0, "bytes": 64, **place})
            seen.seek(0)
            assert int.from_bytes(seen.read(8), "little") == expected
    shared.unshare(row["name"])
    assert not os.path.exists(path)
    shared.ring({"segment": row["name"], "bell": 2})


def test_nothing_is_offered_where_it_is_turned_off_or_the_computer_has_no_way(monkeypatch):
    assert parse_options([]).share and not parse_options(["--share", "off"]).share
    nothing = SharedMemory(None)
    assert nothing.offer() == {} and code_of(lambda: nothing.share(wish()))[0] == "HOST_SHARE_REFUSED"
    assert medium.medium_of("meta") is None
    monkeypatch.setattr(sys, "platform", "win32")
    assert medium.medium_of("cpu") is None and medium.medium_of("cuda:0") is None


@pytest.mark.skipif(sys.platform != "linux", reason="a sealed file in memory is Linux's")
def test_the_processor_s_memory_is_a_file_that_nobody_can_cut():
    found = Memfd.find()
    block = found.allocate(MIB)
    assert isinstance(block, SealedBlock) and not block.memory.any()
    process, _, number = block.handle.decode().partition(":")
    path = f"/proc/{process}/fd/{number}"
    with open(path, "r+b") as other:
        other.write(b"\x07" * 8)
    assert block.memory[:8].tolist() == [7] * 8
    for size in (0, 2 * MIB):
        with pytest.raises(PermissionError):
            os.truncate(path, size)
    view = block.memory[:8]
    block.release()
    # Whoever still looks at it does not fall.
    assert view.tolist() == [7] * 8 and not os.path.exists(path)


class NotingDriver:
    def __init__(self, refuse=None):
        self.calls, self.refuse = [], refuse

    def call(self, name, *arguments):
        self.calls.append((name, [getattr(argument, "value", None) for argument in arguments]))
        if name == "cuMemAlloc_v2":
            arguments[0]._obj.value = 0x7000000
        if name == "cuIpcGetMemHandle":
            arguments[0][:4] = b"hand"
        if name == self.refuse:
            raise cuda.DriverError(f"{name}: CUDA_ERROR_NOT_SUPPORTED (801)")


@pytest.fixture
def no_card(monkeypatch):
    monkeypatch.setattr(cuda, "_make_current", lambda ordinal: None)
    monkeypatch.setattr(cuda, "tensor_at", lambda pointer, nbytes, ordinal: torch.empty(nbytes, dtype=torch.uint8))


def test_a_gpu_s_block_is_an_allocation_of_its_own_in_whole_pages(no_card):
    driver = NotingDriver()
    made = cuda.CudaIpc.__new__(cuda.CudaIpc)
    made._driver, made._ordinal = driver, 0
    block = made.allocate(3 * MIB)
    assert [name for name, _ in driver.calls] == ["cuMemAlloc_v2", "cuMemsetD8_v2", "cuIpcGetMemHandle"]
    assert driver.calls[0][1][1] == driver.calls[1][1][2] == 4 * MIB and driver.calls[1][1][1] == 0
    assert len(block.handle) == 64 and block.handle.startswith(b"hand")
    block.release()
    assert driver.calls[-1] == ("cuMemFree_v2", [0x7000000])


def test_what_the_driver_refuses_is_given_back_and_told(no_card):
    driver = NotingDriver("cuIpcGetMemHandle")
    made = cuda.CudaIpc.__new__(cuda.CudaIpc)
    made._driver, made._ordinal, made.device = driver, 0, "ab" * 16
    code, message = code_of(lambda: SharedMemory(made).share(wish()))
    assert code == "HOST_SHARE_REFUSED" and "CUDA_ERROR_NOT_SUPPORTED" in message
    assert driver.calls[-1] == ("cuMemFree_v2", [0x7000000])
