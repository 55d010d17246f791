"""Files of every kind hold the same samples; what is wrong with one is one line.

Covers: dd/samples/arrays.py, dd/samples/frames.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from dd.components.dataset import Pool
from dd.data.file import File
from dd.errors import ConfigError
from dd.problems.pools import pool_of
from dd.runs.settings import Settings
from tests.helpers import run_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 3))
NUMBERS = np.arange(30) % 3
NAMES = np.array(["cat", "dog", "emu"])[NUMBERS]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def frame(y: np.ndarray = NUMBERS, x: np.ndarray = X) -> pd.DataFrame:
    return pd.DataFrame(x, columns=["a", "b", "c"]).assign(y=y)


def pool(*options: str) -> Pool:
    return pool_of(run_of("data=file", "optimizer=min_norm", *options), Settings())


def npy(folder: str, **arrays: np.ndarray) -> None:
    Path(folder).mkdir()
    for name, array in arrays.items():
        np.save(f"{folder}/{name}.npy", array)


def tables(folder: str, **parts: pd.DataFrame) -> None:
    Path(folder).mkdir()
    for name, part in parts.items():
        part.to_csv(f"{folder}/{name}.csv", index=False)


WRITERS: dict[str, tuple[Callable[[np.ndarray], object], list[str]]] = {
    "npz": (lambda y: np.savez("f.npz", x=X, y=y), ["data.path=f.npz"]),
    "npz of keras": (lambda y: np.savez("f.npz", x_train=X, y_train=y), ["data.path=f.npz"]),
    "npz in capitals": (lambda y: np.savez("f.npz", X=X, Y=y, other=X), ["data.path=f.npz"]),
    "npy": (lambda y: (np.save("a.npy", X), np.save("b.npy", y)), ["data.path=a.npy", "data.labels=b.npy"]),
    "npy in a folder": (lambda y: npy("f", x=X, y=y), ["data.path=f"]),
    "csv": (lambda y: frame(y).to_csv("f.csv", index=False), ["data.path=f.csv", "data.target=y"]),
    "csv with an index": (lambda y: frame(y).to_csv("f.csv"), ["data.path=f.csv", "data.target=y"]),
    "csv with semicolons": (
        lambda y: frame(y).to_csv("f.csv", index=False, sep=";"), ["data.path=f.csv", "data.target=y"]
    ),
    "csv of a spreadsheet": (
        lambda y: frame(y).to_csv("f.csv", index=False, encoding="utf-8-sig"), ["data.path=f.csv", "data.target=y"]
    ),
    "csv.gz": (lambda y: frame(y).to_csv("f.csv.gz", index=False), ["data.path=f.csv.gz", "data.target=y"]),
    "tsv": (lambda y: frame(y).to_csv("f.tsv", index=False, sep="\t"), ["data.path=f.tsv", "data.target=y"]),
    "parquet": (lambda y: frame(y).to_parquet("f.parquet"), ["data.path=f.parquet", "data.target=[y]"]),
    "a table in a folder": (lambda y: tables("f", train=frame(y)), ["data.path=f", "data.target=y"]),
}  # fmt: skip
OF_TORCH: dict[str, object] = {
    "dictionary": {"x": torch.from_numpy(X), "y": torch.from_numpy(NUMBERS)},
    "tuple": (torch.from_numpy(X), torch.from_numpy(NUMBERS)),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_holds_the_same_samples(kind: str) -> None:
    write, options = WRITERS[kind]
    for y, names in ((NUMBERS, ()), (NAMES, ("cat", "dog", "emu"))):
        for old in Path().glob("f*"):
            if old.is_file():
                old.unlink()
            else:
                old.rename(old.with_name("old"))
        write(y)
        found = pool(*options)
        np.testing.assert_array_equal(found.x, X)
        assert found.y.tolist() == NUMBERS.tolist()
        assert found.test_x is None
        assert found.names == names


@pytest.mark.parametrize("kind", OF_TORCH)
def test_files_of_torch(kind: str) -> None:
    torch.save(OF_TORCH[kind], "f.pt")
    assert pool("data.path=f.pt").sha256 == Pool(X, NUMBERS, None, None, "").sha256


def test_a_test_part_comes_from_every_format_that_has_one() -> None:
    np.savez("f.npz", x=X, y=NAMES, x_test=X[:7] + 1, y_test=NAMES[:7])
    npy("arrays", x_train=X, y_train=NAMES, x_test=X[:7] + 1, y_test=NAMES[:7])
    tables("tables", train=frame(NAMES), test=frame(NAMES, X + 1)[:7][["y", "c", "a", "b"]])
    found = [pool(f"data.path={path}", *more) for path, more in
             (("f.npz", []), ("arrays", []), ("tables", ["data.target=y"]))]  # fmt: skip
    assert len({one.sha256 for one in found}) == 1
    assert found[0].test_x is not None
    np.testing.assert_array_equal(found[0].test_x, X[:7] + 1)
    run = run_of("data=file", "data.path=f.npz", "optimizer=min_norm")
    assert (run.n_train, run.n_test, run.outputs) == (30, 7, 3)


def write_images(folder: Path, images: np.ndarray) -> None:
    """One folder a class, two classes in turns; the tenth class sorts behind the second."""
    for i, image in enumerate(images):
        place = folder / ("2", "10")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{i:02d}.png")


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3)])
def test_images_in_class_folders_are_arrays_of_bytes(shape: tuple[int, ...], tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (12, *shape), dtype=np.uint8)
    write_images(tmp_path / "plain", images)
    write_images(tmp_path / "parts/train", images)
    write_images(tmp_path / "parts/test", images[:4])
    order = [*range(1, 12, 2), *range(0, 12, 2)]
    channels_first = images[:, None] if len(shape) == 2 else images.transpose(0, 3, 1, 2)
    found = pool("data.path=plain", "data.n_train=6")
    assert found.x.dtype == np.uint8
    np.testing.assert_array_equal(found.x, channels_first[order].reshape(12, -1))
    assert found.y.tolist() == [1] * 6 + [0] * 6
    assert found.names == ("2", "10")
    assert found.scale == 1 / 255
    np.savez("same.npz", x=images[order], y=np.array([2, 10])[found.y])
    assert pool("data.path=same.npz", "data.n_train=6").sha256 == found.sha256
    run = run_of("data=file", "data.path=parts", "model=two_layer", "batch_size=full")
    assert (run.n_train, run.n_test, run.data.image) == (12, 4, (1 if len(shape) == 2 else 3, 6, 5))


def test_several_columns_are_several_outputs() -> None:
    frame().to_csv("f.csv", index=False)
    for target in ("data.target=c,a", "data.target=[c,a]", "data.target='c,a'"):
        found = pool("data.path=f.csv", target)
        np.testing.assert_array_equal(found.x, frame()[["b", "y"]])
        np.testing.assert_array_equal(found.y, frame()[["c", "a"]])


def bad_npz(**arrays: object) -> Callable[[], object]:
    return lambda: np.savez("f.npz", **arrays)  # type: ignore[arg-type]


def bad_csv(text: str | bytes) -> Callable[[], object]:
    return lambda: Path("f.csv").write_bytes(text if isinstance(text, bytes) else text.encode())


NPZ, CSV = ("data.path=f.npz",), ("data.path=f.csv", "data.target=y")
WRONG: list[tuple[Callable[[], object], tuple[str, ...], str]] = [
    (lambda: None, (), r"^data.path=null.*data=file needs data.path=<file or folder>"),
    (lambda: None, NPZ, r"^data.path=f.npz: no such file or folder, .*looked for /"),
    (lambda: Path("f.npz").write_bytes(b"PK"), NPZ, r"is no .npz file"),
    (bad_npz(a=X), NPZ, r"must hold x and y, and may hold x_test and y_test; it holds a$"),
    (bad_npz(x=X, y=NAMES.astype(object)), NPZ, r"array y holds Python objects; .*astype"),
    (bad_npz(x=np.where(X > 1, np.nan, X), y=NUMBERS), NPZ, r"x=nan or inf: must be finite"),
    (bad_npz(x=X, y=np.full(30, np.inf)), NPZ, r"y=nan or inf: must be finite"),
    (bad_npz(x=X, y=NUMBERS[:9]), NPZ, r"x=30 samples: must have as many as its targets, 9"),
    (bad_npz(x=X[:0], y=NUMBERS[:0]), NPZ, r"x=0x3: must hold samples"),
    (bad_npz(x=X[:, 0], y=NUMBERS), NPZ, r"x=30: must be \[samples, inputs\]"),
    (bad_npz(x=X * 1j, y=NUMBERS), NPZ, r"x=ndarray of complex128: must be real"),
    (bad_npz(x=X.astype(str), y=NUMBERS), NPZ, r"x=ndarray of <U\d+: must be a tensor or an array of numbers"),
    (bad_npz(x=X, y=np.uint64(2**63) + NUMBERS.astype(np.uint64)), NPZ, r"beyond 2\*\*63"),
    (bad_npz(x=X, y=np.zeros(30, int)), NPZ, r"y=0: is the only class"),
    (bad_npz(x=X, y=np.arange(30) + 25), NPZ, r"integers of 30 values in 30 samples: classes or real targets\?"),
    (bad_npz(x=X, y=np.eye(3, dtype=int)[NUMBERS]), NPZ, r"argmax\(axis=1\)"),
    (bad_npz(x=X, y=NUMBERS / 2), (*NPZ, "data.task=classification"), r"y=0.5: classes are whole numbers or text"),
    (bad_npz(x=X, y=NAMES), (*NPZ, "data.task=regression"), r"y=cat: regression needs numbers"),
    (bad_npz(x=X, y=NUMBERS, x_test=X[:, :2], y_test=NUMBERS), NPZ, r"x_test=2 of float64: must have inputs as x, 3"),
    (bad_npz(x=X, y=NUMBERS, x_test=X), NPZ, r"y_test=null: is missing, but there is x_test"),
    (bad_npz(x=X, y=NUMBERS, x_test=X, y_test=NAMES), NPZ, r"y_test=integers and text: targets must be of one kind"),
    (bad_npz(x=X, y=X, x_test=X, y_test=X[:, :2]), NPZ, r"y_test=2: must have as many outputs as y, 3"),
    (bad_npz(x=X, y=NUMBERS), (*NPZ, "data.target=y"), r"^data.target=y: is for tables"),
    (bad_npz(x=X, y=NUMBERS), (*NPZ, "data.labels=f.npz"), r"^data.labels=f.npz: is for data.path=<one .npy file>"),
    (lambda: np.save("f.npy", X), ("data.path=f.npy",), r"holds one array: add data.labels=<y.npy>, or"),
    (lambda: np.save("f.npy", X), ("data.path=f.npy", "data.labels=g.npy"), r"^data.labels=g.npy: no such file"),
    (bad_csv("a,y\n1,2\n"), CSV[:1], r"^data.target=null.*which column of f.csv is the target\? it has a, y"),
    (bad_csv("a,b\n1,2\n"), CSV, r"^data.target=y: f.csv has no such column; it has a, b"),
    (bad_csv("y,z\n1,2\n"), (CSV[0], "data.target=y,z"), r"leaves no inputs"),
    (bad_csv("a,y\n1,2\n"), (CSV[0], "data.target=y,y"), r"names a column twice"),
    (bad_csv("a,y\n1,0\n,1\n,0\n"), CSV, r"column a has 2 missing values, the first in row 2: fill them"),
    (bad_csv("a,y\n1,0\n2,\n"), CSV, r"column y has 1 missing values"),
    (bad_csv("a,s,y\n1,red,0\n2,blue,1\n"), CSV, r"column s holds text \('red'\); encode it as numbers"),
    (bad_csv("a,y\ninf,0\n2,1\n"), CSV, r"x=nan or inf"),
    (bad_csv(""), CSV, r"is empty; its first line names the columns"),
    (bad_csv("a,y\n"), CSV, r"has no rows"),
    (bad_csv("1,2\n3,4\n"), CSV, r"its first line holds numbers; the first line names the columns"),
    (bad_csv("a,y\n1,2,3\n1,2\n1,2,3,4\n"), CSV, r"cannot be read \(ParserError"),
    (bad_csv(b"a,y\n\xff\xfe,1\n"), CSV, r"cannot be read \(UnicodeDecodeError"),
    (lambda: tables("f", train=frame(), test=frame().drop(columns="b")), ("data.path=f", "data.target=y"),
     r"data.path=f/test.csv: must have the columns of train.csv: b is in train.csv alone"),
    (lambda: torch.save(torch.nn.Linear(1, 1), "f.pt"), ("data.path=f.pt",), r"must be a dictionary or tuple of"),
    (lambda: torch.save(torch.zeros(3), "f.pt"), ("data.path=f.pt",), r"it is a Tensor$"),
    (lambda: Path("f.xls").touch(), ("data.path=f.xls",), r"must be one of \.npz, .*, or a folder"),
    (lambda: Path("f").mkdir(), ("data.path=f",), r"must hold x.npy and y.npy, train.csv or "),
    (lambda: Path("f").mkdir(), ("data.path=f", "data.target=y"), r"^data.target=y: is for tables; f holds"),
    (lambda: write_images(Path("f"), np.zeros((4, 6, 5), np.uint16)), ("data.path=f",), r"more than 8 bits a pixel"),
    (lambda: (write_images(Path("f"), np.zeros((4, 6, 5), np.uint8)),
              Image.fromarray(np.zeros((6, 7), np.uint8)).save("f/2/z.png")), ("data.path=f",),
     r"data.path=f/2/z.png: is 7x6 pixels, \d\d.png 5x6; resize them"),
    (lambda: (Path("f/cat").mkdir(parents=True), Path("f/cat/a.png").write_text("no image")), ("data.path=f",),
     r"cannot be read \(UnidentifiedImageError"),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(WRONG)))
def test_what_cannot_be_read_is_one_line(case: int) -> None:
    write, options, line = WRONG[case]
    write()
    with pytest.raises(ConfigError, match=line) as caught:
        run_of("data=file", "optimizer=min_norm", *options)
    assert "\n" not in str(caught.value)


def test_a_set_without_a_file_is_no_set_of_images() -> None:
    assert File().image is None
    np.savez("f.npz", x=X, y=NUMBERS)
    with pytest.raises(ConfigError, match=r"model=rmt needs images: use one of .*images of your own"):
        run_of("data=file", "data.path=f.npz", "model=rmt", "width=2", "batch_size=full")
