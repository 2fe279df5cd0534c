"""A model behind HTTP: images in, label maps out, and a web page on the same port.

``server`` starts and stops it, ``app`` has the routes, ``limits`` reads a request's image, ``batching`` owns the model,
``answers`` writes what was found. Start with ``app``.
"""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from clouds.deploy.serve.limits import Service
from clouds.errors import BackendError
from clouds.predict.loading import check_and_say

NEEDED = {
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "python_multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
}


def start(models: Sequence[str | Path], service: Service, device: str, tell: Callable[[dict[str, Any]], None]) -> None:
    """Serve one or two models, as ``clouds.load`` takes them, until a signal.

    BackendError where the extra is not installed. ``tell`` gets ``{"url", "models"}`` once requests can come.
    """
    if missing := [package for module, package in NEEDED.items() if find_spec(module) is None]:
        raise BackendError(f"clouds serve needs {', '.join(missing)}; pip install 'clouds[serve]'")
    check_and_say(*models)
    from clouds.deploy.serve.server import serve

    serve(models, service, device, tell)
