"""Tables and settings of any name: one file and one anchor for each figure, and its own picture under each heading."""

from __future__ import annotations

import base64
import itertools
import re
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import figures, page
from analysis.names import KINDS, file_stem
from tests.analysis.synthetic import runs

TABLES = ["noise 0", "noise_0", "a", "a-label_noise=0.2", "The verdict"]


def test_each_heading_shows_its_own_picture(tmp_path: Path) -> None:
    for number, name in enumerate(TABLES):
        noises = {"label_noise": [0.0, 0.2]} if name == "a" else {}
        frame = runs((20, 50, 100), 1, **noises).drop(columns=["run_id"])
        frame["model"] = "two_layer"  # no theory is drawn beside it
        frame["test_loss"] *= 1 + number
        frame["run_id"] = [f"{number}-{i}" for i in range(len(frame))]
        folder = tmp_path / "results" / name / "runs"
        folder.mkdir(parents=True)
        frame.assign(name=name, n_features=frame["width"]).to_parquet(folder / "part.parquet")
    assert figures.main(["--results", str(tmp_path / "results"), "--out", str(tmp_path / "out"), "--jobs", "1"]) == 0
    drawn = {png.read_bytes(): png.name for png in (tmp_path / "out").glob("*.png")}
    assert len(drawn) == 2 * len(TABLES) + 1, "card and figure of each table, and a second one of the split table"
    assert len(list((tmp_path / "out").glob("*-peaks*.csv"))) == len(TABLES)
    text = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    links = [unquote(link) for link in re.findall(r'href="#([^"]*)"', text)]
    assert set(links) <= set(ids)
    files = [unquote(link) for link in re.findall(r'href="([^"#:]*)"', text)]
    assert {path for path in files if not (tmp_path / "out" / path).is_file()} == set()
    shown: dict[str, list[str]] = {}
    for part in text.split("<h3")[1:]:
        heading = re.match(r"[^>]*>([^<]*)</h3>", part)
        assert heading is not None
        card, *pictures = re.findall(r'base64,([^"]*)"', part.split("<h2")[0])
        shown[heading[1]] = [drawn[base64.b64decode(picture)] for picture in pictures]
        assert "-card" in drawn[base64.b64decode(card)]
    assert {name: shown[name] for name in TABLES} == {
        "noise 0": [file_stem("noise 0", {}) + ".png"],
        "noise_0": ["noise_0.png"],
        "a": ["a-label_noise=0.0.png", "a-label_noise=0.2.png"],
        "a-label_noise=0.2": [file_stem("a-label_noise=0.2", {}) + ".png"],
        "The verdict": [file_stem("The verdict", {}) + ".png"],
    }
    every = list(itertools.chain.from_iterable(shown.values()))
    assert len(every) == len(set(every))


@pytest.mark.parametrize(
    ("name", "values", "stem"),
    [
        ("default", {}, "default"),
        ("my-table", {}, "my-table"),
        ("t", {"optimizer": "sgd", "lr": 1e-05, "budgets": ""}, "t-optimizer=sgd-lr=1e-05-budgets"),
        ("t", {"label_noise": float("nan")}, "t"),
        ("1.10", {}, "1.10"),
    ],
)
def test_plain_names_stay_as_they_are(name: str, values: dict[str, object], stem: str) -> None:
    assert file_stem(name, values) == stem


names = st.text("ab-=_ ,.é", min_size=1, max_size=5) | st.sampled_from(
    [
        "a",
        "a-b",
        "a-map",
        "a-k=1",
        "a-k=1-map",
        "a_k=1",
        "summary",
        "steps",
        "x" * 300,
        "x" * 299 + "y",
        "a-decomposition",
    ]
)
splits = st.dictionaries(
    st.sampled_from(["k", "map_", "optimizer"]), st.sampled_from([1, 0.5, "1-map", "map", "", "a b", "a_b", "a-k=1"])
)


@given(st.lists(st.tuples(names, splits, st.sampled_from(["", *KINDS])), min_size=2, max_size=6))
def test_no_two_figures_share_a_file(figures: list[tuple[str, dict[str, object], str]]) -> None:
    stems: dict[str, object] = {"summary": None, "steps": None}
    for name, values, kind in figures:
        true = (name, tuple(values.items()), kind)
        stem = file_stem(name, values | ({kind: ""} if kind else {}))
        assert stems.setdefault(stem, true) == true
        assert len(stem.encode()) <= 200
        assert stem == re.sub(r"[^\w.=+~-]", "", stem)


def test_anchors_are_all_different() -> None:
    tables = ["a b", "a-b", "a-b-2", "The verdict", "", "é"]
    titles = page.anchors(["The verdict"])
    found = [*page.anchors(tables, titles.values()).values(), *titles.values()]
    assert len(set(found)) == len(tables) + 1
    assert pd.Series(found).str.fullmatch(r"[A-Za-z0-9_-]+").all()
