"""Build hook: compile ``dd/kernels/src`` into shared libraries, one for each instruction set, loaded through ctypes.

The compiler is the ``ziglang`` package (Clang behind ``zig cc``), a build requirement that pip fetches by itself: no
compiler of the system is needed, and the same sources give the same code everywhere. Where the compiler fails, the
installation goes on without: dd then trains with PyTorch's own operations, more slowly, and says so.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import sysconfig
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).parent
SOURCES = HERE / "dd" / "kernels" / "src"
SUFFIX = {"Windows": ".dll", "Darwin": ".dylib"}.get(platform.system(), ".so")
FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-shared", "-g0", "-s")
GLIBC = (2, 28)
"""Oldest C library that a wheel for Linux runs with: that of PyTorch's own wheels."""

PURE = "DD_PURE"
"""Environment variable: 1 leaves the engine out, for a wheel that any machine can install."""

X86 = {"baseline": "x86_64_v2", "avx2": "x86_64_v3", "avx512": "x86_64_v4"}


def variants() -> dict[str, tuple[str, ...]]:
    """Names of the libraries for this machine's architecture and the flags that make them."""
    if platform.machine().lower() in ("x86_64", "amd64"):
        return {name: (f"-march={march}",) for name, march in X86.items()}
    return {"baseline": ()}


def on_glibc() -> bool:
    """Whether this is a Linux with the GNU C library."""
    return platform.system() == "Linux" and platform.libc_ver()[0] == "glibc"


def target() -> tuple[str, ...]:
    """What the compiler compiles for: on Linux any system with that C library or a newer one."""
    return ("-target", f"{platform.machine()}-linux-gnu.{GLIBC[0]}.{GLIBC[1]}") if on_glibc() else ()


def tag() -> str:
    """The wheel's platform, as pip reads it."""
    if on_glibc():
        return f"py3-none-manylinux_{GLIBC[0]}_{GLIBC[1]}_{platform.machine()}"
    return "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")


def checksum() -> int:
    """Of the sources; as ``dd.kernels.library.sources``, which cannot be imported here."""
    files = sorted(SOURCES.glob("*.[ch]"))
    return zlib.crc32(b"".join(path.read_bytes().replace(b"\r\n", b"\n") for path in files)) & 0x7FFFFFFF


def compile_library(name: str, flags: tuple[str, ...]) -> Path:
    """Compile one library.

    Raises:
        subprocess.CalledProcessError: the compiler refused.
    """
    library = SOURCES.parent / f"engine_{name}{SUFFIX}"
    position = () if platform.system() == "Windows" else ("-fPIC", "-lm")
    own = f"-DDD_SOURCES={checksum()}"
    compiler = [sys.executable, "-m", "ziglang", "cc", *target()]
    subprocess.run([*compiler, *FLAGS, own, *flags, *position, "-o", str(library), "engine.c"], cwd=SOURCES, check=True)
    return library


class Hook(BuildHookInterface):
    """Compile the engine and tell the wheel about it."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See hatchling; editable installs compile in place."""
        if self.target_name != "wheel" or os.environ.get(PURE) == "1":
            return
        try:
            with ThreadPoolExecutor(2) as pool:
                libraries = list(pool.map(lambda item: compile_library(*item), variants().items()))
        except (OSError, subprocess.CalledProcessError) as error:
            self.app.display_warning(f"dd's engine was not compiled, training will be slow: {error}")
            return
        build_data["pure_python"] = False
        build_data["tag"] = tag()
        build_data["artifacts"] += [str(path.relative_to(HERE)) for path in libraries]


if __name__ == "__main__":
    for arguments in variants().items():
        print(compile_library(*arguments))
