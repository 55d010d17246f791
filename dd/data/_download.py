"""Finding a data set's files: given folder, cache, system folder, then an explicit download with mirrors."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dd.errors import DataNotFoundError
from dd.temporary import temporary_name

TIMEOUT = 30
"""Seconds without an answer after which a mirror is given up."""


@dataclass(frozen=True)
class Remote:
    """A file that can be downloaded.

    Attributes:
        name: file name.
        sha256: digest of the file as the mirrors serve it.
    """

    name: str
    sha256: str


def cache_folder() -> Path:
    """Folder for downloads: ``$XDG_CACHE_HOME/dd``, by default ``~/.cache/dd``."""
    given = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(given or Path.home() / ".cache") / "dd"
    except RuntimeError:  # neither HOME nor an entry for the user
        return Path(tempfile.gettempdir()) / f"dd-cache-{os.getuid()}"


def find(names: Sequence[str], folders: Sequence[Path]) -> list[Path] | None:
    """Return the files of the first folder that has them all, plain or gzipped.

    Args:
        names: file names without ``.gz``.
        folders: places to look, in order.
    """
    for folder in folders:
        found = [_held(folder, name) for name in names]
        if all(found):
            return [path for path in found if path]
    return None


def _held(folder: Path, name: str) -> Path | None:
    """The file of a name, gzipped before plain."""
    return next((p for p in (folder / f"{name}.gz", folder / name) if _is(p, Path.is_file)), None)


def _is(path: Path, kind: Callable[[Path], bool]) -> bool:
    try:
        return kind(path)
    except OSError:  # a folder that may not be searched, a name too long
        return False


def _lacking(names: Sequence[str], folder: Path) -> str:
    """What a folder lacks, in words."""
    if not _is(folder, Path.is_dir):
        return f"no folder {folder}"
    if not os.access(folder, os.R_OK | os.X_OK):
        return f"{folder} may not be read"
    lacking = [name for name in names if not _held(folder, name)]
    folders = [name for name in lacking if any(_is(folder / n, Path.is_dir) for n in (name, f"{name}.gz"))]
    text = f"{folder} has none of them" if len(lacking) == len(names) > 1 else f"{folder} lacks {', '.join(lacking)}"
    return text + (f" ({', '.join(folders)}: a folder, not a file)" if folders else "")


def download(remote: Remote, mirrors: Sequence[str], folder: Path) -> Path:
    """Fetch one file from the first mirror that serves it whole and unchanged.

    Args:
        remote: name and digest.
        mirrors: base addresses, each ending in a slash.
        folder: where the file is kept; a good copy there is used without asking a mirror.

    Returns:
        Path of the verified file.

    Raises:
        OSError: no mirror had it; the message lists what each answered. Nothing partial is left behind.
    """
    import pooch
    import requests

    target = folder / remote.name
    if target.is_file() and pooch.file_hash(str(target), alg="sha256") == remote.sha256:
        return target
    errors = []
    folder.mkdir(parents=True, exist_ok=True)
    for mirror in mirrors:
        # fetched under a temporary name: a bad body never replaces, or passes for, the file
        with tempfile.TemporaryDirectory(dir=folder, prefix="_download", suffix=temporary_name()) as scratch:
            try:
                got = pooch.retrieve(
                    mirror + remote.name,
                    known_hash=f"sha256:{remote.sha256}",
                    fname=remote.name,
                    path=scratch,
                    downloader=pooch.HTTPDownloader(timeout=TIMEOUT, progressbar=False),
                )
                os.replace(got, target)
                return target
            except ValueError:
                errors.append(f"{mirror}: wrong content (sha256 differs)")
            except requests.RequestException as error:
                errors.append(f"{mirror}: {type(error).__name__}")
    raise OSError(f"could not download {remote.name}: " + "; ".join(errors))


def _expanded(root: str) -> Path:
    try:
        return Path(root).expanduser()
    except RuntimeError:  # ~ of nobody
        return Path(root)


def locate(
    data: str,
    names: Sequence[str],
    *,
    root: str | None,
    system: Sequence[Path],
    allow_download: bool,
    fetch: Callable[[Path], Sequence[Path]],
    hint: str,
) -> list[Path]:
    """Find the files of a data set, downloading them only if asked to.

    Args:
        data: the data set's name, also its folder in the cache.
        names: file names without ``.gz``.
        root: the user's ``data.root``: searched first, itself and its subfolder ``data``.
        system: folders of system packages.
        allow_download: ``data.download``.
        fetch: downloads all files into a folder and returns their paths.
        hint: a further way to get the files, for the message.

    Returns:
        One path a name, in order.

    Raises:
        DataNotFoundError: the files are nowhere, or the download failed.
    """
    cache = cache_folder() / data
    given = [folder := _expanded(root), folder / data] if root else []
    folders = [*given, cache, *system]
    found = find(names, folders)
    if found:
        return found
    if allow_download:
        try:
            return list(fetch(cache))
        except OSError as error:
            raise DataNotFoundError("data", data, str(error)) from error
    looked = "; ".join(_lacking(names, folder) for folder in folders)
    raise DataNotFoundError(
        "data",
        data,
        f"files not found: {', '.join(names)}, plain or .gz ({looked}); set data.root=FOLDER, {hint}"
        "or add data.download=true",
    )
