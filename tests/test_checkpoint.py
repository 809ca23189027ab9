"""Saving and restoring: whole files or none, no code, clear words about what differs."""

import json
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphc as g
from graphc.runtime import checkpoint


def variables():
    with g.name_scope("layer"):
        w = g.Variable(g.random.normal([3, 2]), name="w")
        b = g.Variable(np.zeros(2, np.float32), name="b")
    return w, b


def test_round_trip_in_a_new_session(tmp_path):
    w, b = variables()
    with g.Session(seed=1) as s:
        value, _ = s.run([w, b])
        s.save(tmp_path / "model.zip")
    with g.Session(seed=2) as s:
        s.restore(tmp_path / "model.zip")
        assert np.array_equal(s.get(w), value)


def test_numpy_alone_reads_the_file(tmp_path):
    w, b = variables()
    with g.Session(seed=1) as s:
        value, _ = s.run([w, b])
        s.save(tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        index = json.loads(archive.read("index.json"))
        assert [row["name"] for row in index["variables"]] == ["layer/w", "layer/b"]
        with archive.open(index["variables"][0]["file"]) as file:
            assert np.array_equal(np.load(file, allow_pickle=False), value)


def test_every_dtype_and_shape_survives(tmp_path):
    dtypes = ["bool", "int8", "uint64", "float16", "float32", "float64"]
    values = [np.ones(s).astype(d) for d in dtypes for s in ((), (0,), (2, 3))]
    held = [g.Variable(v) for v in values]
    with g.Session() as s:
        s.run(held)
        s.save(tmp_path / "all.zip")
    with g.Session() as s:
        s.restore(tmp_path / "all.zip", variables=held)
        for variable, value in zip(held, values, strict=True):
            got = s.get(variable)
            assert got.dtype == value.dtype and np.array_equal(got, value)


def test_a_mismatch_lists_missing_extra_and_near_names(tmp_path):
    with g.Session() as s:
        s.save(tmp_path / "a.zip", [g.Variable(1.0, name="weights"), g.Variable(2.0, name="old")])
        wanted = [g.Variable(0.0, name="weight"), g.Variable(0.0, name="new")]
        with pytest.raises(g.FeedError) as error:
            s.restore(tmp_path / "a.zip", variables=wanted)
        text = str(error.value)
        assert "missing in the file: weight (near: weights)" in text
        assert "missing in the file: new" in text and "only in the file: old" in text
        both = [g.Variable(0.0, name="weights"), g.Variable(7.0, name="new")]
        s.restore(tmp_path / "a.zip", strict=False, variables=both)
        assert [float(v) for v in s.run(both)] == [1, 7]


def test_a_variable_met_after_restore_must_be_in_the_file(tmp_path):
    with g.Session() as s:
        s.save(tmp_path / "a.zip", [g.Variable(1.0, name="weights")])
    with g.Session() as s:
        s.restore(tmp_path / "a.zip")
        with pytest.raises(g.FeedError, match=r"missing in the file: weigths \(near: weights\)"):
            s.run(g.Variable(0.0, name="weigths"))
    with g.Session() as s:
        s.restore(tmp_path / "a.zip")
        with pytest.raises(g.ShapeError, match="weights"):
            s.run(g.Variable([0.0, 0.0], name="weights"))


def test_a_crash_while_saving_leaves_the_old_file(tmp_path, monkeypatch):
    v = g.Variable(np.ones(4), name="v")
    path = tmp_path / "model.zip"
    with g.Session() as s:
        s.run(v)
        s.save(path)
        before = path.read_bytes()

        def crash(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(checkpoint.json, "dumps", crash)
        with pytest.raises(KeyboardInterrupt):
            s.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.zip"]


def good_file(folder):
    path = folder / "good.zip"
    if not path.exists():
        with g.Session() as s:
            s.save(path, [g.Variable(np.arange(6.0), name="v")])
    return path


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files_are_clean_errors(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    raw = bytearray(good_file(folder).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw
    path = folder / "damaged.zip"
    path.write_bytes(raw)
    try:
        arrays = checkpoint.read(path)
    except g.FeedError:
        return
    assert all(isinstance(a, np.ndarray) for a in arrays.values())


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


def test_files_with_code_are_refused(tmp_path, capsys):
    path = tmp_path / "evil.zip"
    row = {"name": "v", "file": "v.npy", "dtype": "object", "shape": [1]}
    with zipfile.ZipFile(path, "w") as archive:
        index = {"format": checkpoint.FORMAT, "version": 1, "variables": [row]}
        archive.writestr("index.json", json.dumps(index))
        header = b"\x93NUMPY\x01\x00F\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
        archive.writestr("v.npy", header.ljust(80) + pickle.dumps([Evil()]))
    with g.Session() as s, pytest.raises(g.FeedError, match="no whole graphc file"):
        s.restore(path)
    assert "code ran" not in capsys.readouterr().out


def test_a_missing_file_is_pythons_own_error(tmp_path):
    with g.Session() as s, pytest.raises(FileNotFoundError):
        s.restore(tmp_path / "none.zip")
