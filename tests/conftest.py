"""What several test files share: a tiny model of the real architecture and the 19 classes, in memory and on disk."""

import os
from pathlib import Path
from unittest import mock

import pytest
import submitit  # noqa: F401 - it closes all log handlers: in a test with capfd, absl's would close pytest's own file
from filelock import FileLock
from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"  # before the hub's client is imported: no test may reach for it

settings.register_profile("patient", deadline=None)  # a busy machine is no bug
settings.load_profile("patient")


# of ``clouds.testing``, whose classes are for others' suites too and bear no marks of ours
SECONDS_EACH = {"test_it_exports_whole": ["slow"], "test_it_compiles_to_one_graph": ["slow", "long"]}


def pytest_collection_modifyitems(items):
    for item in items:
        for mark in SECONDS_EACH.get(getattr(item, "originalname", None), ()):
            item.add_marker(mark)


def small_model(seed: int = 2, **settings):
    """Random weights and vocabulary, twice their usual spread: a small picture gets more than one class."""
    import torch

    from clouds.config.label_sets import COLORS, NAMES, SYNONYMS
    from clouds.model.segmenter import Segmenter

    torch.set_num_threads(1)  # on tensors this small a second thread costs more than it brings
    torch.manual_seed(seed)
    sizes = {"hidden": 32, "queries": 6, "heads": 4, "pixel_layers": 1, "layers": 2, "pixel_ffn": 32, "ffn": 32}
    model = Segmenter(
        vision="efficientnet-lite0", text="all-minilm-l6-v2",
        **{"text_dim": 16, "classes": list(NAMES), "synonyms": [list(group) for group in SYNONYMS],
           "colors": [list(color) for color in COLORS], **sizes, "shorter_side": 64, "pretrained": False, **settings},
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.mul_(2 if parameter.ndim > 1 else 1)
    model.vocabulary.copy_(torch.nn.functional.normalize(torch.randn(model.vocabulary.shape), dim=-1))
    return model.eval()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    from clouds.model.folder import save_model

    folder = tmp_path_factory.mktemp("models") / "small"
    save_model(small_model(), folder)
    return folder


@pytest.fixture
def root(tmp_path) -> Path:
    """A data.root with nine frames of CamVid by day and two images of IDD-Lite."""
    import numpy as np

    import fabricate

    fabricate.as_folder(fabricate.make("idd-lite").files, tmp_path / "idd20k_lite")
    files = {}
    for k in range(9):
        files |= {f"test/Seq05VD_f{k:05}.png": fabricate.png(fabricate.picture(k)),
                  f"testannot/Seq05VD_f{k:05}.png": fabricate.png(fabricate.pick(k, [0, 3, 11]).astype(np.uint8))}
    fabricate.as_folder(files, tmp_path / "camvid")
    return tmp_path


@pytest.fixture(scope="session")
def predictor(model_folder):
    import clouds

    return clouds.load(model_folder)


@pytest.fixture(scope="session")
def traced(model_folder, tmp_path_factory) -> bytes:
    """What one tracing of the small model gives, for any size and batch: the rest of an export takes a blink. Traced
    once for all processes that share the tests."""
    from clouds.deploy.export.onnx_file import network
    from clouds.model.folder import load_model

    folder = tmp_path_factory.getbasetemp()
    kept = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "traced.onnx"
    with FileLock(f"{kept}.lock"):
        if not kept.exists():
            kept.write_bytes(network(load_model(model_folder), None, None).SerializeToString())
        return kept.read_bytes()


@pytest.fixture(scope="session")
def exported(model_folder, traced, tmp_path_factory):
    """exported(".onnx") or (".xml"): the small model as such a file of any size and batch, written once."""
    import onnx

    from clouds.deploy.export import onnx_file
    from clouds.deploy.export.export_file import write
    from clouds.deploy.export.export_request import ExportRequest
    from clouds.predict.predictor import load

    made = {}

    def file(ending: str) -> Path:
        if ending not in made:
            made[ending] = tmp_path_factory.mktemp("exported") / f"small{ending}"
            request = ExportRequest({".onnx": "onnx", ".xml": "openvino"}[ending], made[ending], batch=None)
            with mock.patch.object(onnx_file, "network", return_value=onnx.load_from_string(traced)):
                write(load(model_folder), request, made[ending], [])
        return made[ending]

    return file


FORMS = ["folder", pytest.param(".onnx", marks=[pytest.mark.slow, pytest.mark.long])]


@pytest.fixture(scope="session", params=FORMS)
def any_model(request, model_folder) -> Path:
    """What stands for the small model: its folder, and the file it is exported to."""
    if request.param == "folder":
        return model_folder
    return request.getfixturevalue("exported")(request.param)  # traced only where it is asked for


@pytest.fixture(scope="session")
def any_predictor(any_model):
    import clouds

    return clouds.load(any_model)
