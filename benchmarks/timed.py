"""Run a command and print, in a last line of JSON, what it took together with the processes that it has started.

    python benchmarks/timed.py command ...

A light process of its own: a command begins with the peak memory of the process that starts it, and workers that a
command leaves behind come here to be waited for.
"""

import ctypes
import json
import os
import subprocess
import sys
import time

PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Report exit code, wall and CPU seconds, and the peak memory of the largest process in GB."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    start = time.perf_counter()
    process = subprocess.Popen(sys.argv[1:], stderr=subprocess.STDOUT)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall, every = time.perf_counter() - start, [used]
    try:
        while True:
            every.append(os.wait4(-1, 0)[2])
    except ChildProcessError:
        pass
    unit = 1e9 if sys.platform == "darwin" else 1e6
    report = {
        "code": process.returncode,
        "wall": wall,
        "cpu": sum(used.ru_utime + used.ru_stime for used in every),
        "peak": max(used.ru_maxrss for used in every) / unit,
    }
    print("\n" + json.dumps(report))


if __name__ == "__main__":
    main()
