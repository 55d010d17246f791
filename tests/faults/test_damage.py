"""Damaged parts: a clean line that names the part and the command that mends it, or exactly the right values."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.tables import UnreadableTable, load_curves, load_predictions, load_runs
from dd.errors import StoreError
from dd.results import Store, parts
from tests.faults.scenarios import append

LONG = os.environ.get("DD_FAULTS") == "long"
EXAMPLES = 2000 if LONG else 60


@cache
def part(kind: str, sealed: bool) -> bytes:
    """A part of a table of three runs; without its seal, as another writer's with page checksums."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder, "t")
        store.open()
        append(store, ["a", "b", "c"], 0.37, outputs=True)
        file = next(store.folder.joinpath(kind).glob("*.parquet"))
        if not sealed:
            pq.write_table(pq.read_table(file), file, write_page_checksum=True)
        return file.read_bytes()


def check(kind: str, name: str, data: bytes, whole: bytes) -> None:
    """Read the part by dd and by the analysis: the values, or a line."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder, "t")
        for each in ("runs", "curves", "predictions"):
            (store.folder / each).mkdir(parents=True)
            (store.folder / each / "a-b-c.parquet").write_bytes(data if each == kind else part(each, True))
        file = f"{kind}/{name}"

        def told(error: Exception) -> None:
            text = str(error)
            assert file in text
            assert "python -m dd.results repair t" in text
            assert "\n" not in text

        try:
            read = store.read() if kind == "runs" else None
        except StoreError as error:
            told(error)
        else:
            assert read is None or read.equals(good(folder, whole).read())
        try:
            store.open()
            store.check()
        except StoreError as error:
            told(error)
        loaders = {"runs": load_runs, "curves": load_curves, "predictions": load_predictions}
        try:
            frame = loaders[kind](Path(folder), "t")
        except UnreadableTable as error:
            told(error)
        else:
            wanted = loaders[kind](Path(good(folder, whole, kind).folder.parent), "t")
            assert str(frame.to_dict()) == str(wanted.to_dict())


def good(folder: str, whole: bytes, kind: str = "runs") -> Store:
    """The same table, undamaged."""
    store = Store(Path(folder) / "good", "t")
    for each in ("runs", "curves", "predictions"):
        (store.folder / each).mkdir(parents=True, exist_ok=True)
        (store.folder / each / "a-b-c.parquet").write_bytes(whole if each == kind else part(each, True))
    return store


FUZZED = settings(
    max_examples=EXAMPLES // 3, deadline=None, database=None, derandomize=not LONG,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


@st.composite
def damages(draw: st.DrawFn, data: bytes) -> bytes:
    """A part with a byte flipped, cut short, with bytes put in, or with a range zeroed or taken out."""
    how = draw(st.sampled_from(["flip", "cut", "insert", "zero", "remove", "garbage"]))
    at = draw(st.integers(0, len(data) - 1))
    size = draw(st.integers(1, 64))
    if how == "flip":
        return data[:at] + bytes([data[at] ^ draw(st.integers(1, 255))]) + data[at + 1 :]
    if how == "cut":
        return data[:at]
    if how == "insert":
        return data[:at] + draw(st.binary(min_size=1, max_size=64)) + data[at:]
    if how == "zero":
        return data[:at] + bytes(len(data[at : at + size])) + data[at + size :]
    if how == "remove":
        return data[:at] + data[at + size :]
    return draw(st.binary(max_size=200))


@pytest.mark.parametrize("kind", ["runs", "curves", "predictions"])
def test_any_damage(kind: str) -> None:
    whole = part(kind, True)

    @FUZZED
    @given(damages(whole))
    def damaged(data: bytes) -> None:
        check(kind, "a-b-c.parquet", data, whole)

    damaged()


@pytest.mark.parametrize("kind", ["runs", "curves", "predictions"])
def test_any_flipped_byte_is_found_by_every_reader_of_ours(kind: str, tmp_path: Path) -> None:
    """Of 389 flips in an unsealed part, 21 gave silently another value."""
    whole = part(kind, True)
    file = tmp_path / "t" / kind / "a-b-c.parquet"
    file.parent.mkdir(parents=True)
    file.write_bytes(whole)
    wanted = parts.read(file)
    step = 1 if LONG else max(1, len(whole) // 150)
    told = silent = 0
    for at in range(0, len(whole), step):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        for entire in (True, False):
            try:
                read = parts.read(file, whole=entire)
            except StoreError as error:
                text = str(error)
                assert "a-b-c.parquet is not a readable parquet file" in text
                told += 1
            else:
                assert read.equals(wanted), f"byte {at} of {len(whole)}: another value, silently"
                silent += 1
    assert told > 20 * silent, "what is not told is a byte of the seal, or of what this way of reading leaves out"


@pytest.mark.parametrize("kind", ["runs", "curves"])
def test_a_part_of_another_writer_is_a_line_or_a_table(kind: str) -> None:
    """Its footer has no checksum: values may differ, but nothing else than a line comes out."""
    whole = part(kind, False)

    @FUZZED
    @given(damages(whole))
    def damaged(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "t" / kind / "a-b-c.parquet"
            file.parent.mkdir(parents=True)
            file.write_bytes(data)
            try:
                if kind == "runs":
                    Store(folder, "t").read().to_pylist()
                load_runs(Path(folder), "t") if kind == "runs" else load_curves(Path(folder), "t")
            except (StoreError, UnreadableTable) as error:
                text = str(error)
                assert "a-b-c.parquet" in text
                assert "\n" not in text

    damaged()
