"""Files of data sets that are damaged, swapped, of other sizes or hostile: one line that names file, key and fix.

Covers: dd/data/_files.py, dd/data/_idx.py, dd/data/_pickled.py, dd/data/_bundled.py.
"""

from __future__ import annotations

import gzip
import io
import os
import pickle
import re
import struct
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dd.data import cifar10, fashion_mnist
from dd.data._download import locate
from dd.data._pickled import read_pickle
from dd.data.cifar10 import read_batch
from dd.errors import ConfigError, DataNotFoundError
from dd.runs.settings import Settings
from tests.data.files import BATCHES, IDX, archive, batch, cifar_members, idx, mnist_arrays, write_mnist
from tests.helpers import problem_of

SMALL = ("data.n_train=20", "data.n_test=10", "batch_size=10")
MB = 1_000_000


def refused(data: str, folder: Path, text: str, peak: int = 60 * MB) -> str:
    """The one line by which a folder's files are refused, in little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(DataNotFoundError, match=re.escape(text)) as caught:
            problem_of(f"data={data}", *SMALL, settings=Settings(data_root=str(folder)))
        assert tracemalloc.get_traced_memory()[1] < peak
    finally:
        tracemalloc.stop()
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"data={data}: ")
    assert "data.root=FOLDER" in line
    return line


def changed(**parts: np.ndarray) -> list[np.ndarray]:
    """The arrays of MNIST, some replaced: x, y, test_x, test_y."""
    return [parts.get(name, array) for name, array in zip(("x", "y", "tx", "ty"), mnist_arrays(), strict=True)]


X, Y, TX, TY = mnist_arrays()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("arrays", "file", "text"),
    [
        (changed(y=np.where(Y == 3, 17, Y)), 1, "label 17 of sample 3 is none of the classes 0 to 9"),
        (changed(ty=TY + 1), 3, "label 10 of sample 9"),
        (changed(y=Y[:-1]), 1, "holds 39 labels, but train-images-idx3-ubyte"),
        (changed(ty=TY[:7]), 3, "holds 7 labels"),
        (changed(tx=TX[:7]), 3, "holds 30 labels"),
        (changed(x=X[:, :27]), 0, "images are 27x28 pixels; data=mnist has 28x28"),
        (changed(tx=TX[:, :, :14]), 2, "images are 28x14 pixels"),
        (changed(x=X.reshape(40, 784)), 0, "holds [40, 784] where images [samples, 28, 28] belong"),
        (changed(x=Y, y=X), 0, "are files swapped?"),
        (changed(ty=TX), 3, "holds [30, 28, 28] where labels [samples] belong"),
        (changed(x=X[:0], y=Y[:0]), 0, "holds no samples"),
    ],
)
def test_idx_files_that_do_not_belong_together_are_named(
    arrays: list[np.ndarray], file: int, text: str, zipped: bool, tmp_path: Path
) -> None:
    line = refused("mnist", write_mnist(tmp_path / "a", arrays, zipped=zipped), text)
    assert str(tmp_path / "a" / IDX[file]) in line


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda c: c[: len(c) // 2], "damaged gzip file"),
        (lambda c: c[:-6], "damaged gzip file"),
        (lambda c: flipped(c, len(c) - 6), "damaged gzip file"),
        (lambda c: flipped(c, 1), "damaged gzip file"),
        (lambda c: flipped(c, len(c) // 2), "data=mnist"),
        (lambda c: c[:10] + b"\xff" * 50 + c[60:], "damaged gzip file"),
        (lambda c: b"", "not an IDX file"),
        (lambda c: b"<html>", "damaged gzip file"),
        (lambda c: c + b"junk", "damaged gzip file"),
        (lambda c: gzip.compress(gzip.decompress(c)[:-1]), "its header says"),
        (lambda c: gzip.compress(gzip.decompress(c) + b"x"), "holds more than"),
    ],
)
@pytest.mark.parametrize("file", range(4))
def test_damaged_gzip_files_are_named(file: int, damage: Callable[[bytes], bytes], text: str, tmp_path: Path) -> None:
    folder = write_mnist(tmp_path / "a", mnist_arrays())
    path = folder / f"{IDX[file]}.gz"
    path.write_bytes(damage(path.read_bytes()))
    assert str(path) in refused("mnist", folder, text)


def test_a_header_that_claims_gigabytes_takes_none(tmp_path: Path) -> None:
    folder = write_mnist(tmp_path / "a", mnist_arrays(), zipped=False)
    head = bytes([0, 0, 8, 3]) + (4_500_000).to_bytes(4, "big") + (28).to_bytes(4, "big") * 2
    (folder / IDX[0]).write_bytes(head + bytes(1000))
    refused("mnist", folder, "claims 3528000000 bytes of data", peak=10 * MB)
    # a claim that is allowed, and not kept
    head = bytes([0, 0, 8, 3]) + (40).to_bytes(4, "big") + (28).to_bytes(4, "big") * 2
    (folder / IDX[0]).write_bytes(head + bytes(1000))
    refused("mnist", folder, "holds 1000 bytes of data, its header says 31360", peak=10 * MB)


def bomb(size: int) -> bytes:
    """Gzipped zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(MB)) for _ in range(size // MB)) + packer.flush()


def test_a_small_file_that_decompresses_to_gigabytes_is_not_decompressed(tmp_path: Path) -> None:
    folder = write_mnist(tmp_path / "a", mnist_arrays())
    path = folder / f"{IDX[0]}.gz"
    path.write_bytes(gzip.compress(idx(X)) + bomb(100 * MB))
    assert path.stat().st_size < MB
    refused("mnist", folder, "holds more than", peak=20 * MB)


def test_folders_and_unreadable_files_in_place_of_files_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_mnist(tmp_path / "a", mnist_arrays(), zipped=False)
    (folder / IDX[1]).unlink()
    (folder / IDX[1]).mkdir()
    line = refused("mnist", folder, f"{folder} lacks {IDX[1]} ({IDX[1]}: a folder, not a file)")
    assert f"no folder {folder / 'mnist'}" in line
    (folder / IDX[1]).rmdir()
    write_mnist(folder, mnist_arrays(), zipped=False)
    original = Path.open

    def denied(self: Path, *arguments: object, **more: object) -> object:
        if self.name == IDX[2]:
            raise PermissionError(13, "Permission denied", str(self))
        return original(self, *arguments, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", denied)
    refused("mnist", folder, f"{folder / IDX[2]}: cannot be read (Permission denied)")


def test_files_not_found_says_which_are_missing_where(tmp_path: Path) -> None:
    folder = write_mnist(tmp_path / "a", mnist_arrays())
    (folder / f"{IDX[3]}.gz").unlink()
    (folder / f"{IDX[0]}.gz").unlink()
    with pytest.raises(DataNotFoundError) as caught:
        problem_of("data=mnist", *SMALL, settings=Settings(data_root=str(folder)))
    line = str(caught.value)
    assert f"{folder} lacks {IDX[0]}, {IDX[3]}; no folder {folder / 'mnist'}; no folder" in line
    assert "data.root=FOLDER" in line
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataNotFoundError, match=f"{empty} has none of them"):
        problem_of("data=mnist", *SMALL, settings=Settings(data_root=str(empty)))


def test_a_folder_that_cannot_be_searched_and_an_unknown_home_are_no_tracebacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", nowhere)
    monkeypatch.setattr(Path, "home", lambda: nowhere(Path()))
    monkeypatch.delenv("XDG_CACHE_HOME")
    for root in ("~nobody/x", "x" * 5000, "nul\0byte"):
        with pytest.raises(DataNotFoundError, match="no folder"):
            locate("mnist", IDX, root=root, system=(), allow_download=False, fetch=lambda _: [], hint="")


def test_other_content_under_the_name_of_fashion_mnist_is_refused(tmp_path: Path) -> None:
    assert fashion_mnist.FashionMNIST.only_published
    refused("fashion_mnist", write_mnist(tmp_path / "a", mnist_arrays()), "content differs from the published data set")


def cifar(folder: Path, content: bytes, name: str = "cifar-10-python.tar.gz") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return folder


def with_labels(labels: object) -> bytes:
    content = {b"labels": labels, b"data": np.zeros((20, 3072), np.uint8)}
    return pickle.dumps(content, protocol=2)


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (with_labels([10] * 20), "label 10 of sample 0"),
        (with_labels([-1] * 20), "label -1 of sample 0"),
        (with_labels([1] * 19), "labels (19,)"),
        (with_labels([1.5] * 20), "opcode"),
        (with_labels([2**40] * 20), "small integers"),
        (pickle.dumps({b"labels": [1], b"data": np.zeros((1, 3071), np.uint8)}, 2), "images uint8 (1, 3071)"),
        (pickle.dumps({b"labels": [1], b"data": np.zeros((1, 3072), np.int32)}, 2), "images int32"),
        (pickle.dumps({b"labels": [1], b"data": np.zeros((1, 3072), object)}, 2), "not a CIFAR batch"),
        (pickle.dumps({"data": 1}, 2), "no dictionary with data and labels"),
        (pickle.dumps([1], 2), "no dictionary with data and labels"),
        (b"", "ends within an item"),
    ],
)
def test_batches_of_another_kind_are_named(bad: bytes, text: str, tmp_path: Path) -> None:
    folder = cifar(tmp_path / "a", archive(cifar_members(data_batch_2=bad)))
    refused("cifar10", folder, text)


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("as_array", [True, False])
def test_batches_are_what_pickle_reads(protocol: int, as_array: bool) -> None:
    content = pickle.loads(batch(3, 20, protocol))  # our own
    if as_array:
        content[b"labels"] = np.array(content[b"labels"])
        content[b"data"] = np.asfortranarray(content[b"data"])
    images, labels = read_batch(pickle.dumps(content, protocol))
    assert np.array_equal(images, content[b"data"])
    assert np.array_equal(labels, content[b"labels"])
    assert (images.dtype, labels.dtype) == (np.uint8, np.int64)


