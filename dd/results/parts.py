"""One parquet part: written with checksums, verified whenever it is read.

Every page carries its checksum, as parquet provides. Parquet leaves its footer and the pages' headers without one, so a
seal stands between the last page and the footer, where the format allows any bytes: a mark, the CRC-32 of all that
comes before, the CRC-32 of all that comes after, and the mark again. Other readers pass over it. Parts without a seal
(of an older dd, or another program's) are read by what checksums they have.
"""

from __future__ import annotations

import errno
import os
import shlex
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dd.errors import StoreError
from dd.results.schema import conform

MARK = b"\x89ddseal\n"
SEAL = struct.Struct(f"<{len(MARK)}sII{len(MARK)}s")
END = 8
"""Bytes after the footer: its length, and parquet's own mark."""

KINDS = ("predictions", "curves", "targets", "runs")
"""Folders of a table's parts."""

Signature = tuple[int, int, int]


class Damage(Exception):
    """Why a part is not what was written."""


def parts_of(folder: Path) -> list[Path]:
    """Parts in a folder by name; names that begin with ``_`` or ``.`` are other things (macOS writes ``._x``)."""
    return [folder / name for name in names_of(folder)]


def names_of(folder: Path) -> list[str]:
    """Names of the parts in a folder, sorted."""
    try:
        return sorted(name for name in os.listdir(folder) if is_part(name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def is_part(name: str) -> bool:
    """Whether a file of this name is a part of a table."""
    return name.endswith(".parquet") and not name.startswith(("_", "."))


def has_gone(error: OSError) -> bool:
    """Whether a file has gone; a network file system says ``ESTALE`` of one that it has listed or opened before."""
    return error.errno in (errno.ENOENT, errno.ESTALE)


def signature(part: str) -> Signature:
    """What changes whenever a part is replaced."""
    found = os.stat(part)
    return found.st_ino, found.st_mtime_ns, found.st_size


def encode(table: pa.Table) -> bytes:
    """The file of a table, sealed."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    data = sink.getvalue().to_pybytes()
    end = len(data) - END - int.from_bytes(data[-END : -END + 4], "little")
    seal = SEAL.pack(MARK, zlib.crc32(data[:end]), zlib.crc32(data[end:]), MARK)
    return b"".join((data[:end], seal, data[end:]))


def read(part: Path, columns: Sequence[str] | None = None, *, whole: bool = True) -> pa.Table:
    """Read a part.

    Args:
        part: ``<results_dir>/<name>/<kind>/<part>.parquet``.
        columns: those to read, where the part has them; None reads all.
        whole: verify every byte of the file, not only the footer and the pages that are read.

    Raises:
        StoreError: the part is damaged or cannot be read.
        FileNotFoundError: it has gone.
    """
    try:
        if whole:
            data = part.read_bytes()
            table = _parse(pa.BufferReader(data), columns, verify(data))
        else:
            with pa.OSFile(str(part)) as file:
                table = _parse(file, columns, _footer_is_sealed(file))
        key = "targets_id" if part.parent.name == "targets" else "run_id"
        if key not in table.column_names and (columns is None or key in columns):
            raise Damage(f"it has no column {key}")
        return table
    except FileNotFoundError:
        raise
    except StoreError:
        raise
    except Exception as error:  # pyarrow answers damage with errors of many classes
        raise _problem(part, error) from error


def read_as(part: Path, schema: pa.Schema) -> pa.Table:
    """Read the columns of a schema, in its types; see :func:`read` and :func:`~dd.results.schema.conform`."""
    table = read(part, schema.names)
    try:
        return conform(table, schema)
    except pa.ArrowException as error:
        raise unreadable(part, error) from error


def metadata(part: Path) -> pq.FileMetaData:
    """Parquet's own description of a part, from its footer.

    Raises:
        StoreError: the footer is damaged or cannot be read.
        FileNotFoundError: the part has gone.
    """
    try:
        with pa.OSFile(str(part)) as file:
            _footer_is_sealed(file)
            return pq.read_metadata(file)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise _problem(part, error) from error


def _problem(part: Path, error: Exception) -> FileNotFoundError | StoreError:
    if isinstance(error, OSError) and has_gone(error):
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(part))
    return unreadable(part, error)


def unreadable(part: Path, reason: object) -> StoreError:
    """The error of a damaged part: one line that names the part, the reason, and the command that mends."""
    results_dir, name = part.parents[2], part.parents[1].name
    lines = str(reason).strip().splitlines() or [type(reason).__name__]
    return StoreError(
        f"results_dir={results_dir}: {part} is not a readable parquet file ({lines[0]}); "
        f"{repair_command(results_dir, name)} moves it away, and the same sweep computes its runs again"
    )


def repair_command(results_dir: Path, name: str) -> str:
    """The command that mends a table."""
    return f"python -m dd.results repair {shlex.quote(name)} {shlex.quote(f'results_dir={results_dir}')}"


def verify(data: bytes) -> bool:
    """Compare a file with its seal.

    Returns:
        Whether it has one.

    Raises:
        Damage: the file is not what was written.
    """
    first, last = data.find(MARK), data.rfind(MARK)
    if first < 0:
        return False
    view = memoryview(data)
    # either mark is enough: damage that hits one of them hits the checksums, or leaves all else as it was
    for start in {last - (SEAL.size - len(MARK)), last, first}:
        seal = data[start : start + SEAL.size] if start >= 0 else b""
        if len(seal) == SEAL.size:
            _, before, after, _ = SEAL.unpack(seal)
            if zlib.crc32(view[:start]) == before and zlib.crc32(view[start + SEAL.size :]) == after:
                return True
    raise Damage("its bytes are not those that were written: the checksum differs")


def _footer_is_sealed(file: pa.NativeFile) -> bool:
    """Compare a file's footer with its seal."""
    size = file.size()
    if size < END:
        raise Damage(f"it has {size} bytes")
    file.seek(size - END)
    length = int.from_bytes(file.read(4), "little") + END
    start = size - length - SEAL.size
    if start < 0:
        return False
    file.seek(start)
    seal, footer = file.read(SEAL.size), file.read()
    file.seek(0)
    if MARK not in (seal[: len(MARK)], seal[-len(MARK) :]):
        return False
    if SEAL.unpack(seal)[2] != zlib.crc32(footer):
        raise Damage("its footer is not the one that was written: the checksum differs")
    return True


def _parse(source: pa.NativeFile, columns: Sequence[str] | None, sealed: bool) -> pa.Table:
    with pq.ParquetFile(source, page_checksum_verification=True) as file:
        if columns is not None:
            held = set(file.schema_arrow.names)
            columns = [name for name in columns if name in held]
        # with threads, one short process in twenty ended by "terminate called without an active exception"
        table = file.read(columns=columns, use_threads=False)
    if not sealed:  # text that is not UTF-8, offsets that point nowhere
        table.validate(full=True)
    return table
