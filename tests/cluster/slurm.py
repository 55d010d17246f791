"""``make test-cluster``: a real Slurm on this machine, and a sweep that everything happens to.

Installs Debian's ``slurm-wlm`` and ``munge`` where absent, starts ``munged``, ``slurmctld`` and ``slurmd`` with
one node, without cgroups and without accounting, and ends them again. Needs root.

A sweep of 200 runs is submitted. One element is queued again by the administrator, one by the signal before a time
limit, two are cancelled, a worker is killed with -9, and so is the command that waits. The table must be that of
``executor=inline``, bit for bit.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from tests.faults.surroundings import alive, descendants, wait_for
from tests.faults.test_random_kills import table

ROOT = Path(__file__).parents[2]

SWEEP = ["-m", "width=range(20,220,10)", "optimizer=adam,momentum", "steps=20000", "seed=range(0,5)"]
RUNS = 200
ELEMENTS = 8

CONF = """\
ClusterName=dd
SlurmctldHost={host}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,batch_sched_delay=0
MpiDefault=none
MaxArraySize=101
KillWait=20
ReturnToService=2
NodeName={host} CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
"""``cred_expire``: Slurm starts a job that was queued again only after so many seconds, 120 if nobody says."""


def say(text: str) -> None:
    """A line of what happens, with the time."""
    print(f"{time.strftime('%T')} {text}", flush=True)