def test_a_batch_as_python_2_wrote_it() -> None:
    """The published layout: byte strings, and the array's bytes as one of them."""
    data = bytes(range(256)) * 24
    text = (
        b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03U\x06labelsq\x04]q\x05(K\x06K\x09e"
        b"U\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\x09"
        b"(K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\nq\nU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<i", len(data)) + data + b"tb"
        b"U\tfilenamesq\x0c]q\r(U\x05a.pngq\x0eU\x05b.pngq\x0feu."
    )
    images, labels = read_batch(text)
    assert images.tobytes() == data
    assert labels.tolist() == [6, 9]


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02" + b"]" * 600_000 + b".",  # a list of 56 bytes for each byte
        b"\x80\x02]r\xff\xff\xff\xff.",  # an index into the memo of gigabytes
        b"\x80\x04\x96" + struct.pack("<Q", 1 << 33) + b".",  # a bytearray of 8 GB
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b".",
        b"\x80\x02T\xff\xff\xff\x7f.",
        b"\x80\x02(" + b")\x85" * 50_000 + b"K\x01u.",  # keys nested beyond the stack of C
        b"\x80\x02}(" + b")" + b"\x85" * 100_000 + b"K\x01u.",
        b"\x80\x02c_codecs\nencode\nX\x04\x00\x00\x00aaaaX\x06\x00\x00\x00latin1\x86q\x01R" + b"h\x01" * 9 + b".",
        b"\x80\x02cbuiltins\nbytearray\nJ\x00\x00\x00\x7f\x85R.",
        b"\x80\x02c" + b"x" * 10_000,
    ],
)
def test_pickles_that_ask_for_memory_get_none(content: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="not a CIFAR batch"):
            read_batch(content)
        assert tracemalloc.get_traced_memory()[1] < 60 * MB
    finally:
        tracemalloc.stop()


