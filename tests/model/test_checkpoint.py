"""Model folders and training checkpoints: whole or not at all, strict, never unpickled."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
from clouds.base import files
from clouds.deploy.export.onnx_file import properties
from clouds.errors import DataError
from clouds.foundation import registry
from clouds.model.folder import load_model, save_model
from clouds.model.folder_config import has_model
from clouds.model.start import start_from
from clouds.train import state as checkpoint
from clouds.train.state import Checkpoint, latest_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def model():
    return tiny.segmenter().eval()


@pytest.fixture
def folder(model, tmp_path):
    save_model(model, tmp_path / "model")
    return tmp_path / "model"


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("head", ["text", "linear"])
def test_a_model_comes_back_equal(head, tmp_path):
    model = tiny.segmenter(head=head).eval()
    save_model(model, tmp_path / "model")
    again = load_model(tmp_path / "model")
    x = torch.randint(0, 256, (1, 3, 50, 70), dtype=torch.uint8)
    assert torch.equal(model.semantic(x), again.semantic(x))
    assert (again.classes, again.synonyms, again.colors) == (model.classes, model.synonyms, model.colors)
    assert again.settings == model.settings
    assert not again.training


@pytest.mark.parametrize("photos", [None, frozenset(), frozenset({"123 ab12", "9 cd34"})])
def test_the_photos_it_learned_from_come_back_and_go_on_into_models_that_start_from_it(photos, tmp_path):
    model = tiny.segmenter()
    model.trained_on = photos
    save_model(model, tmp_path / "model")
    assert (tmp_path / "model" / "trained_on.txt").exists() == (photos is not None)
    again = load_model(tmp_path / "model")
    assert again.trained_on == photos
    save_model(again, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "model")
    started = tiny.segmenter()
    start_from(started, str(tmp_path / "again"))
    assert started.trained_on == photos
    about = properties(again)
    assert ("trained_on" in about) == (photos is not None)
    assert photos is None or json.loads(about["trained_on"]) == sorted(photos)


def test_others_may_read_a_model_folder(folder):
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_equal_models_are_equal_bytes(model, folder, tmp_path):
    assert sorted(contents(folder)) == ["config.json", "model.safetensors"]
    save_model(model, tmp_path / "twice")
    save_model(load_model(folder), tmp_path / "loaded")
    assert contents(tmp_path / "twice") == contents(tmp_path / "loaded") == contents(folder)


def test_saving_replaces_what_was_there(model, folder):
    (folder / "stale.txt").write_text("old")
    before = (folder / "model.safetensors").read_bytes()
    save_model(tiny.segmenter(seed=1), folder)
    assert sorted(contents(folder)) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() != before
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


def test_loading_does_not_fetch_pretrained_weights(folder, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(registry, "package_file", lambda *names: asked.append(names))
    load_model(folder)
    assert json.loads((folder / "config.json").read_text())["pretrained"] is False
    tiny.change_config(folder, pretrained=True)
    load_model(folder)
    assert not asked


def test_a_model_built_with_pretrained_weights_is_saved_without_the_wish_for_them(tmp_path):
    model = tiny.segmenter(pretrained=True)
    save_model(model, tmp_path / "model")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["pretrained"] is False
    stem = "backbone.network.conv_stem.weight"
    assert torch.equal(load_model(tmp_path / "model").state_dict()[stem], model.state_dict()[stem])


def rewrite(folder, change):
    tiny.change_config(folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def drop(tensors):
    del tensors["vocabulary"]


def add(tensors):
    tensors["head.surplus"] = torch.zeros(2)


def reshape(tensors):
    tensors["vocabulary"] = tensors["vocabulary"][:, :-1].contiguous()


@pytest.mark.parametrize(
    ("change", "named"), [(drop, "vocabulary"), (add, r"head\.surplus"), (reshape, r"vocabulary.*shape")]
)
def test_tensors_that_do_not_fit_are_refused_by_name(folder, change, named):
    rewrite(folder, change)
    with pytest.raises(DataError, match=rf"(?s)model\.safetensors.*{named}"):
        load_model(folder)


class Trap:
    def __reduce__(self):
        return pytest.fail, ("it was unpickled",)


@pytest.mark.parametrize("content", ["truncated", "pickle", "torch", "empty", "text"])
def test_a_file_that_is_no_whole_safetensors_is_refused_by_name(folder, content):
    path = folder / "model.safetensors"
    tiny.change_config(folder)
    if content == "torch":
        torch.save({"vocabulary": torch.zeros(2)}, path)
    else:
        path.write_bytes(
            {
                "truncated": path.read_bytes()[:-1000],
                "pickle": pickle.dumps(Trap()),
                "empty": b"",
                "text": b"version https://git-lfs.github.com/spec/v1\n",
            }[content]
        )
    with pytest.raises(DataError, match=r"model\.safetensors"):
        load_model(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(DataError, match=name):
        load_model(folder)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        load_model(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "change",
    [
        None,
        {"vision": "resnet9"},
        {"surplus": 1},
        {"hidden": "wide"},
        {"hidden": -32},
        {"hidden": 33},
        {"synonyms": [1, 2]},
        {"synonyms": []},
        {"hidden": 2**20},
        {"queries": 10**12},
        {"layers": 10**6},
        {"text_dim": 2**40},
        {"shorter_side": 100_000},
        {"shorter_side": 3},
        {"classes": ["road", "sky", "sky"]},
        {"classes": [f"class {k}" for k in range(300)]},
        {"classes": [1, 2, 3]},
        {"colors": [[0, 0, 999]] * 3},
        {"colors": []},
        {"seen": [True]},
        {"vision": ["a"]},
        {"heads": 0},
    ],
)
def test_a_broken_configuration_is_named(folder, change):
    tiny.change_config(folder, **(change or {}))
    if change is None:
        (folder / "config.json").write_text("[1, 2")
    with pytest.raises(DataError, match=r"config\.json: not a CLOUDS model configuration"):
        load_model(folder)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff\xfe", b'{"hidden": ' + b"9" * 5000 + b"}", b"3", b'"a"'])
def test_a_configuration_that_is_no_object_is_named(folder, content):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(DataError, match=r"config\.json: not a CLOUDS model configuration"):
        load_model(folder)


def test_nothing_of_a_declared_size_is_made_before_the_weights_are_compared(folder, monkeypatch):
    tiny.change_config(folder, hidden=8192, ffn=16384, layers=100, pixel_layers=100)  # 190 GB
    with pytest.raises(DataError, match=r"does not fit config\.json beside it: .* is missing"):
        load_model(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("place", [0.3, 0.6])
def test_a_flipped_byte_is_found_by_the_digest(folder, name, place, capsys):
    data = bytearray((folder / name).read_bytes())
    at = int(len(data) * place)
    data[at] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(DataError, match=rf"{name}: (its content is not what was written|not a CLOUDS model)"):
        load_model(folder)
    assert not has_model(folder)
    assert name in capsys.readouterr().err


def test_weights_are_hashed_once_by_a_look_and_the_load_after_it(folder, monkeypatch):
    real, read = files.sha256, []
    monkeypatch.setattr(files, "sha256", lambda path: read.append(path) or real(path))
    assert has_model(folder)
    load_model(folder)
    assert read == [folder / "model.safetensors"]


def test_folders_without_a_digest_load_as_before(folder):
    tiny.change_config(folder)
    load_model(folder)
    assert has_model(folder)


def test_weights_that_are_no_numbers_are_refused(folder):
    rewrite(folder, lambda tensors: tensors["vocabulary"][0].fill_(float("nan")))
    with pytest.raises(DataError, match=r"model\.safetensors: holds weights that are no numbers \(NaN\) in vocabulary"):
        load_model(folder)


@pytest.mark.parametrize("error", [OSError("no space left on device"), KeyboardInterrupt()])
def test_a_crash_while_saving_leaves_the_old_folder(folder, monkeypatch, error):
    before = contents(folder)
    other = tiny.segmenter(seed=1)
    whole = other.save_pretrained

    def crash(target, **arguments):
        whole(target, **arguments)
        raise error

    monkeypatch.setattr(other, "save_pretrained", crash)
    with pytest.raises(type(error)):
        save_model(other, folder)
    assert contents(folder) == before
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


def state(step, stage="joint"):
    generator = torch.Generator().manual_seed(step)
    tensors = {
        group: {"a": torch.randn(300, generator=generator), "b.c": torch.randn(2, 3, generator=generator)}
        for group in ("student", "teacher")
    }
    return Checkpoint(stage, step, tensors, {"updates": step, "mean": 0.1 * step, "seen": [1, step]})


def same(found, wanted):
    assert found is not None
    assert (found.stage, found.step, found.counts) == (wanted.stage, wanted.step, wanted.counts)
    assert found.tensors.keys() == wanted.tensors.keys()
    for group, tensors in wanted.tensors.items():
        assert found.tensors[group].keys() == tensors.keys()
        assert all(torch.equal(found.tensors[group][name], t) for name, t in tensors.items())


def test_the_last_two_checkpoints_of_a_stage_are_kept(tmp_path):
    save_checkpoint(tmp_path, state(5, "warmup"))
    for step in (9, 10, 100):
        save_checkpoint(tmp_path, state(step))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["joint-000010", "joint-000100", "warmup-000005"]
    same(latest_checkpoint(tmp_path, "joint"), state(100))
    same(latest_checkpoint(tmp_path, "warmup"), state(5, "warmup"))


def test_without_a_checkpoint_there_is_none(tmp_path):
    assert latest_checkpoint(tmp_path / "nowhere", "joint") is None
    assert latest_checkpoint(tmp_path, "joint") is None


def test_the_same_step_can_be_saved_again(tmp_path):
    save_checkpoint(tmp_path, state(3))
    save_checkpoint(tmp_path, state(3))
    same(latest_checkpoint(tmp_path, "joint"), state(3))


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("name", ["student.safetensors", "teacher.safetensors"])
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_a_flipped_byte_is_found_and_the_checkpoint_before_taken(tmp_path, capsys, name, place):
    save_checkpoint(tmp_path, state(1))
    path = save_checkpoint(tmp_path, state(2)) / name
    flip(path, int(place * (path.stat().st_size - 1)))
    same(latest_checkpoint(tmp_path, "joint"), state(1))
    assert "joint-000002" in capsys.readouterr().err


def test_no_flipped_byte_of_the_state_file_goes_into_a_run(tmp_path):
    save_checkpoint(tmp_path, state(1))
    path = save_checkpoint(tmp_path, state(2)) / "state.json"
    whole, rejected = path.read_bytes(), 0
    for position in range(len(whole)):
        flip(path, position)
        found = latest_checkpoint(tmp_path, "joint")
        same(found, state(found.step))
        rejected += found.step == 1
        path.write_bytes(whole)
    assert rejected > len(whole) / 2


@pytest.mark.parametrize("name", ["student.safetensors", "state.json"])
def test_a_missing_or_cut_file_is_found(tmp_path, name):
    save_checkpoint(tmp_path, state(1))
    path = save_checkpoint(tmp_path, state(2)) / name
    path.write_bytes(path.read_bytes()[:-20])
    same(latest_checkpoint(tmp_path, "joint"), state(1))
    path.unlink()
    same(latest_checkpoint(tmp_path, "joint"), state(1))
    path.write_text("[]")
    same(latest_checkpoint(tmp_path, "joint"), state(1))


def test_when_every_checkpoint_is_damaged_there_is_none(tmp_path):
    for step in (1, 2):
        (save_checkpoint(tmp_path, state(step)) / "state.json").unlink()
    assert latest_checkpoint(tmp_path, "joint") is None


def test_a_crash_while_saving_a_checkpoint_leaves_the_ones_before(tmp_path, monkeypatch):
    for step in (1, 2):
        save_checkpoint(tmp_path, state(step))

    def crash(path, value):
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint, "write_json", crash)
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(tmp_path, state(3))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["joint-000001", "joint-000002"]
    same(latest_checkpoint(tmp_path, "joint"), state(2))
