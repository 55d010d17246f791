"""From where a sweep may be started: README's Python as it is saved, typed and embedded.

Covers: dd/executors/inline.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from dd.executors.auto import Auto
from dd.executors.inline import Inline
from dd.executors.processes import Processes
from dd.packs.plan import Pack
from dd.runs.settings import Settings
from dd.workers import machine
from tests.helpers import NEEDS_HYDRA, run_of

README = Path(__file__).parents[2] / "README.md"

CALL = 'dd.sweep("width=20,40,900,1500", "optimizer=sgd,adam", "epochs=3", "n_jobs=2")'

EMBEDDED = {
    "a thread": f"""
        import threading, dd
        thread = threading.Thread(target=lambda: {CALL})
        thread.start()
        thread.join()
        """,
    "a daemonic process": f"""
        import multiprocessing, dd
        def go():
            {CALL}
        if __name__ == "__main__":
            process = multiprocessing.Process(target=go, daemon=True)
            process.start()
            process.join()
        """,
    "joblib": f"""
        from joblib import Parallel, delayed
        import dd
        def go():
            return len({CALL})
        if __name__ == "__main__":
            assert Parallel(2)([delayed(go)()]) == [8]
        """,
    "Hydra": f"""
        import hydra, dd
        from hydra.core.hydra_config import HydraConfig
        @hydra.main(config_path=None, version_base="1.3")
        def go(config):
            {CALL}
            assert HydraConfig.get().job.name
        go()
        """,
}


def finished(done: subprocess.CompletedProcess[str], cwd: Path) -> pd.DataFrame:
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    found = pd.concat(pd.read_parquet(folder) for folder in cwd.rglob("runs"))
    assert set(found.status) == {"ok"}
    return found


def python(*arguments: str, cwd: Path, source: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, input=source, capture_output=True, text=True, timeout=300, check=False
    )


SMALL = {
    "range(10,2000,50)": "range(10,2000,400)",
    '"optimizer=sgd,adam")': '"optimizer=sgd,adam", "epochs=3", "n_jobs=2")',
    "range(10, 500, 10)": "range(10, 500, 100)",
    "seed=range(5),": "seed=range(2), n_jobs=2,",
}
"""What makes the README's sweeps small, ten runs each: what they do is tested, not how long."""


def readme_blocks() -> list[str]:
    """Python of the README that can stand by itself, with small sweeps."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    found = [block for block in blocks if "import dd" in block]
    for long, short in SMALL.items():
        assert any(long in block for block in found), f"the README has no {long}"
        found = [block.replace(long, short) for block in found]
    return found


@pytest.mark.parametrize("way", ["file", "stdin"])
def test_the_readme_runs_without_a_guard(tmp_path: Path, way: str) -> None:
    """All blocks as one program, each in a folder of its own."""
    blocks = readme_blocks()
    assert all("n_jobs=2" in block for block in blocks)
    lines = ["import os"]
    for number, block in enumerate(blocks):
        (tmp_path / str(number)).mkdir()
        lines += [f"os.chdir({str(tmp_path / str(number))!r})", block]
    source = "\n".join(lines)
    (tmp_path / "script.py").write_text(source)
    arguments = {"file": ["script.py"], "stdin": ["-"]}[way]
    done = python(*arguments, cwd=tmp_path, source=source if way == "stdin" else None)
    assert len(finished(done, tmp_path)) == 10 * len(blocks)


@pytest.mark.parametrize(
    "where", [pytest.param(name, marks=NEEDS_HYDRA if name == "Hydra" else ()) for name in EMBEDDED]
)
def test_a_sweep_works_within(tmp_path: Path, where: str) -> None:
    lines = EMBEDDED[where].splitlines()[1:]
    (tmp_path / "script.py").write_text("\n".join(line[8:] for line in lines) + "\n")
    assert len(finished(python("script.py", cwd=tmp_path), tmp_path)) == 8


def test_modules_beside_the_script_do_not_disturb_workers(tmp_path: Path) -> None:
    """Workers take the caller's module path, and nothing from the working folder before it."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "socket.py").write_text("raise SystemExit('not this one')")
    (tmp_path / "elsewhere/script.py").write_text(f"import dd\n{CALL}\n")
    assert len(finished(python("elsewhere/script.py", cwd=tmp_path), tmp_path)) == 8


def test_a_pack_that_may_not_fit_is_kept_out_of_the_main_process(monkeypatch: pytest.MonkeyPatch) -> None:
    pack = Pack((run_of("width=5000", "optimizer=min_norm"),))
    chosen = []
    monkeypatch.setattr(Inline, "execute", lambda *_: chosen.append("inline"))
    monkeypatch.setattr(Processes, "execute", lambda *_: chosen.append("processes"))
    for room in (10 * pack.bytes, pack.bytes, None):
        monkeypatch.setattr(machine, "available", lambda room=room: room)
        Auto().execute([pack], Settings(device="cpu", n_jobs=1))
    Auto().execute([pack], Settings(device="cpu", n_jobs=1, timeout=5.0))
    assert chosen == ["inline", "processes", "inline", "processes"]