def test_one_text_encoded_again_and_again_is_refused() -> None:
    text = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000
    call = b"(" + text + b"q\x01X\x06\x00\x00\x00latin1q\x020"[:-1]
    again = b"c_codecs\nencode\nh\x01h\x02\x86R" * 1000
    with pytest.raises(ValueError, match="more text than it holds"):
        read_pickle(b"\x80\x02" + call + again + b"t.")


@pytest.mark.parametrize("at", [5, 2000, 50_000, -30_000, -5])
def test_a_flipped_byte_in_the_archive_is_one_line(at: int, tmp_path: Path) -> None:
    content = archive(cifar_members())
    folder = cifar(tmp_path / "a", flipped(content, at % len(content)))
    if at != 5:  # the time in gzip's header
        refused("cifar10", folder, str(folder / "cifar-10-python.tar.gz"))


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.999])
def test_a_truncated_archive_is_one_line(kept: float, tmp_path: Path) -> None:
    content = archive(cifar_members())
    folder = cifar(tmp_path / "a", content[: int(kept * len(content))])
    refused("cifar10", folder, str(folder / "cifar-10-python.tar.gz"))
    plain = archive(cifar_members(), "w")
    folder = cifar(tmp_path / "b", plain[: int(min(kept, 0.9) * len(plain))], "cifar-10-python.tar")
    refused("cifar10", folder, str(folder / "cifar-10-python.tar"))


