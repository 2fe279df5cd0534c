"""Image embeddings on disk and in memory: made once, never more than the bound, whoever shares the folder."""

from multiprocessing import get_context

import numpy as np
import pytest
import torch

import tiny
import tiny_sam
from clouds.errors import UsageError
from clouds.foundation.embeddings import Cached, Recent, build_segmenter, key_of, nbytes
from clouds.foundation.segmenter import load_segmenter
from clouds.foundation.segmenters.superpixels import Superpixels


class Counting:
    """Embeds an image as tensors of its size, and counts."""

    name = "counting"

    def __init__(self, identity="counting 1", scale=1.0):
        self.identity, self.scale, self.calls = identity, scale, 0

    def encode(self, image):
        self.calls += 1
        pixels = torch.from_numpy(image.astype(np.float32)) * self.scale
        return {"size": torch.tensor(image.shape[:2]), "0": pixels[None]}

    def masks(self, embedding, points):
        return embedding, points


def picture(seed=0, height=20, width=30):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def held(folder):
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def test_an_image_is_encoded_once_for_all_that_share_the_folder(tmp_path):
    first, second = Counting(), Counting()
    made = Cached(first, tmp_path, 10**7).encode(picture())
    found = Cached(second, tmp_path, 10**7).encode(picture())
    assert (first.calls, second.calls) == (1, 0)
    assert made.keys() == found.keys()
    for name in made:
        assert made[name].dtype == found[name].dtype == (torch.int64 if name == "size" else torch.float16)
        assert torch.equal(made[name], found[name]), "what is computed is what is read back"


def test_images_weights_and_revisions_are_kept_apart(tmp_path):
    for identity, image in (("a", picture()), ("a", picture(1)), ("b", picture()), ("a", picture().reshape(30, 20, 3))):
        segmenter = Counting(identity)
        Cached(segmenter, tmp_path, 10**7).encode(image)
        assert segmenter.calls == 1
    assert key_of(picture(), "a") != key_of(picture().view(np.int8), "a")


def test_what_half_precision_cannot_hold_stays_whole(tmp_path):
    embedding = Cached(Counting(scale=1000.0), tmp_path, 10**7).encode(np.full((2, 2, 3), 255, np.uint8))
    assert embedding["0"].dtype == torch.float32
    assert (embedding["0"] == 255000).all()


def test_superpixels_come_back_as_the_array_they_are(tmp_path):
    plain = Superpixels().encode(picture(3, 40, 50))
    for _ in range(2):
        found = Cached(Superpixels(), tmp_path, 10**7).encode(picture(3, 40, 50))
        assert found.dtype == plain.dtype
        assert np.array_equal(found, plain)


@pytest.mark.parametrize("damage", [lambda b: b[:-3], lambda b: b"", lambda b: b[:5], lambda b: b"\xff" * len(b)])
def test_a_damaged_entry_is_made_anew(tmp_path, damage):
    segmenter = Counting()
    cached = Cached(segmenter, tmp_path, 10**7)
    whole = cached.encode(picture())
    (entry,) = tmp_path.rglob("*.safetensors")
    entry.write_bytes(damage(entry.read_bytes()))
    for _ in range(2):
        assert torch.equal(cached.encode(picture())["0"], whole["0"])
    assert segmenter.calls == 2


def test_it_stays_within_its_bound_and_throws_nothing_out(tmp_path):
    segmenter = Counting()
    Cached(segmenter, tmp_path / "one", 10**7).encode(picture())
    size = held(tmp_path / "one")
    bound = 3 * size + 7
    cached = Cached(segmenter, tmp_path / "bound", bound)
    for seed in [*range(6), 0, 1, 2]:
        cached.encode(picture(seed))
    assert segmenter.calls == 7
    assert held(tmp_path / "bound") == 3 * size
    assert int((tmp_path / "bound" / "embeddings" / "used").read_text()) == 3 * size


def fill(folder, start):
    cached = Cached(Counting(), folder, 30 * 4000)
    for k in range(start, start + 40):
        image = picture(k % 50)
        assert np.array_equal(cached.encode(image)["0"][0].numpy(), image)


