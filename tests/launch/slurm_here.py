"""A SLURM of this machine alone: controller, nodes and munge in one folder, for as long as a test needs them.

    with slurm(folder, cpus=2) as environment: ...        # variables with which sbatch, squeue, srun find it

or, to try `clouds launch --on slurm` by hand (Ctrl-C ends it):

    python tests/launch/slurm_here.py
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "scontrol")

CONF = """
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
MinJobAge=60
KillWait=20
ReturnToService=2
SlurmdParameters=config_overrides
{nodes}
PartitionName=normal Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=30
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10
"""


def why_not() -> str | None:
    """Why SLURM cannot be set up here; None where it can."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    absent = [name for name in PROGRAMS if not shutil.which(name, path=path)]
    if absent:
        return f"no {', '.join(absent)} here; on Debian: apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "SLURM's daemons are started by root alone"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@contextmanager
def slurm(folder: Path, cpus: int = 2, nodes: int = 1) -> Iterator[dict[str, str]]:
    """Yield the environment of the clients; each node has ``cpus``. RuntimeError with the daemons' logs where one does
    not come up."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    host = socket.gethostname().split(".")[0]
    names = [f"node{k}" for k in range(nodes)]
    for name in ("state", *(f"spool.{name}" for name in names)):
        (folder / name).mkdir()
    conf, ports = folder / "slurm.conf", _free_ports(1 + nodes)
    rows = [f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} State=UNKNOWN"
            for name, port in zip(names, ports[1:], strict=True)]  # fmt: skip
    conf.write_text(CONF.format(host=host, folder=folder, ports=ports, nodes="\n".join(rows)))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    environment = {**os.environ, "PATH": path, "SLURM_CONF": str(conf)}
    munge = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={key}",
             f"--pid-file={folder}/munge.pid", f"--seed-file={folder}/munge.seed", f"--log-file={folder}/munge.log",
             "--num-threads=2"]  # fmt: skip
    daemons = []
    try:
        workers = [["slurmd", "-D", "-f", str(conf), "-N", name] for name in names]
        for command in (munge, ["slurmctld", "-D", "-f", str(conf)], *workers):
            with (folder / "daemons.log").open("ab") as log:
                daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            time.sleep(1)
        for _ in range(60):
            ask = ["sinfo", "-h", "-N", "-p", "normal", "-o", "%T"]
            state = subprocess.run(ask, env=environment, capture_output=True, text=True)
            if state.stdout.split() == ["idle"] * nodes:
                break
            time.sleep(0.5)
        else:
            logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in folder.glob("*.log"))
            raise RuntimeError(f"SLURM's node did not come up: {state.stdout}{state.stderr}\n{logs}")
        yield environment
    finally:
        subprocess.run(["scancel", "--user=root"], env=environment, capture_output=True)
        time.sleep(1)
        for each in reversed(daemons):
            each.terminate()
        for each in daemons:
            with suppress(subprocess.TimeoutExpired):
                each.wait(10)
            each.kill()


if __name__ == "__main__":
    if reason := why_not():
        sys.exit(reason)
    with slurm(Path(tempfile.mkdtemp(prefix="slurm-")) / "here", cpus=os.cpu_count() or 1) as found:
        print(f"export SLURM_CONF={found['SLURM_CONF']}", flush=True)  # noqa: T201
        with suppress(KeyboardInterrupt):
            time.sleep(10**9)
