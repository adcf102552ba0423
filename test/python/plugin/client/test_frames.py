import json
import struct
from pathlib import Path

import pytest
from refit_sidecar_plugin.client.errors import SidecarError
from refit_sidecar_plugin.client.frames import Tensor, buffer_of, decode_frame, encode_frame, load

GOLDEN = Path(__file__).resolve().parents[3] / "protocol/golden/step-request.rft"
SAMPLE = Tensor("sample", "f32", (2, 3), bytes(range(1, 25)))
TIMESTEP = Tensor("timestep", "i64", (1,), b"\x09" * 8)


def reply(rows, payload=b"", count=None, header=None, **prefix):
    """A frame with any header and payload."""
    text = header if header is not None else json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tensors": rows}}).encode()
    count = len(rows) if count is None else count
    fields = {"magic": b"RFT1", "version": 1, "reserved": 0, "count": count, "size": len(text), "reserved2": 0, "declared": len(payload)}
    head = struct.pack("<4sBBHIIQ40x", *{**fields, **prefix}.values())
    return head + text + bytes(-len(text) % 64) + payload


def row(name="a", dtype="u8", shape=(4,), offset=0, size=4, **more):
    return {"name": name, "dtype": dtype, "shape": list(shape), "offset": offset, "bytes": size, **more}


def test_encode_frame_equals_the_golden_frame_of_the_other_side():
    message = {"jsonrpc": "2.0", "id": 1, "method": "step", "params": {"engine": "é"}}
    assert bytes(encode_frame(message, [SAMPLE, TIMESTEP])) == GOLDEN.read_bytes()


def test_decode_frame_reads_tensors_of_a_result_as_views():
    rows = [row("a", "u8", (3,), 0, 3), row("b", "f16", (1, 2), 64, 4)]
    message, tensors = decode_frame(reply(rows, b"abc" + bytes(61) + b"wxyz"))
    assert message["id"] == 1
    assert [(tensor.name, tensor.dtype, tensor.shape, bytes(tensor.data)) for tensor in tensors] == [
        ("a", "u8", (3,), b"abc"),
        ("b", "f16", (1, 2), b"wxyz"),
    ]


def test_decode_frame_leaves_tensors_of_a_segment_to_the_session():
    message, tensors = decode_frame(reply([row(segment=1, offset=6400)]))
    assert tensors == [] and message["result"]["tensors"][0]["segment"] == 1


def test_scalars_and_empty_tensors_travel():
    frame = encode_frame({"params": {}}, [Tensor("alpha", "f32", (), bytes(4)), Tensor("none", "f16", (0, 3), b"")])
    assert struct.unpack_from("<H", frame, 6)[0] == 2


@pytest.mark.parametrize(
    ("what", "frame"),
    [
        ("nothing", b""),
        ("a cut prefix", reply([])[:63]),
        ("another magic", reply([], magic=b"RFT2")),
        ("another version", reply([], version=2)),
        ("a reserved byte", reply([], reserved=1)),
        ("a reserved word", reply([], reserved2=1)),
        ("a cut payload", reply([row()], b"abcd")[:-1]),
        ("a byte too many", reply([row()], b"abcd") + b"x"),
        ("a payload of 2^63", reply([], declared=1 << 63)),
        ("a header of 4 GiB", reply([], size=0xFFFFFFFF)),
        ("no JSON", reply([], header=b"{")),
        ("a list", reply([], header=b"[]")),
        ("100,000 levels", reply([], header=b"[" * 100_000)),
        ("bytes that are not UTF-8", reply([], header=b'{"a":"\xff"}')),
        ("a count without rows", reply([], count=1)),
        ("rows without a count", reply([row()], b"abcd", count=0)),
        ("payload without rows", reply([], b"abcd")),
        ("two tensors on the same bytes", reply([row("a"), row("b")], b"abcd")),
        ("a tensor outside", reply([row(shape=(400,), size=400)], b"abcd")),
        ("a gap", reply([row("a"), row("b", offset=128)], bytes(132))),
        ("an unaligned offset", reply([row(offset=1)], b"abcde")),
        ("a negative offset", reply([row(offset=-64)], b"abcd")),
        ("a size that is not the shape's", reply([row(size=3)], b"abc")),
        ("a product beyond 2^53", reply([row(shape=(2**40, 2**40), size=2**80)])),
        ("a shape of booleans", reply([row(shape=(True,), size=1)], b"a")),
        ("a shape of text", reply([row(shape=("4",))], b"abcd")),
        ("nine dimensions", reply([row(shape=(1,) * 8 + (4,))], b"abcd")),
        ("an unknown dtype", reply([row(dtype="f64")], b"abcd")),
        ("a dtype that is a list", reply([row(dtype=["u8"])], b"abcd")),
        ("no name", reply([row(name="")], b"abcd")),
        ("a name twice", reply([row(), row(offset=64)], bytes(68))),
        ("a row that is a number", reply([7], b"")),
        ("a segment that is text", reply([row(segment="1")])),
    ],
)
def test_decode_frame_refuses(what, frame):
    with pytest.raises(SidecarError) as caught:
        decode_frame(frame)
    assert caught.value.code == "CLIENT_PROTOCOL"


def test_load_takes_objects_only():
    assert load('{"a": 1}') == {"a": 1}
    for text in ("", "[]", "null", "NaN"):
        with pytest.raises(SidecarError):
            load(text)


def test_buffer_of_takes_any_contiguous_buffer_and_nothing_else():
    numpy = pytest.importorskip("numpy")
    values = numpy.arange(6, dtype=numpy.float32).reshape(2, 3)
    assert bytes(buffer_of(Tensor("a", "f32", (2, 3), values))) == values.tobytes()
    with pytest.raises(ValueError, match="not contiguous"):
        buffer_of(Tensor("a", "f32", (3, 2), values.T))
    with pytest.raises(ValueError, match="24 bytes are not f32"):
        buffer_of(Tensor("a", "f32", (7,), values))


def test_encode_frame_refuses_a_tensor_that_is_not_its_shape():
    with pytest.raises(ValueError, match="sample"):
        encode_frame({"params": {}}, [Tensor("sample", "f32", (7,), bytes(24))])
