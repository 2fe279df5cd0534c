"""The command line: one short function a verb, no logic. Heavy imports happen inside the verbs.

``learn``, ``make``, ``use`` and ``serving`` hold the verbs, ``options`` what they share.
"""

import codecs
import os
import sys
from typing import Annotated

import typer

from clouds.base.files import reason
from clouds.base.progress import say
from clouds.cli import learn, make, serving, use  # noqa: F401 - each adds its verbs
from clouds.cli.options import app, option
from clouds.errors import CloudsError, Stopped, UsageError


def _version(asked: bool) -> None:
    if asked:
        from clouds import __version__

        print(__version__)  # noqa: T201
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, option("--version", "Print the version.", callback=_version, is_eager=True)] = False,
) -> None:
    pass


def _unwritable(error: UnicodeError) -> tuple[str | bytes, int]:
    """A file's name that stdout's encoding lacks: its own bytes where it is no text, else backslash escapes."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


INTERRUPTED = 130  # what typer returns on Ctrl-C


def main(arguments: list[str] | None = None) -> None:
    """Run a command; exit 0 when done, 1 when it failed, 2 when the request itself was wrong, 128 + a signal's number
    when training saved and stopped for it."""
    # OpenMP's waiting threads spin for milliseconds: on a busy machine that makes training steps several times slower,
    # while a short spin keeps the speed of an idle one (GNU OpenMP, which PyTorch brings on Linux)
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    codecs.register_error("names", _unwritable)
    sys.stdout.reconfigure(errors="names")  # type: ignore[union-attr]
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(words: list[str]) -> int:
    try:
        code = app(args=words, prog_name="clouds", standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort, CloudsError, OSError) as error:
        if "--debug" in words:
            raise
        return _failed(error)
    except Exception as error:  # typer's own usage errors; it vendors click, so their class has no public name
        if not (hasattr(error, "show") and hasattr(error, "exit_code")):
            raise
        error.show()
        return 2


def _failed(error: BaseException) -> int:
    """Say on stderr what went wrong; the exit code."""
    if isinstance(error, CloudsError):
        text = str(error)
    elif isinstance(error, OSError):
        text = f"{reason(error)}; finished work is kept. Fix this, then run the same command"
    else:
        text = "interrupted; finished work is kept. To resume, run the same command"
    say(f"clouds: {text}")
    if isinstance(error, Stopped):
        return 128 + error.signal
    return 2 if isinstance(error, UsageError) else 1