def large_member(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A gzipped archive of one member of zeros."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [packer.compress(info.tobuf(tarfile.USTAR_FORMAT if kind == tarfile.REGTYPE else tarfile.GNU_FORMAT))]
    parts += [packer.compress(bytes(MB)) for _ in range(size // MB)]
    return b"".join([*parts, packer.compress(bytes(2048)), packer.flush()])


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (lambda: large_member("x/data_batch_1", 40 * MB), "at most"),
        (lambda: large_member("x/readme.html", 40 * MB), "archive holds more than"),
        (lambda: large_member("x/long", 40 * MB, tarfile.GNUTYPE_LONGNAME), "header of"),
        (lambda: large_member("x/pax", 40 * MB, tarfile.XHDTYPE), "header of"),
        (lambda: archive({f"f{i}": b"" for i in range(200)}), "more than 100 members"),
        (lambda: archive(cifar_members()) + bomb(40 * MB), "archive holds more than"),
    ],
)
def test_an_archive_that_decompresses_to_gigabytes_takes_little_memory(
    content: Callable[[], bytes], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (cifar10.MEMBER_BYTES, cifar10.ARCHIVE_BYTES) == (1 << 26, 1 << 29)
    monkeypatch.setattr(cifar10, "MEMBER_BYTES", 4 * MB)  # smaller, for a test of seconds
    monkeypatch.setattr(cifar10, "ARCHIVE_BYTES", 32 * MB)
    body = content()
    assert len(body) < 2 * MB
    refused("cifar10", cifar(tmp_path / "a", body), text, peak=20 * MB)


def test_chained_headers_end_in_one_line(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 0
    content = gzip.compress(info.tobuf(tarfile.USTAR_FORMAT) * 5000)
    refused("cifar10", cifar(tmp_path / "a", content), str(tmp_path))


def test_a_whole_archive_is_pinned_by_its_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dd.data._files import file_sha256
    from dd.problems.pools import content_of, pool_of
    from tests.helpers import run_of

    folder = cifar(tmp_path / "a", archive(cifar_members()))
    run, settings = run_of("data=cifar10", *SMALL), Settings(data_root=str(folder))
    assert content_of(run, pool_of(run, settings)) == pool_of(run, settings).sha256
    known = cifar10.Remote("cifar-10-python.tar.gz", file_sha256(folder / "cifar-10-python.tar.gz"))
    monkeypatch.setattr(cifar10.CIFAR10, "remote", known)
    os.utime(folder / "cifar-10-python.tar.gz", (1, 1))
    assert content_of(run, pool_of(run, settings)) is None


def test_members_of_the_archive_are_the_published_ones() -> None:
    assert cifar10.NAMES == BATCHES


def test_more_samples_than_there_are_is_told_before_anything_starts(tmp_path: Path) -> None:
    folder = write_mnist(tmp_path / "a", mnist_arrays())
    with pytest.raises(ConfigError, match=r"data\.n_test=31: must be <= 30"):
        problem_of("data=mnist", *SMALL, "data.n_test=31", settings=Settings(data_root=str(folder)))


def test_a_table_of_scikit_learn_that_is_damaged_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util
    from types import SimpleNamespace

    path = tmp_path / "datasets" / "data" / "digits.csv.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"none")
    from dd.samples.stamps import look_again

    look_again()
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda _: SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    )
    with pytest.raises(DataNotFoundError, match=r"^data=digits: .*digits\.csv\.gz: damaged gzip file"):
        problem_of("data=digits")
    out = io.BytesIO()
    np.savetxt(out, np.zeros((1797, 65)), fmt="%d", delimiter=",")
    path.write_bytes(gzip.compress(out.getvalue()))
    from dd.packs.content import identified
    from tests.helpers import run_of

    assert identified([run_of("data=digits")], Settings())[0].data_content
