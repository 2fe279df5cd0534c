"""Any diffusers text-to-image pipeline as an image generator: Stable Diffusion, SDXL and its few-step kin, FLUX, ...

``Pipeline`` is what image-to-image shares with it: finding, loading, placing, asking. An image's noise comes from a
generator of its own, seeded on the CPU, so that it does not depend on the device; what a batch computes still depends
on its size in the last bits, which is why batches are fixed by whoever asks.
"""

import hashlib
import inspect
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clouds.base.files import as_bytes
from clouds.base.hub import hub_problem
from clouds.config.backends import Backend
from clouds.config.recipe import Diffusion, Generate
from clouds.errors import BackendError, UsageError, cause

BACKEND = Backend(
    "generator", "diffusers/HUB_ID_OR_PATH", "{model} (diffusers)", needs=("diffusers",),
    install="pip install 'clouds[generate]'", build="DiffusersGenerator",
)  # fmt: skip
INDEX = "model_index.json"


class Pipeline:
    """A pipeline by its name: a hub id or a folder that ``save_pretrained`` wrote; safetensors only."""

    task = "a text-to-image"

    def __init__(self, name: str, settings: Diffusion, group: str, key: str) -> None:
        """``settings`` are those at ``group`` of the recipe, ``key`` is the one of the name, ``diffusers/MODEL``."""
        name = name.partition("/")[2]
        self.name, self.options, self.group, self.key = name, settings, group, f"{group}.{key}"
        self.folder = Path(name).expanduser()
        if not self.folder.is_dir() and (name.count("/") != 1 or name.startswith((".", "/", "~"))):
            raise UsageError(f"{self.key}: {name!r} is not a folder, nor a hub id, ORGANISATION/NAME")
        if self.folder.is_dir() and not (self.folder / INDEX).is_file():
            raise UsageError(f"{self.key}: {self.folder} holds no {INDEX}; expected a folder of a pipeline")

    def _record(self) -> dict[str, Any]:
        """What decides the pixels. Asks the hub for the revision where it is not local."""
        s = self.options
        return {"revision": self._revision(), "steps": s.steps, "guidance": s.guidance,
                "negative_prompt": s.negative_prompt, "scheduler": s.scheduler, "dtype": s.dtype}  # fmt: skip

    def _revision(self) -> str:
        """The hub's commit; of a local folder a digest of its index, its configurations and its weights' sizes."""
        if not self.folder.is_dir():
            from huggingface_hub import hf_hub_download

            return Path(self._fetched(hf_hub_download, filename=INDEX)).parent.name
        digest = hashlib.sha256()
        for path in sorted(p for p in self.folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
            content = path.read_bytes() if path.suffix == ".json" else str(path.stat().st_size).encode()
            digest.update(as_bytes(f"{path.relative_to(self.folder)}\0") + content + b"\0")
        return f"local-{digest.hexdigest()[:16]}"

    def _fetched(self, fetch: Callable[..., str], **more: Any) -> str:
        """What ``fetch`` brings from the hub; BackendError where it does not answer."""
        problem = hub_problem()
        try:
            return fetch(self.name, revision=self.options.revision, **more)
        except Exception as error:  # the client's own kinds and those of its HTTP library alike
            at = f" at revision {self.options.revision}" if self.options.revision else ""
            gated = "accept its terms on the hub and log in, " if "gated" in type(error).__name__.lower() else ""
            raise BackendError(
                f"{self.key}: the pipeline {self.name}{at} cannot be loaded ({problem or cause(error)}); "
                f"{gated}try again with a network, name a mirror, or a folder: {self.key}=diffusers/FOLDER"
            ) from error

    @cached_property
    def pipeline(self) -> Any:
        """The pipeline, loaded at the first use, with its scheduler and placement set."""
        import torch
        from diffusers import AutoPipelineForImage2Image, AutoPipelineForText2Image, DiffusionPipeline
        from diffusers.utils import logging as pipeline_logging
        from transformers.utils import logging as model_logging

        for each in (pipeline_logging, model_logging):  # bars of seconds in the midst of ours
            each.disable_progress_bar()
        s = self.options
        source = str(self.folder)
        if not self.folder.is_dir():
            source = self._fetched(DiffusionPipeline.download, use_safetensors=True)
        try:
            auto: Any = AutoPipelineForText2Image if "text" in self.task else AutoPipelineForImage2Image
            options = {"dtype": getattr(torch, s.dtype), "use_safetensors": True, "local_files_only": True}
            pipe = auto.from_pretrained(source, **options)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise BackendError(
                f"{self.key}: {source} cannot be loaded as {self.task} pipeline with safetensors ({cause(error)})"
            ) from error
        if s.scheduler is not None:
            pipe.scheduler = self._scheduler(pipe)
        pipe.set_progress_bar_config(disable=True)
        if s.offload == "none":
            pipe.to(s.device)
        else:  # moves parts to the accelerator as they are needed
            move = pipe.enable_model_cpu_offload if s.offload == "model" else pipe.enable_sequential_cpu_offload
            move(device=s.device)
        return pipe

    def _scheduler(self, pipe: Any) -> Any:
        """The scheduler the settings name, with the configuration of the pipeline's own."""
        fitting = {kind.__name__: kind for kind in (*pipe.scheduler.compatibles, type(pipe.scheduler))}
        name = str(self.options.scheduler)
        if name not in fitting:
            raise UsageError(
                f"{self.group}.scheduler: {name!r} does not fit {self.name}; null keeps its own "
                f"({type(pipe.scheduler).__name__}), others that fit: {', '.join(sorted(fitting))}"
            )
        return fitting[name].from_config(pipe.scheduler.config)

    def ask(
        self, prompts: Sequence[str], seeds: Sequence[int], size: tuple[int, int], **more: Any
    ) -> NDArray[np.uint8]:
        """N prompts, N seeds -> N images uint8 (N, H, W, 3), of ``size`` if the pipeline can; ``more``: arguments.

        BackendError where the pipeline cannot be loaded, RuntimeError or ValueError where it fails at this batch or
        blanks an image of it.
        """
        import torch

        s = self.options
        takes = inspect.signature(self.pipeline.__call__).parameters
        wanted = {"height": size[0], "width": size[1], "guidance_scale": s.guidance}
        more |= {"num_inference_steps": s.steps, **{name: value for name, value in wanted.items() if name in takes}}
        if s.negative_prompt and "negative_prompt" not in takes:
            raise UsageError(f"{self.group}.negative_prompt: {type(self.pipeline).__name__} takes none; leave it out")
        if s.negative_prompt:
            more["negative_prompt"] = [s.negative_prompt] * len(prompts)
        noise = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        with torch.inference_mode():
            out = self.pipeline(prompt=list(prompts), generator=noise, output_type="np", **more)
        if any(getattr(out, "nsfw_content_detected", None) or []):
            raise RuntimeError(f"{self.name}: its safety checker blanked an image of this batch")
        pixels: NDArray[np.uint8] = (np.asarray(out.images) * 255).round().clip(0, 255).astype(np.uint8)
        return pixels


class DiffusersGenerator(Pipeline):
    """Prompts in, pictures out."""

    def __init__(self, settings: Generate) -> None:
        super().__init__(settings.generator, settings, "generate", "generator")
        self.settings = settings
        if any(side % 8 for side in settings.size):
            raise UsageError(f"generate.size: got {list(settings.size)}; a pipeline draws multiples of 8 pixels")

    @cached_property
    def record(self) -> dict[str, Any]:
        return {"generator": f"diffusers {self.name}", **self._record(), "batch_size": self.settings.batch_size}

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[NDArray[np.uint8]]:
        """N prompts, N seeds -> N images uint8 (H, W, 3); raises as ``ask``."""
        height, width = self.settings.size
        images = self.ask(prompts, seeds, self.settings.size)
        if images.shape != (len(prompts), height, width, 3):
            raise UsageError(
                f"generate.size: asked for {height}x{width}, {self.name} gave {images.shape[1]}x{images.shape[2]}; "
                "choose a size it can draw (a multiple of 8, of 16 for some)"
            )
        return list(images)
