"""Finding a data set's files: given folder, cache, system folder, then an explicit download with mirrors."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dd.errors import DataNotFoundError

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
    """Folder for downloads: ``$XDG_CACHE_HOME/dd``, by default ``~/.cache/dd``; a temporary one without home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dd"
    except RuntimeError:  # HOME is not set, and the user is in no list (usual in containers)
        return Path(tempfile.gettempdir()) / f"dd-{os.getuid()}"


def find(names: Sequence[str], folders: Sequence[Path]) -> list[Path] | None:
    """Return the files of the first folder that has them all, plain or gzipped.

    Args:
        names: file names without ``.gz``.
        folders: places to look, in order.
    """
    for folder in folders:
        found = [p for n in names for p in (folder / f"{n}.gz", folder / n) if p.is_file()]
        chosen = {p.name.removesuffix(".gz"): p for p in reversed(found)}
        if len(chosen) == len(names):
            return [chosen[n] for n in names]
    return None


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
        with tempfile.TemporaryDirectory(dir=folder, prefix="_download") as scratch:
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
    given = [Path(root).expanduser(), Path(root).expanduser() / data] if root else []
    folders = [*given, cache, *system]
    found = find(names, folders)
    if found:
        return found
    if allow_download:
        try:
            return list(fetch(cache))
        except OSError as error:
            raise DataNotFoundError("data", data, str(error)) from error
    looked = ", ".join(str(f) for f in folders)
    raise DataNotFoundError(
        "data",
        data,
        f"files not found (looked in {looked}); set data.root=FOLDER, {hint}or add data.download=true",
    )
