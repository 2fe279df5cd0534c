"""A model behind HTTP: images in, label maps out, and a web page on the same port.

``server`` starts and stops it, ``app`` has the routes, ``limits`` reads a request's image, ``batching`` owns the model,
``answers`` writes what was found. Start with ``app``.
"""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from clouds.base.progress import loading
from clouds.deploy.serve.limits import Service
from clouds.errors import BackendError
from clouds.model.place import check_place, model_folder

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
    for model in models:
        check_place(model_folder(model))
    loading("PyTorch and the model")
    from clouds.deploy.serve.server import serve

    serve(models, service, device, tell)
