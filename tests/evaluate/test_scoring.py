"""A run's scores: what is written of domains that are not on this disk."""

import shutil

from clouds.base.files import read_json, write_json
from clouds.config.load import load_recipe
from clouds.evaluate.domains import missing_photos, rendered_domain, unseen_domains
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
