"""SAM and its descendants through one protocol: tiny models of the true classes, loaded as published ones are."""

import json
import shutil
from typing import get_type_hints

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import tiny
import tiny_sam
from clouds import pipeline
from clouds.config.backends import names
from clouds.config.recipe import SelfTrain
from clouds.errors import BackendError, DataError, UsageError
from clouds.foundation.registry import backend_name
from clouds.foundation.segmenter import check_segmenter, load_segmenter
from clouds.foundation.segmenters.sam import FAMILIES, quiet
from clouds.foundation.segmenters.sam_folders import MODEL_TYPES
from clouds.testing import SegmenterContract
from clouds.testing.segmenter_contract import asked as prompts
from clouds.testing.segmenter_contract import blocks as picture

PROCESSORS = {
    "sam": "SamProcessor", "sam-hq": "SamHQProcessor", "sam2": "Sam2Processor", "edgetam": "Sam2Processor",
    "sam3": "Sam3TrackerProcessor",
}  # fmt: skip
each_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("sams")
    return {family: tiny_sam.save(family, root / family) for family in FAMILIES}


@pytest.fixture(scope="module")
def segmenters(folders):
    return {family: load_segmenter(f"{family}/{folder}") for family, folder in folders.items()}


class TestFamilies(SegmenterContract):
    @pytest.fixture(params=FAMILIES)
    def segmenter(self, segmenters, request):
        return segmenters[request.param]


@each_family
@pytest.mark.parametrize("shape", [(45, 83), (83, 45), (64, 64), (3, 200), (130, 97)])
def test_candidates_are_those_of_the_models_own_processor(segmenters, family, shape):
    """Preparing, prompting and bringing masks to the image's size as transformers documents it, in one forward pass."""
    import transformers

    segmenter, image, points = segmenters[family], picture(*shape), prompts(6, *shape)
    side = tiny_sam.SIDE[family]
    square = {"height": side, "width": side}
    kind = getattr(transformers, FAMILIES[family].processor)
    padded = family in ("sam", "sam-hq")
    prepare = kind(size={"longest_edge": side}, pad_size=square) if padded else kind(size=square)
    processor = getattr(transformers, PROCESSORS[family])(prepare)
    with torch.no_grad():
        inputs = processor(
            images=image, input_points=[points.tolist()], return_tensors="pt", input_data_format="channels_last"
        )
        inputs["input_points"] = inputs["input_points"].float()
        out = segmenter.model(**{k: v for k, v in inputs.items() if "sizes" not in k}, multimask_output=True)
        sizes = [inputs["original_sizes"]] + ([inputs["reshaped_input_sizes"]] if padded else [])
        wanted = processor.post_process_masks(out.pred_masks, *sizes)[0].numpy()
    masks, quality = segmenter.masks(segmenter.encode(image), points)
    assert masks.shape == wanted.shape
    assert (masks != wanted).mean() < 1e-4
    assert_allclose(quality, out.iou_scores[0].numpy(), atol=1e-5)


