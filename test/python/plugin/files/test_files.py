"""Headers and identities of files, hostile ones included."""

import hashlib
import json
import os

import pytest
from refit_sidecar_plugin.checked.whole_file import replace_file
from refit_sidecar_plugin.files import HeaderError, Identities, identity, read_header, read_tensor, stamp


def write(path, header: object, payload: bytes = b"", length: int | None = None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + payload)
    return str(path)


def entry(dtype="F16", shape=(2,), begin=0, end=4):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def test_read_header_gives_shapes_and_file_ranges(tmp_path):
    path = write(tmp_path / "a", {"__metadata__": {"k": "v"}, "t": entry()}, b"\1\2\3\4")
    header = read_header(path)
    assert header.metadata == {"k": "v"} and header.entries["t"].shape == (2,)
    assert read_tensor(path, header.entries["t"]) == b"\1\2\3\4"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "at least 8 bytes"),
        (b"\x80\x02}q\x00.", "at least 8 bytes"),
        (b"\xff" * 8 + b"{}", "above the container"),
        ((100).to_bytes(8, "little") + b"{}", "cut short"),
        ((2).to_bytes(8, "little") + b"[]", "starts with"),
        ((2).to_bytes(8, "little") + b"\xff\xff", "starts with"),
    ],
)
def test_read_header_refuses_what_is_no_safetensors_file(tmp_path, content, says):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(HeaderError, match=says):
        read_header(str(tmp_path / "a"))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"shape": [2]}, "expected the fields"),
        (entry(shape=(3,)), "needs 12 bytes|needs 6 bytes"),
        (entry(begin=4, end=0), "backwards"),
        (entry(end=400), "needs 4 bytes"),
        (entry(shape=(-2,)), "unsigned"),
        (entry(shape=(2.0,)), "whole numbers"),
        (entry(shape=(1 << 40, 1 << 40)), "overflows"),
    ],
)
def test_read_header_refuses_tensors_that_lie(tmp_path, wrong, says):
    with pytest.raises(HeaderError, match=says):
        read_header(write(tmp_path / "a", {"t": wrong}, b"\0" * 4))


def test_identities_hash_once_until_the_file_changes(tmp_path):
    path, identities = tmp_path / "a", Identities()
    path.write_bytes(b"one")
    assert identities.sha256(str(path)) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"other")
    assert identities.sha256(str(path)) == hashlib.sha256(b"other").hexdigest()
    replacement = tmp_path / "b"
    replacement.write_bytes(b"third")
    os.replace(replacement, path)
    assert identities.sha256(str(path)) == hashlib.sha256(b"third").hexdigest()


def test_identities_and_stamp_of_a_missing_file_are_none(tmp_path):
    assert Identities().sha256(str(tmp_path / "none")) is None and stamp(str(tmp_path / "none")) is None


def test_identities_give_none_for_a_file_that_grows_while_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"x" * 10)
    real = stamp
    calls = []

    def growing(name):
        calls.append(name)
        if len(calls) == 2:
            path.write_bytes(b"x" * 20)
        return real(name)

    monkeypatch.setattr("refit_sidecar_plugin.files.identity.stamp", growing)
    assert Identities().sha256(str(path)) is None


def test_identities_are_kept_over_starts_and_never_believed_for_another_file(tmp_path, monkeypatch):
    kept, path = tmp_path / "data" / "identities.json", tmp_path / "a.safetensors"
    path.write_bytes(b"one")
    first = Identities(kept).sha256(str(path))
    hashed = []
    monkeypatch.setattr(
        Identities, "_hashed", lambda self, path, before, real=Identities._hashed: hashed.append(path) or real(self, path, before)
    )
    assert Identities(kept).sha256(str(path)) == first and hashed == []
    path.write_bytes(b"two")
    assert Identities(kept).sha256(str(path)) not in (None, first) and hashed == [str(path)]


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"a": 1}', '{"a": [1, 2, 3, "x"]}', '{"a": ["1", 2, 3, "' + "0" * 64 + '"]}', '{"a": [1, 2, 3, 4]}']
)
def test_a_damaged_memory_of_identities_is_none(tmp_path, content):
    kept, path = tmp_path / "identities.json", tmp_path / "a.safetensors"
    path.write_bytes(b"one")
    line = f"{identity.FORMAT} {hashlib.sha256(content.encode()).hexdigest()}"
    for text in (content, f"{line}\n{content}"):
        kept.write_text(text, "utf-8")
        assert Identities(kept).sha256(str(path)) == Identities().sha256(str(path))


def test_a_kept_identity_with_one_digit_changed_is_not_believed(tmp_path):
    kept, path = tmp_path / "identities.json", tmp_path / "a.safetensors"
    path.write_bytes(b"one")
    known = Identities(kept).sha256(str(path))
    assert known is not None
    kept.write_text(kept.read_text("utf-8").replace(known, known[:-1] + ("0" if known[-1] != "0" else "1")), "utf-8")
    assert Identities(kept).sha256(str(path)) == known


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "kept"
    replace_file(path, b"one", 0o600)
    assert path.read_bytes() == b"one" and (os.name == "nt" or path.stat().st_mode & 0o777 == 0o600)

    def fails(file):
        file.write(b"tw")
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        replace_file(path, fails)
    assert path.read_bytes() == b"one" and os.listdir(tmp_path) == ["kept"]
    replace_file(path, lambda file: file.write(b"two"))
    assert path.read_bytes() == b"two" and os.listdir(tmp_path) == ["kept"]
