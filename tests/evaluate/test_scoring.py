"""A run's scores: what is written of domains that are not on this disk."""

import shutil

import pytest

from clouds import cli
from clouds.base.files import read_json, write_json
from clouds.config.load import load_recipe
from clouds.data.photographs import find_photographs, read_photographs
from clouds.evaluate.domains import all_domains, missing_photos, rendered_domain, unseen_domains
from clouds.evaluate.run import score_run


def test_a_runs_results_list_the_photos_that_are_not_there(model_folder, root, tmp_path):
    recipe = load_recipe("demo", [f"data.root={root}", "evaluate.rendered_count=1", "evaluate.shorter_side=64"])
    run = tmp_path / "run"
    for name in ("model", "warmup"):
        shutil.copytree(model_folder, run / name)
    write_json(run / "work.json", {"images_trained_on": 3, "classes": {}})
    shutil.rmtree(root / "camvid")
    scored = score_run(recipe, run, [*unseen_domains(recipe)[-1:], rendered_domain("fog", 1)])
    for stage, name in (("warmup", "results-warmup.json"), ("joint", "results.json")):
        assert read_json(run / name) == scored[stage]
        assert [each["name"] for each in scored[stage]["missing"]] == ["camvid-day", "camvid-dusk", "bdd100k"]
        assert scored[stage]["missing"][0]["why"].startswith(f"data.root={root} holds no camvid/")


def test_without_a_root_no_photo_is_missed():
    assert missing_photos(load_recipe("demo", []), []) == []


@pytest.mark.slow
@pytest.mark.long
def test_a_domain_that_was_trained_on_without_labels_is_flagged(model_folder, root, tmp_path, capsys):
    """By the path of its images, or by their content where they were copied; never the warm-up model's score."""
    copies = tmp_path / "copies"
    copies.mkdir()
    for folder in ("test", "testannot"):  # a frame at dusk, which a run with camvid/ misses otherwise
        shutil.copy(root / "camvid" / folder / "Seq05VD_f00000.png", root / "camvid" / folder / "0001TP_008550.png")
    images = sorted((root / "camvid" / "test").glob("Seq05VD*.png"))
    for k, path in enumerate(images[1:4]):
        shutil.copy(path, copies / f"{k}.png")
    run, settings = tmp_path / "run", ["evaluate.shorter_side=64", f"data.root={root}"]
    for name in ("model", "warmup"):
        shutil.copytree(model_folder, run / name)
    write_json(run / "work.json", {"images_trained_on": 3, "classes": {}})
    for chosen, count in ((f"{{folder: {copies}}}", 3), ("{dataset: camvid, split: test}", 9)):
        recipe = load_recipe("demo", [*settings, f"data.unlabelled=[{chosen}]"])
        (run / "photographs.jsonl").unlink(missing_ok=True)
        read_photographs(recipe, find_photographs(recipe.data), run)
        for name in ("results.json", "results-warmup.json"):
            (run / name).unlink(missing_ok=True)
        domains = all_domains(["camvid-day", "idd-lite"], recipe)
        scored = score_run(recipe, run, domains)
        day, lite = scored["joint"]["domains"]
        assert day["trained_on_unlabelled"] == count
        assert "trained_on_unlabelled" not in lite
        assert "trained_on_unlabelled" not in scored["warmup"]["domains"][0]
        assert f"camvid-day: {count} of its 9 images are among the photos" in capsys.readouterr().err
        assert cli.run(["evaluate", str(run), "camvid-day", *settings]) == 0
        assert f"not unseen: camvid-day: trained on {count} of its 9 images" in capsys.readouterr().out