@each_family
def test_prompts_come_in_chunks_bounded_by_memory(segmenters, family, monkeypatch):
    segmenter = segmenters[family]
    embedding, points = segmenter.encode(picture(200, 300)), prompts(40, 200, 300)
    masks, quality = segmenter.masks(embedding, points)
    sizes, resize = [], torch.nn.functional.interpolate

    def counting(*arguments, **options):
        made = resize(*arguments, **options)
        sizes.append((len(made) // 3, made.nbytes))  # three planes a prompt
        return made

    bound = 2**23
    monkeypatch.setattr(segmenter, "chunk_bytes", bound)
    monkeypatch.setattr(torch.nn.functional, "interpolate", counting)
    chunked, qualities = segmenter.masks(embedding, points)
    last = [count for count, _ in sizes]
    assert 1 < max(last) < 40
    assert max(nbytes for _, nbytes in sizes) <= bound
    assert (chunked != masks).mean() < 1e-4
    assert_allclose(qualities, quality, atol=1e-5)
    monkeypatch.setattr(segmenter, "chunk_bytes", 1)
    alone, _ = segmenter.masks(embedding, points[:3])
    assert (alone != masks[:3]).mean() < 1e-4
    assert sizes[-1][0] == 1


@pytest.mark.parametrize("family", ["sam", "sam-hq"])
def test_what_the_decoder_says_of_the_padding_stays_there(segmenters, family):
    """A wide image fills the upper part of the square; low-resolution cells below it claim everything."""
    segmenter = segmenters[family]
    frame = segmenter.encode(picture(40, 80))["frame"].tolist()
    assert frame == [32, 64]
    low = torch.full((2, 3, 16, 16), -1.0)
    low[:, :, 8:] = 50.0  # cells of 4 pixels: exactly what is below the image
    masks = segmenter._logits(low, frame, (40, 80)) > 0
    assert not masks[:, :, :-3].any(), "only interpolation at the border, half a cell, sees the padding"
    low = -low
    assert (segmenter._logits(low, frame, (40, 80)) > 0)[:, :, :-3].all()


@each_family
def test_what_is_no_image_and_no_point_is_refused(segmenters, family):
    segmenter = segmenters[family]
    embedding = segmenter.encode(picture())
    for bad in (np.zeros((2, 2)), np.zeros((1, 0, 2)), np.full((1, 1, 2), np.nan), np.zeros((1, 2, 3))):
        with pytest.raises(DataError, match=r"points must be finite, \(P, K, 2\)"):
            segmenter.masks(embedding, bad.astype(np.float32))
    for bad in (picture().astype(float), picture()[..., 0], np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(DataError, match=r"image must be uint8 \(H, W, 3\)"):
            segmenter.encode(bad)


@each_family
def test_a_second_pass_hands_each_prompts_best_mask_on(segmenters, folders, family):
    """As the model's own forward pass does it for one prompt on one image."""
    once, twice = segmenters[family], load_segmenter(f"{family}/{folders[family]}", second_pass=True)
    image, points = picture(), prompts(6)
    embedding = twice.encode(image)
    masks, quality = twice.masks(embedding, points)
    first, rated = once.masks(embedding, points)
    assert (masks.shape, quality.shape) == ((6, 3, 45, 83), (6, 3))
    assert (masks != first).any()
    assert np.abs(quality - rated).max() > 1e-4
    frame, maps = embedding["frame"].tolist(), [embedding[str(i)] for i in range(len(embedding) - 2)]
    scale = np.float32([frame[1] / 83, frame[0] / 45])
    for i in range(6):
        asked = {**once.family.inputs(maps), "input_points": torch.from_numpy(points[None, i : i + 1] * scale)}
        with torch.no_grad():
            out = once.model(**asked, multimask_output=True)
            best = out.pred_masks[0, 0, out.iou_scores[0, 0].argmax()]
            out = once.model(**asked, input_masks=best[None, None], multimask_output=True)
        assert_allclose(quality[i], out.iou_scores[0, 0].numpy(), atol=1e-5)
        wanted = once._logits(out.pred_masks[0], frame, (45, 83)) > 0
        assert (masks[i] != wanted[0].numpy()).mean() < 1e-3
    twice.chunk_bytes = 1
    assert (twice.masks(embedding, points)[0] != masks).mean() < 1e-3
    none, nothing = twice.masks(embedding, prompts(0))
    assert (none.shape, nothing.shape) == ((0, 3, 45, 83), (0, 3))


def test_stability_is_what_stays_when_the_threshold_moves(segmenters, monkeypatch):
    segmenter = segmenters["sam"]
    logits = torch.full((1, 3, 45, 83), -9.0)
    logits[0, 0, :20], logits[0, 0, :10], logits[0, 0, 30:35] = 0.5, 4.0, -0.5
    logits[0, 1, :7] = 1.5
    monkeypatch.setattr(segmenter, "_logits", lambda *_: logits)
    masks, _, stability = segmenter.stable_masks(segmenter.encode(picture()), prompts(1))
    assert stability.tolist() == [[pytest.approx(10 / 25), 1.0, 0.0]]
    assert masks[0].sum(axis=(1, 2)).tolist() == [20 * 83, 7 * 83, 0]


@each_family
def test_weights_take_the_dtype_asked_for(folders, family):
    segmenter = load_segmenter(f"{family}/{folders[family]}", dtype="bfloat16")
    embedding = segmenter.encode(picture())
    assert embedding["0"].dtype == torch.bfloat16
    masks, quality = segmenter.masks(embedding, prompts(2))
    assert masks.shape == (2, 3, 45, 83)
    assert np.isfinite(quality).all()
    assert segmenter.identity != load_segmenter(f"{family}/{folders[family]}").identity


def test_loading_is_silent_and_strict(folders, tmp_path, capfd):
    folder = tmp_path / "sam"
    shutil.copytree(folders["sam"], folder)
    load_segmenter(f"sam/{folder}")
    assert capfd.readouterr() == ("", "")
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    lacking = {name: tensor for name, tensor in tensors.items() if "iou_token" not in name}
    save_file(lacking, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match=r"do not fit SamModel\. 1 missing: mask_decoder\.iou_token\.weight"):
        load_segmenter(f"sam/{folder}")
    whole = (folders["sam"] / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be loaded as SamModel"):
        load_segmenter(f"sam/{folder}")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    with pytest.raises(DataError, match="cannot be loaded as SamModel"):
        load_segmenter(f"sam/{folder}")


def test_a_video_models_configuration_loads_too(tmp_path):
    """What SAM 2, EdgeTAM and SAM 3 publish is the video model; its image part is taken."""
    folder = tiny_sam.save("sam2", tmp_path / "sam2")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "sam2_video"}))
    with quiet():
        segmenter = load_segmenter(f"sam2/{folder}")
    assert segmenter.masks(segmenter.encode(picture()), prompts(1))[0].shape == (1, 3, 45, 83)


def test_sam_3_is_taken_out_of_its_video_model(tmp_path):
    """The published file's layout: the detector's backbone, a neck of the tracker's own, and the tracker."""
    from safetensors.torch import save_file

    folder = tiny_sam.save("sam3", tmp_path / "sam3")
    config = json.loads((folder / "config.json").read_text())
    video = {"model_type": "sam3_video", "tracker_config": {**config, "model_type": "sam3_tracker_video"}}
    (folder / "config.json").write_text(json.dumps(video))
    tensors = tiny_sam.model("sam3").state_dict()
    moved = {
        "vision_encoder.neck.": "tracker_neck.",
        "vision_encoder.backbone.": "detector_model.vision_encoder.backbone.",
    }
    published = {"detector_model.text_encoder.weight": torch.zeros(3)}
    for name, tensor in tensors.items():
        old = next((old for old in moved if name.startswith(old)), "")
        published[moved.get(old, "tracker_model.") + name.removeprefix(old)] = tensor.contiguous()
    save_file(published, folder / "model.safetensors", {"format": "pt"})
    found = load_segmenter(f"sam3/{folder}").model.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_names_are_checked_without_loading_anything(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    sam = folders["sam"]
    for name, revision, said in (
        ("sams/facebook/sam-vit-base", None, r"did you mean sam(2|3|)/facebook/sam-vit-base\? allowed: grouped"),
        ("sam", None, "selftrain.segmenter: unknown 'sam'; allowed: "),
        ("sam/vit", None, "expected sam/ORGANISATION/NAME of the hub, or sam/PATH of a folder that exists"),
        (f"sam/{tmp_path}/none", None, "expected sam/ORGANISATION/NAME of the hub"),
        (f"sam/{tmp_path}/empty", None, r"no readable config\.json there"),
        (f"sam2/{sam}", None, f"model_type 'sam'; expected one of sam2, sam2_video for sam2; use sam/{sam}"),
        (f"sam/{sam}", "main", "segmenter_revision: got 'main', but .* is local"),
        ("superpixels", "main", "segmenter: got the revision 'main', but superpixels takes none"),
    ):
        with pytest.raises(UsageError, match=said):
            check_segmenter(name, revision)
        with pytest.raises(UsageError, match=said):
            load_segmenter(name, revision=revision)
    check_segmenter("sam/facebook/sam-vit-base", "main")
    check_segmenter(f"sam/{sam}", fetch=True)


def test_without_the_hub_the_wanted_weights_are_named():
    said = (
        r"weights of sam2/facebook/sam2\.1-hiera-tiny: the hub did not answer with config\.json and \*\.safetensors of "
        r"facebook/sam2\.1-hiera-tiny at revision abc .* name their folder: selftrain\.segmenter=sam2/PATH"
    )
    name = "sam2/facebook/sam2.1-hiera-tiny"
    with pytest.raises(BackendError, match=said):
        check_segmenter(name, "abc", fetch=True)
    with pytest.raises(BackendError, match=said):
        load_segmenter(name, revision="abc")


def test_recipes_know_the_same_names(tmp_path):
    assert set(MODEL_TYPES) == {*FAMILIES, "sam3-text"}
    accepted = get_type_hints(SelfTrain, include_extras=True)["segmenter"].__metadata__[0].func
    for name in names("segmenter"):
        assert accepted(name) == name
    with pytest.raises(UsageError, match=r"did you mean sam2/x\? expected grouped-superpixels or superpixels or "):
        tiny.recipe("selftrain.segmenter=sam22/x")
    assert not list(tmp_path.iterdir())


def test_a_segmenter_that_is_not_there_stops_a_run_before_any_work(tmp_path):
    for name, kind in (("sam/nowhere", UsageError), ("sam/facebook/sam-vit-base", BackendError)):
        with pytest.raises(kind, match="sam/"):
            pipeline.train(tiny.recipe(f"selftrain.segmenter={name}"), tmp_path / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"selftrain\.cache: .*file.* cannot be written"):
        pipeline.train(tiny.recipe(f"selftrain.cache={tmp_path / 'file' / 'x'}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_displayed_names_say_where_weights_come_from(folders):
    assert backend_name("sam/facebook/sam-vit-base") == "sam (facebook/sam-vit-base)"
    assert backend_name("sam3/facebook/sam3", "1a2b") == "sam3 (facebook/sam3 at 1a2b)"
    name = f"sam-hq/{folders['sam-hq']}"
    assert load_segmenter(name).name == backend_name(name) == f"sam-hq architecture ({folders['sam-hq']})"
