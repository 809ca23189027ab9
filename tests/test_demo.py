"""The main job: `graphc demo` on the digits in the package."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

import graphc as g
from graphc import demo
from graphc.demo.data import load
from graphc.demo.network import build


def accuracy_in(text: str) -> float:
    found = re.search(r"accuracy on the held-out digits: ([\d.]+)%", text)
    assert found, text
    return float(found[1])


def test_the_digits_are_whole_and_split_once() -> None:
    train, held_out = load()
    assert train.images.shape == (1438, 64) and held_out.images.shape == (359, 64)
    images = np.concatenate([train.images, held_out.images])
    labels = np.concatenate([train.labels, held_out.labels])
    assert images.dtype == np.float32 and images.min() == 0.0 and images.max() == 1.0
    assert np.array_equal(np.bincount(labels), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
    pairs = {(image.tobytes(), label) for image, label in zip(images, labels, strict=True)}
    assert len(pairs) == 1797  # no digit is in both parts
    again, _ = load()
    assert np.array_equal(train.images, again.images)


def test_the_digits_carry_their_attribution() -> None:
    text = Path(demo.__file__).with_name("ORIGIN.md").read_text(encoding="utf-8")
    assert "CC BY 4.0" in text and "Alpaydin" in text and "Kaynak" in text


def test_demo_learns_and_writes_what_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main(["--out", str(tmp_path / "new" / "folder")]) == 0
    text = capsys.readouterr().out
    assert accuracy_in(text) >= 96.0
    assert text.count("epoch ") == 20 and "\x1b" not in text
    written = [Path(line.split(": ")[0][6:]) for line in text.splitlines() if line[:6] == "wrote "]
    assert {path.name for path in written} >= {"digits.html", "digits.dot", "digits.zip"}
    assert all(path.stat().st_size > 0 for path in written)
    dot = (tmp_path / "new/folder/digits.dot").read_text(encoding="utf-8")
    assert all(scope in dot for scope in ("hidden", "classes", "adam", "images"))


def test_demo_gives_the_same_figures_every_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = []
    for seed in ("3", "3", "4"):
        assert demo.main(["--epochs", "2", "--seed", seed, "--out", str(tmp_path)]) == 0
        text = capsys.readouterr().out
        lines.append([line for line in text.splitlines() if line.startswith("epoch")])
    assert lines[0] == lines[1] != lines[2]


def test_the_saved_weights_are_those_of_the_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main(["--epochs", "3", "--out", str(tmp_path)]) == 0
    printed = accuracy_in(capsys.readouterr().out)
    with zipfile.ZipFile(tmp_path / "digits.zip") as archive:
        names = {row["name"] for row in json.loads(archive.read("index.json"))["variables"]}
    assert {"hidden/weights", "classes/bias", "adam/step", "hidden/bias/adam/m"} <= names
    network, (_, held_out) = build(0.1), load()
    with g.Session() as session:
        session.restore(tmp_path / "digits.zip")
        feeds = {network.images: held_out.images, network.labels: held_out.labels}
        assert round(100 * float(session.run(network.accuracy, feeds)), 2) == printed


def test_demo_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--device", "abacus", "--out", str(tmp_path)]) == 1
    assert "abacus" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert demo.main(["--out", str(tmp_path / "file" / "below")]) == 1
    assert "graphc demo: " in capsys.readouterr().err
    with pytest.raises(SystemExit):
        demo.main(["--epochs", "0"])
    assert "must be at least 1" in capsys.readouterr().err
