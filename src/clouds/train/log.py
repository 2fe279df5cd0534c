"""What a stage leaves on disk: rows of ``metrics.jsonl``, warnings of odd losses, pictures of the pseudo-labels."""

import json
import math
import statistics
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clouds.base.files import write_json, write_jsonl
from clouds.base.progress import say
from clouds.config.label_sets import IGNORE
from clouds.config.records import Step, as_json, read_rows
from clouds.data.images import write_png
from clouds.data.label_files import write_labels
from clouds.selftrain.pseudo import Panel, panel_points

SPIKE = 5.0  # a loss so many times the median of late is worth a warning
LATE, LEAST = 50, 20  # steps that the median is of, and without as many of which it is nothing
SHOWN = 10  # steps whose mean the progress line shows
IDLE = 5  # steps in a row with loss 0 or gradients 0 that are worth a warning


class MetricsLog:
    """Means over ``every`` steps as rows of ``metrics.jsonl``, of the stage's last row over what is left of its
    ``steps``; on resume, rows past the checkpoint are dropped.

    Every process has one and adds its own steps; the main process writes. So losses are those of the whole batch, and
    what is told of pseudo-labels is of the main process's share.
    """

    def __init__(
        self, path: Path, stage: str, start: int, steps: int, every: int,
        unlogged: list[dict[str, float]] | None = None, writes: bool = True
    ) -> None:
        self.path, self.stage, self.steps, self.every, self.writes = path, stage, steps, every, writes
        self._rows: list[str] = []
        self.unlogged = unlogged or []  # steps of a row that is not full yet
        self._began, self._untimed = time.monotonic(), len(self.unlogged)
        self._late: deque[float] = deque(maxlen=LATE)
        self._warned = start - LATE
        self._idle = 0
        self._shares = {key: deque[float](maxlen=SHOWN) for key in ("decided", "changed")}
        if writes and path.exists():
            rows = read_rows(path, Step, grows=True)
            write_jsonl(path, [as_json(row) for row in rows if row.stage != stage or row.step <= start])

    def add(self, step: int, values: dict[str, float]) -> dict[str, float] | None:
        """One step's numbers; the row they fill, if they do. JSON has no word for what is not finite: left out."""
        values = {key: value for key, value in values.items() if math.isfinite(value)}
        self.unlogged.append(values)
        if "loss" in values:
            self._watch(step, values["loss"])
            self._watch_idle(step, values)
        for key, late in self._shares.items():
            if key in values:
                late.append(values[key])
        if (step + 1) % self.every and step + 1 < self.steps:
            return None
        keys = {key for row in self.unlogged for key in row}
        means = {key: float(np.mean([row[key] for row in self.unlogged if key in row])) for key in sorted(keys)}
        seconds = (time.monotonic() - self._began) / (len(self.unlogged) - self._untimed)
        self.unlogged, self._untimed, self._began = [], 0, time.monotonic()
        row = {**means, "seconds": round(seconds, 4)}
        self.note(step, row)
        return row

    def latest(self) -> str:
        """For a person, means over the steps of late: the loss; in joint training what refinement decided and changed
        of the pseudo-labels."""
        loss = f"loss {statistics.fmean([*self._late][-SHOWN:]):.3f}" if self._late else ""
        parts = [f"{key} {100 * statistics.fmean(values):.0f} %" for key, values in self._shares.items() if values]
        return ", ".join([loss, *parts]) if loss else ""

    def note(self, step: int, row: dict[str, float]) -> None:
        """A row of its own."""
        self._rows.append(json.dumps(as_json(Step(stage=self.stage, step=step + 1, **row))) + "\n")

    def flush(self) -> None:
        if self.writes:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(self._rows)
        self._rows = []

    def _watch(self, step: int, loss: float) -> None:
        """Warn of a loss far above those of late, once in a while."""
        usual = statistics.median(self._late) if len(self._late) >= LEAST else float("inf")
        if loss > SPIKE * usual and step - self._warned >= LATE and self.writes:
            say(f"{self.stage} step {step}: loss {loss:.3g}, where {usual:.3g} was usual; if it stays there, lower "
                "train.learning_rate or look at the data of this step")  # fmt: skip
            self._warned = step
        self._late.append(loss)

    def _watch_idle(self, step: int, values: dict[str, float]) -> None:
        """Warn where nothing is learned for some steps: at the fifth, and not again before something was."""
        nothing = values["loss"] == 0 or values.get("gradient_norm") == 0
        self._idle = self._idle + 1 if nothing else 0
        if self._idle == IDLE and self.writes:
            say(f"{self.stage} step {step}: loss {values['loss']:g} and gradients {values.get('gradient_norm', 0.0):g} "
                f"for {IDLE} steps: nothing is learned; look at the labels with `clouds check`")  # fmt: skip


class Panels:
    """At most ``most`` panels of a stage below ``folder``: of each of as many equal parts of its steps the first."""

    def __init__(self, folder: Path, most: int, steps: int, start: int) -> None:
        self.folder, self.most, self.every = folder, most, -(-steps // max(most, 1))
        saved = [int(each.name.split("-")[0]) for each in folder.glob("*-0")]
        self._parts = {step // self.every for step in saved if step < start}  # those that have one

    def due(self, step: int) -> bool:
        return bool(self.most) and step // self.every not in self._parts

    def save(self, panel: Panel, step: int, colors: Sequence[Sequence[int]]) -> dict[str, NDArray[np.uint8]]:
        """``save_panel`` in the folder of ``step``."""
        self._parts.add(step // self.every)
        return save_panel(panel, self.folder / f"{step:06d}-0", colors)


def save_panel(panel: Panel, folder: Path, colors: Sequence[Sequence[int]]) -> dict[str, NDArray[np.uint8]]:
    """Image, teacher's map, refined map (class indices), points and masks of one generated image, for the report.

    In masks.png a pixel's number tells the masks apart, 0 where there is none; after 255 they start again from 1.
    Returns the image and both maps in ``colors``, RGB a class, (H, W, 3), for trackers.
    """
    image = panel.image.permute(1, 2, 0).numpy()
    write_png(folder / "image.png", image)
    write_labels(folder / "teacher.png", panel.teacher, colors)
    write_labels(folder / "refined.png", panel.refined, colors)
    masks = panel.refinement.masks
    write_png(folder / "masks.png", np.where(masks, (masks - 1) % 255 + 1, 0).astype(np.uint8))
    write_json(folder / "points.json", panel_points(panel.refinement))
    palette = np.zeros((IGNORE + 1, 3), np.uint8)
    palette[: len(colors)] = colors
    return {"image": image, "teacher": palette[panel.teacher], "refined": palette[panel.refined]}