@pytest.mark.slow
def test_processes_share_it_without_breaking_its_bound(tmp_path):
    context = get_context("spawn")
    workers = [context.Process(target=fill, args=(tmp_path, 20 * i)) for i in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    assert 20 * 3600 < held(tmp_path) <= 30 * 4000


def test_what_is_not_made_of_tensors_is_refused(tmp_path):
    segmenter = Counting()
    segmenter.encode = lambda image: object()
    with pytest.raises(UsageError, match=r"selftrain\.cache: embeddings of counting are object, neither an array nor"):
        Cached(segmenter, tmp_path, 10**7).encode(picture())


def test_memory_keeps_the_last_used_ones_within_its_bound():
    recent, made = Recent(100), []

    def get(key, size=40):
        return recent.get(key, lambda: made.append(key) or np.zeros(size, np.uint8))

    get("a"), get("b"), get("a")
    get("c")  # no room for three: b was used longest ago
    get("a"), get("b")
    assert made == ["a", "b", "c", "b"]
    assert recent.used == 80
    get("large", 500)
    assert recent.used == 500, "the last is kept whatever its size"
    get("a")
    assert (recent.used, made[-1]) == (40, "a")
    assert nbytes({"x": torch.zeros(3), "y": [np.zeros(5), (torch.zeros(2, dtype=torch.int8),)]}) == 12 + 40 + 2


def test_masks_from_kept_embeddings_are_those_of_the_model(tmp_path):
    """Half precision moves the masks of a random network by a few pixels."""
    for family in ("sam", "sam-hq", "sam2"):
        folder = tiny_sam.save(family, tmp_path / family)
        made = tiny.recipe(f"selftrain.segmenter={family}/{folder}", f"selftrain.cache={tmp_path / 'kept'}")
        cached, plain = build_segmenter(made), load_segmenter(f"{family}/{folder}")
        assert cached.name == plain.name
        image, points = picture(0, 45, 83), np.random.default_rng(0).uniform(0, 40, (6, 5, 2)).astype(np.float32)
        first, quality = cached.masks(cached.encode(image), points)
        again = build_segmenter(made)
        again.segmenter.encode = None  # it must come from the disk
        second, same = again.masks(again.encode(image), points)
        assert np.array_equal(first, second)
        assert np.array_equal(quality, same)
        wanted, close = plain.masks(plain.encode(image), points)
        assert (first != wanted).mean() < 0.01
        np.testing.assert_allclose(quality, close, atol=0.01)
        (folder / "model.safetensors").touch()
        assert load_segmenter(f"{family}/{folder}").identity == plain.identity, "content, not time"
        tiny_sam.save(family, folder, seed=1)
        assert load_segmenter(f"{family}/{folder}").identity != plain.identity


def test_training_from_kept_embeddings_equals_training_that_made_them(tmp_path):
    """A joint stage with SAM's architecture, then again in a run that may not encode at all."""
    from clouds.data.batches.batches import Batches
    from clouds.selftrain.pseudo import PseudoLabeller
    from clouds.selftrain.teacher import Teacher
    from clouds.train.loop import train_stage

    folder = tiny_sam.save("sam", tmp_path / "sam")
    sets = tiny.source_set(tmp_path / "source"), tiny.generated_set(tmp_path / "generated")
    made = tiny.recipe(
        f"selftrain.segmenter=sam/{folder}", f"selftrain.cache={tmp_path / 'kept'}", "selftrain.max_swallow=null"
    )
    runs = []
    for name in ("making", "reading"):
        (tmp_path / name).mkdir()
        model, segmenter = tiny.segmenter(), build_segmenter(made)
        if name == "reading":
            segmenter.segmenter.encode = None
        pseudo = PseudoLabeller(Teacher(model, made.selftrain.decay), segmenter, made.selftrain, 0)
        work = train_stage(model, "joint", made, Batches(*sets, made, 4, seed=1), tmp_path / name, pseudo)
        runs.append((work, model.state_dict()))
    assert runs[0][0] == runs[1][0]
    assert runs[0][0].pixels_decided > 0
    assert all(torch.equal(a, b) for a, b in zip(runs[0][1].values(), runs[1][1].values(), strict=True))
