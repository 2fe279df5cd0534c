"""What the published implementation computed, recomputed: a checkpoint in its format, imported by the real command.

The cases are in ../shared/golden (its README has the rule the weights are made by and the tolerances); without that
folder these tests are skipped and say so.
"""

import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

import clouds
from clouds.cli import run

SHARED = [folder / "shared" / "golden" for folder in Path(__file__).resolve().parents]
GOLDEN = next((folder for folder in SHARED if folder.is_dir()), SHARED[2])
CASES = (pytest.param("official_rn50", marks=pytest.mark.long), "official_rn50_text", "official_rn50_odd")


def golden(case: str) -> Path:
    path = GOLDEN / f"{case}.json"
    if not path.is_file():
        pytest.skip(f"GOLDEN CASES MISSING: {path} is not there, the check against the reference did not run")
    return path


def fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The rule of the golden cases' README."""
    x = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    fan_in = math.prod(shape[1:])
    if name.endswith("logit_scale"):
        return np.full(shape, math.log(1 / 0.07), np.float32)
    if name.endswith("running_var"):
        return 1 + 0.1 * np.abs(x)
    if name.endswith("running_mean"):
        return 0.1 * x
    if name.endswith("gamma"):
        return 0.1 + 0.02 * x
    as_drawn = ("query_feat", "query_embed", "level_embed", "token_embedding", "void_embedding")
    if name.split(".")[-2:][0] in as_drawn or name.endswith("positional_embedding"):
        return x
    if "predictor." in name and name.endswith(("out_proj.weight", "linear2.weight")):
        return x / np.float32(4 * math.sqrt(fan_in))
    if name.endswith(("in_proj_weight", "mask_embed.layers.2.weight", "class_embed.layers.2.weight")):
        return x * np.float32(3 / math.sqrt(fan_in))
    if len(shape) >= 2:
        return x / np.float32(math.sqrt(fan_in))
    return 1 + 0.1 * x if name.endswith("weight") else 0.05 * x


def checkpoint_of(spec: dict, path: Path) -> Path:
    state = {}
    for name, shape, dtype in spec["state_dict"]:
        made = dtype.startswith("float") and not name.startswith("criterion")
        state[name] = torch.from_numpy(np.asarray(fill(name, tuple(shape)))) if made else torch.zeros(
            shape, dtype=getattr(torch, dtype))
    torch.save({"model": state}, path)
    return path


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Spec -> predictor, through a file in the published format and the command; cases of equal weights share one."""
    made = {}

    def get(spec: dict):
        key = json.dumps(spec["state_dict"])
        if key not in made:
            folder = tmp_path_factory.mktemp("published")
            checkpoint = checkpoint_of(spec, folder / "published.pth")
            assert run(["import", str(checkpoint), "--out", str(folder / "model"), "--json"]) == 0
            checkpoint.unlink()
            made[key] = clouds.load(folder / "model")
        return made[key]

    return get


@pytest.fixture(params=CASES)
def case(request, imported):
    """Predictor of the imported model, the spec, and what the reference computed."""
    spec = json.loads(golden(request.param).read_text())
    with np.load(golden(request.param).with_suffix(".npz")) as stored:
        wanted = {name: torch.from_numpy(stored[name]) for name in stored.files}
    return imported(spec), spec, wanted


def hold(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """Within 1 % of the reference's standard deviation on at least 99 % of the entries."""
    wanted = wanted.float()
    assert found.shape == wanted.shape
    close = ((found - wanted).abs() <= 0.01 * wanted.std()).float().mean()
    assert close >= 0.99, close


@pytest.mark.slow
@torch.no_grad()
def test_an_imported_checkpoint_computes_what_the_reference_did(case):
    predictor, spec, wanted = case
    model, images = predictor.model, wanted["image"][None]
    assert model.synonyms == spec["synonyms"]
    assert torch.allclose(model.mean.flatten(), torch.tensor(spec["pixel_mean"]), atol=1e-4)
    assert torch.allclose(model.std.flatten(), torch.tensor(spec["pixel_std"]), atol=1e-4)
    assert torch.allclose(model.vocabulary, wanted["text"], atol=1e-4)
    features = model.features(images)
    for stride, name in ((4, "res2_mean"), (32, "res5_mean")):
        mean = features[stride].mean((2, 3)).flatten()
        assert torch.allclose(mean, wanted[name].flatten(), atol=1e-4)
    prediction = model.decode(features, auxiliary=False)
    hold(prediction.logits[-1], wanted["logits"])
    hold(prediction.masks(), wanted["masks"])
    hold(predictor.semantic(images)[0, :, ::2, ::2], wanted["semantic"])
    hold(predictor.semantic(images, ensemble=True)[0, :, ::2, ::2], wanted["semantic_ensemble"])