def slurm(*command: str) -> str:
    """What one of Slurm's commands prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: exit code {done.returncode}: {done.stderr}"
    return done.stdout


def install() -> bool:
    """Install Slurm where it is absent; whether it is there then."""
    if os.geteuid() != 0:
        say("not root: no Slurm can be started here; nothing was tested")
        return False
    if shutil.which("slurmctld") is None or shutil.which("munged") is None:
        if shutil.which("apt-get") is None:
            say("no slurmctld, and no apt-get to install it: nothing was tested")
            return False
        for arguments in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "slurm-wlm", "munge"]):
            done = subprocess.run(["apt-get", *arguments], capture_output=True, text=True, check=False)
            if done.returncode:
                say(f"apt-get {arguments[0]} fails: nothing was tested\n{done.stderr}")
                return False
    return True


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[None]:
    """A cluster of this machine alone, for as long as the block lasts."""
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(mode=0o700)
    key = folder / "munge/key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    host = socket.gethostname().split(".")[0]
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(folder=folder, host=host, cpus=os.cpu_count()))
    os.environ["SLURM_CONF"] = str(conf)
    files = {name: folder / "munge" / name for name in ("pid-file", "log-file", "seed-file")}
    munge = [f"--{option}={path}" for option, path in files.items()]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in (
            ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder / 'munge.socket'}", *munge],
            ["slurmctld", "-D"],
            ["slurmd", "-D"],
        ):
            with open(folder / f"{command[0]}.out", "wb") as out:
                started.append(subprocess.Popen(command, stdout=out, stderr=out))
            if command[0] == "munged":
                wait_for((folder / "munge.socket").exists, 30)
        wait_for(lambda: "idle" in subprocess.run(["sinfo", "-h"], capture_output=True, text=True).stdout, 60)
        yield
    except BaseException:
        for command in (
            ["squeue", "--array"],
            ["sinfo", "--long"],
            ["tail", "-n", "30", str(folder / "slurmctld.log")],
        ):
            subprocess.run(command, check=False)
        raise
    finally:
        subprocess.run(["scancel", "--me"], check=False)
        for process in reversed(started):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


class Command:
    """A command that waits for its jobs.

    Args:
        folder: in which it is started.
    """

    def __init__(self, folder: Path) -> None:
        arguments = [*SWEEP, "executor=slurm", f"executor.jobs={ELEMENTS}"]
        self.errors = folder / f"errors-{time.monotonic_ns()}.txt"
        with open(self.errors, "w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dd.run", *arguments],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()

    def end(self, seconds: float) -> tuple[int, str]:
        """Wait for its end: exit code, and what it told on the way."""
        self.process.wait(seconds)
        return self.process.returncode, self.errors.read_text()


def jobs(state: str) -> list[str]:
    """Elements in the queue that are in a state."""
    return slurm("squeue", "--noheader", "--array", f"--states={state}", "--format=%i").split()


def top(job: str) -> int | None:
    """The process of an element that Slurm has started."""
    number = job.split("_")[1]
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes().split(b"\0")
            if command[1:4] == [b"-u", b"-m", b"submitit.core._submit"] and (
                f"SLURM_ARRAY_TASK_ID={number}\0".encode() in (folder / "environ").read_bytes()
            ):
                return int(folder.name)
    return None


def workers(job: str) -> list[int]:
    """Worker processes of an element, once they have computed for a while."""
    first = top(job)
    return [pid for pid, seconds in descendants(first, 2).items() if seconds > 0.2] if first else []


def busy(but: set[str]) -> str:
    """An element that computes, other than some; waits until there is one."""
    found: list[str] = []
    until(lambda: found.extend(job for job in jobs("RUNNING") if job not in but and workers(job)) or found)
    but.add(found[0])
    return found[0]


def log(folder: Path, job: str) -> str:
    """What an element has printed."""
    return "".join(path.read_text() for path in folder.glob(f"results/default/slurm/*/{job}_0_log.out"))


def until(condition: Callable[[], object]) -> None:
    """Wait for something that takes a while."""
    wait_for(condition, 120)


def trouble(folder: Path) -> None:
    """The sweep, and what happens to it."""
    first = Command(folder)
    touched: set[str] = set()
    job = busy(touched)
    say(f"the administrator queues {job} again")
    slurm("scontrol", "requeue", job)
    job = busy(touched)
    say(f"the time limit of {job} is near")
    started = top(job)
    assert started
    for pid in [*descendants(started), started]:  # to all processes of the step, as Slurm does; scancel would try again
        os.kill(pid, signal.SIGUSR2)
    until(lambda: "queued again" in log(folder, job))
    print("    " + "\n    ".join(line for line in log(folder, job).splitlines() if line.startswith("dd:")))
    job = busy(touched)
    victim = workers(job)[0]
    say(f"kill -9 of process {victim}, a worker of {job}")
    os.kill(victim, signal.SIGKILL)
    say("kill -9 of the command that waits")
    first.kill()
    assert jobs("all"), "the jobs go on without it"

    second = Command(folder)
    until(lambda: "found Slurm job" in second.errors.read_text())
    running, waiting = busy(touched), jobs("PENDING")[-1]
    say(f"scancel {running}, which runs, and {waiting}, which waits")
    slurm("scancel", running, waiting)
    code, told = second.end(400)
    print(told)
    assert code == 1, "a cancelled element's runs have failed"
    assert re.search(rf"Slurm job {running} ended \(CANCELLED.*\) without \d+ runs", told), "its end is told"
    assert re.search(rf"Slurm job {waiting} ended \((CANCELLED|Slurm has forgotten it).*\) without \d+ runs", told)
    assert "SIGTERM: " in told, "with the end of its output"
    assert len(re.findall("Slurm job .* elements", told)) == 0, "nothing was submitted twice"

    third = Command(folder)
    code, told = third.end(400)
    print(told)
    assert code == 0
    assert not list((folder / "results/default/slurm").glob("*/submission.json")), "nothing is expected any more"


def main() -> int:
    """Exit code: 0, also where there is no way to start a Slurm."""
    if not install():
        return 0
    with tempfile.TemporaryDirectory(prefix="dd-cluster") as name:
        folder = Path(name)
        (folder / "slurm").mkdir()
        (folder / "together").mkdir()
        (folder / "alone").mkdir()
        os.environ["PYTHONPATH"] = str(ROOT)
        inline, nowhere = [sys.executable, "-m", "dd.run", *SWEEP, "executor=inline"], subprocess.DEVNULL
        alone = subprocess.Popen(inline, cwd=folder / "alone", stdout=nowhere, stderr=nowhere)
        with cluster(folder / "slurm"):
            say(f"{slurm('sinfo', '--version').strip()} has started")
            trouble(folder / "together")
        say("the same sweep with executor=inline")
        assert alone.wait(600) == 0
        for kind in ("runs", "curves"):
            pd.testing.assert_frame_equal(
                table(folder / "together", kind), table(folder / "alone", kind), check_exact=True
            )
        rows = table(folder / "together", "runs")
        assert len(rows) == RUNS and set(rows["status"]) == {"ok"}  # noqa: PT018
        left = [pid for pid in descendants(os.getpid()) if alive(pid)]
        assert not left, f"processes {left} are left"
    say(f"{RUNS} runs, bit for bit those of executor=inline")
    return 0


if __name__ == "__main__":
    sys.exit(main())
