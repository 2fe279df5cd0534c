"""The cache of decoded images: the same pixels, never more than its bound, whoever shares it."""

import os
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

import tiny
from clouds.data.cache import DAY, DecodedCache
from clouds.data.datasets import Segmentation
from clouds.data.images import write_png
from clouds.data.source import Source
from clouds.errors import DataError


def picture(k: int, side: int = 20) -> np.ndarray:
    return np.random.default_rng(k).integers(0, 256, (side, side), np.uint8)


def held(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.npy"))


def test_what_was_made_once_is_read_after(tmp_path):
    cache, made = DecodedCache(tmp_path, 10**6), []
    key = "ab" * 32

    def make():
        made.append(1)
        return picture(0)

    first, second = cache.get(key, make), cache.get(key, make)
    assert len(made) == 1
    assert np.array_equal(first, second)
    assert not second.flags.writeable
    assert isinstance(second, np.memmap), "a crop reads its own rows only"
    assert np.array_equal(DecodedCache(tmp_path, 10**6).get(key, make), first)
    assert len(made) == 1


def test_the_source_reads_the_same_through_it(tmp_path, monkeypatch):
    plain = tiny.source_set(tmp_path / "set")
    cached = Source(plain.sets, DecodedCache(tmp_path / "cache", 10**7))
    for _ in range(2):
        for i in range(len(plain)):
            assert all(np.array_equal(a, b) for a, b in zip(plain[i], cached[i], strict=True))
    monkeypatch.setattr(Segmentation, "image", lambda *_: pytest.fail("decoded again"))
    assert cached[0][0].shape == (96, 128, 3)


def test_a_changed_file_is_decoded_again(tmp_path):
    plain = tiny.source_set(tmp_path / "set", 1)
    cached = Source(plain.sets, DecodedCache(tmp_path / "cache", 10**7))
    before = np.array(cached[0][0])
    write_png(tmp_path / "set" / "images" / "0.png", 255 - before)
    os.utime(tmp_path / "set" / "images" / "0.png", ns=(0, 12345))
    assert np.array_equal(cached[0][0], 255 - before)


def test_labels_of_another_meaning_are_kept_apart(tmp_path):
    tiny.source_set(tmp_path / "set", 1)
    cache = DecodedCache(tmp_path / "cache", 10**7)
    maps = [dict.fromkeys(range(19), 0), dict.fromkeys(range(19), 5)]
    sets = [Segmentation("folder", tmp_path / "set", label_map=each) for each in maps]
    for _ in range(2):
        assert [int(Source([each], cache).label(0).max()) for each in sets] == [0, 5]


def test_errors_pass_through_and_leave_nothing(tmp_path):
    cache = DecodedCache(tmp_path, 10**6)

    def fail():
        raise DataError("x.png: broken")

    with pytest.raises(DataError, match=r"x\.png"):
        cache.get("cd" * 32, fail)
    assert held(tmp_path) == 0


@pytest.mark.parametrize(
    "damage", [lambda b: b[:90], lambda b: b"", lambda b: b"\x93NUMPY" + b[6:40], lambda b: b[:-3]]
)
def test_a_damaged_entry_is_made_anew(tmp_path, damage):
    cache = DecodedCache(tmp_path, 10**6)
    cache.get("ef" * 32, lambda: picture(0))
    (entry,) = tmp_path.rglob("*.npy")
    entry.write_bytes(damage(entry.read_bytes()))
    assert np.array_equal(cache.get("ef" * 32, lambda: picture(0)), picture(0))
    assert np.array_equal(cache.get("ef" * 32, lambda: pytest.fail("not kept")), picture(0))


def test_it_stays_within_its_bound_and_goes_on(tmp_path):
    bound = 5 * (20 * 20 + 128) + 7
    cache = DecodedCache(tmp_path, bound)
    for k in range(9):
        assert np.array_equal(cache.get(f"{k:064d}", lambda k=k: picture(k)), picture(k))
    assert cache.full
    assert held(tmp_path) <= bound
    assert len(list(tmp_path.rglob("*.npy"))) == 5
    smaller = DecodedCache(tmp_path, bound // 2)
    assert held(tmp_path) <= bound // 2
    assert np.array_equal(smaller.get(f"{8:064d}", lambda: picture(8)), picture(8))


def test_what_was_not_used_for_a_month_makes_room(tmp_path):
    cache = DecodedCache(tmp_path, 10**6)
    for k in range(3):
        cache.get(f"{k:064d}", lambda k=k: picture(k))
    old, used, _ = sorted(tmp_path.rglob("*.npy"))
    for path in (old, used):
        os.utime(path, (time.time() - 31 * DAY,) * 2)
    cache.get(f"{1:064d}", lambda: picture(1))
    left, written = (tmp_path / "00" / f".9.{k}.2.tmp" for k in range(2))
    left.write_bytes(b"x")
    os.utime(left, (0, 0))
    written.write_bytes(b"another process writes it, and the clock was set by nine hours")
    os.utime(written, (time.time() - 9 * 3600,) * 2)
    DecodedCache(tmp_path, 10**6)
    assert not old.exists()
    assert used.exists()
    assert not left.exists()
    assert written.exists()
    written.unlink()
    DecodedCache(tmp_path, 10**6)
    assert int((tmp_path / "used").read_text()) == held(tmp_path)


def fill(folder: Path, bound: int, start: int) -> None:
    cache = DecodedCache(folder, bound)
    for k in range(start, start + 60):
        found = cache.get(f"{k % 80:064d}", lambda k=k: picture(k % 80))
        assert np.array_equal(found, picture(k % 80))


@pytest.mark.slow
@pytest.mark.long
def test_processes_share_it_without_breaking_its_bound(tmp_path):
    bound = 30 * (20 * 20 + 128)
    context = get_context("spawn")
    workers = [context.Process(target=fill, args=(tmp_path, bound, 20 * i)) for i in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert 20 * 528 < held(tmp_path) <= bound


def test_a_full_disk_turns_it_off(tmp_path, monkeypatch):
    cache = DecodedCache(tmp_path, 10**6)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    assert np.array_equal(cache.get("12" * 32, lambda: picture(1)), picture(1))
    assert cache.full
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".npy", ".tmp")]
    assert int((tmp_path / "used").read_text()) == 0


def test_a_file_that_is_gone_is_named_as_without_a_cache(tmp_path):
    plain = tiny.source_set(tmp_path / "set", 2)
    cached = Source(plain.sets, DecodedCache(tmp_path / "cache", 10**7))
    for kind in ("images", "labels"):
        (tmp_path / "set" / kind / "0.png").rename(tmp_path / "away.png")
        for source in (plain, cached):
            with pytest.raises(DataError, match=f"{kind}/0.png"):
                np.asarray(source[0][0])
        (tmp_path / "away.png").rename(tmp_path / "set" / kind / "0.png")
