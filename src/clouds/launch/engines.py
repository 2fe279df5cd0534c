"""The engines by their names: this machine, SLURM, Ray."""

from pathlib import Path

from clouds.errors import UsageError
from clouds.launch.stage import Executor

ENGINES = ("local", "slurm", "ray")


def executor_of(name: str, folder: Path, sbatch: list[str] | None = None) -> Executor:
    """The engine of this name; raises UsageError where it is unknown or not here."""
    if name not in ENGINES:
        raise UsageError(f"--on: got {name!r}; expected one of {', '.join(ENGINES)}")
    options = dict(_option(word) for word in sbatch or [])
    if options and name != "slurm":
        raise UsageError(f"--sbatch: is for --on slurm, got --on {name}")
    if name == "ray":
        from clouds.launch.ray_jobs import RayJobs

        return RayJobs()
    from clouds.launch.submitit_jobs import SubmititJobs

    return SubmititJobs(folder, name, options)


def _option(word: str) -> tuple[str, str]:
    name, sign, value = word.partition("=")
    if not name or not sign:
        raise UsageError(f"--sbatch: got {word!r}; expected an option of sbatch, name=value, such as partition=gpu")
    return name.removeprefix("--"), value
