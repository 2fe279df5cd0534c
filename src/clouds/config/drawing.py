"""Settings of what is written and drawn: prompts, images, their audit, other looks."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from clouds.config.backends import names, takes
from clouds.config.kinds import (
    Count,
    Device,
    Float,
    Folder,
    Int,
    Mark,
    Positive,
    Settings,
    Share,
    Side,
    Whole,
    one_of,
    server,
)
from clouds.config.plugins import OWN


class Prompts(Settings):
    """Role 2: who writes the scene prompts, and how many."""

    writer: Annotated[str, one_of(*names("writer"), OWN)] = "grammar"
    """The writer. `openai/MODEL` is a model of the server at `base_url`; its key comes from CLOUDS_API_KEY or
    OPENAI_API_KEY. `MODULE:NAME` is a class of your own (docs/howto.md)."""
    count: Count = 100
    """Number of different prompts."""
    revision: str | None = None
    """The hub's revision of a `transformers/` model: a commit, tag or branch; null is the newest."""
    base_url: Annotated[str, AfterValidator(server)] = "http://localhost:8000/v1"
    """Address of an OpenAI-compatible server, without user or password."""
    temperature: Annotated[Float, Field(ge=0, le=2)] = 0.8
    """How freely a model writes; 0: always the likeliest word."""
    max_tokens: Annotated[Int, Field(ge=16)] = 1024
    """The longest answer to one request, in tokens."""
    timeout: Annotated[Positive, Mark.RESUMABLE] = 120.0
    """Longest time of one request to a server, in seconds."""
    retries: Annotated[Whole, Mark.RESUMABLE] = 5
    """How often a failed request to a server is tried again."""
    requests_per_minute: Annotated[Positive | None, Mark.RESUMABLE] = None
    """Largest number of requests per minute to a server, with retries; null: no limit."""
    rounds: Count = 4
    """How often a model is asked for what is still missing."""
    fill: bool = True
    """Whether the grammar writes what is still missing after all rounds; if false, that is an error."""


class Diffusion(Settings):
    """Settings of a diffusers pipeline. The defaults are the paper's."""

    revision: str | None = None
    """The hub's revision: a commit, tag or branch; null is the newest."""
    steps: Count = 50
    """Steps of denoising."""
    guidance: Annotated[Float, Field(ge=0)] = 7.5
    """How closely an image follows its prompt (classifier-free guidance)."""
    negative_prompt: str = ""
    """What images should not show."""
    scheduler: str | None = "EulerDiscreteScheduler"
    """A scheduler of diffusers; null: the pipeline's own, which few-step models need."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Number format of the weights."""
    device: Annotated[Device, Mark.RESUMABLE] = "cpu"
    """Where the pipeline runs."""
    offload: Annotated[Literal["none", "model", "sequential"], Mark.RESUMABLE] = "none"
    """Whether parts of the model move to the device only when needed: less memory, more time."""


class Restyle(Diffusion):
    """Images in another style, with the same content. The keys `revision` to `offload` are only for `diffusers/`."""

    backend: Annotated[str, one_of(*names("restyler"))]
    """The method: Reinhard's colour statistics, Fourier amplitudes (FDA), a style transfer network, or an
    image-to-image pipeline."""
    strength: Share = 0.5
    """From 0, no change, to 1, all that the backend can do."""
    styles: Annotated[str, Field(min_length=1)] | None = None
    """A folder of style images; `photos`: the public photos of scikit-image; null: rendered streets, only for the scene
    `streets`. A pipeline takes prompts instead."""
    max_side: Annotated[Int, Field(ge=32)] = 1024
    """Longest side, in pixels, of the images that a pipeline gets; larger ones are shrunk."""

    def faults(self) -> list[str]:
        if "prompt" not in takes(self.backend):
            return []
        found = []
        if self.styles is not None:
            found.append(f"styles: got {self.styles!r}; a diffusers pipeline takes prompts instead; leave it out")
        if int(self.steps * self.strength) < 1:
            found.append(
                f"strength: got {self.strength:g} of {self.steps} steps, which leaves a pipeline no step to do; "
                "expected strength times steps of at least 1"
            )
        return found


class RestyledSource(Restyle):
    """Labelled images restyled before training, with the same labels. `styles` may also be `generated`: the run's
    generated images."""

    share: Share = 0.5
    """The share of source samples that show a variant instead of the image itself."""
    variants: Count = 1
    """Variants per image."""
    stage: Literal["both", "warmup", "joint"] = "both"
    """The stages that use variants."""
    folder: Folder | None = None
    """The folder of the variants, which runs can share; null: the run folder."""


class Generate(Diffusion):
    """Role 3: who draws the images. The keys `revision` to `offload` are only for `diffusers/`."""

    generator: str = "streets"
    """The generator: `streets`; `diffusers/` and the hub id or folder of a text-to-image pipeline; or `MODULE:NAME`."""
    count: Whole = 1000
    """Number of images; 0: none, to use only photos (`data.unlabelled`)."""
    size: tuple[Side, Side] = (768, 768)
    """Height and width in pixels; must equal `augment.crop`."""
    folder: Folder | None = None
    """A generated set that exists already; null: generate one into the run folder."""
    batch_size: Count = 1
    """Images drawn at a time."""
    restyle: Restyle | None = None
    """Another style for each generated image; null: no change."""
    audit: bool = False
    """Whether training leaves out images that are broken, blank or nearly the same as another, by the limits of
    `audit`."""

    def faults(self) -> list[str]:
        if self.restyle and self.restyle.styles == "generated":
            return [
                "restyle.styles: got 'generated'; an image of the set must not depend on the others. Name a folder of "
                "style images (./generated if it is called so), or null"
            ]
        return []


class Audit(Settings):
    """What `clouds audit` drops (docs/generation.md says how the limits were chosen)."""

    blank: Annotated[Float, Field(ge=0)] = 2.0
    """Least standard deviation of an image's grey values, 0 to 255."""
    radius: Annotated[Int, Field(ge=0, le=16)] = 6
    """Two images are near-duplicates if their 64-bit perceptual hashes differ in at most this many bits."""
    clip: Annotated[Float, Field(ge=0, le=100)] | None = None
    """Least CLIP score of image and prompt; null: not used."""
    confidence: Share | None = None
    """Least mean confidence of the teacher; null: not used."""
    agreement: Share | None = None
    """Least share of refined pixels that agree with the teacher; null: not used."""
