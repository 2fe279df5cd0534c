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
    """Who writes. `openai/MODEL` is a model of the server at `base_url`; its key comes from CLOUDS_API_KEY or
    OPENAI_API_KEY. `MODULE:NAME` is a class of your own (docs/howto.md)."""
    count: Count = 100
    """How many different prompts."""
    revision: str | None = None
    """The hub's revision of a `transformers/` model: a commit, tag or branch; null is the newest."""
    base_url: Annotated[str, AfterValidator(server)] = "http://localhost:8000/v1"
    """Address of an OpenAI-compatible server, without user or password."""
    temperature: Annotated[Float, Field(ge=0, le=2)] = 0.8
    """How freely a model writes; 0 always takes the likeliest word."""
    max_tokens: Annotated[Int, Field(ge=16)] = 1024
    """The longest answer to one request, in tokens."""
    timeout: Annotated[Positive, Mark.RESUMABLE] = 120.0
    """Seconds that one request to a server may last."""
    retries: Annotated[Whole, Mark.RESUMABLE] = 5
    """How often a failed request to a server is tried again."""
    requests_per_minute: Annotated[Positive | None, Mark.RESUMABLE] = None
    """The most requests that this process sends to a server, retries included; null sets no limit."""
    rounds: Count = 4
    """How often a model is asked for what is still missing; fewer save time where a model is slow."""
    fill: bool = True
    """Whether the grammar writes what is missing after all rounds; false makes that an error."""


class Diffusion(Settings):
    """Of a diffusers pipeline. The defaults are the paper's."""

    revision: str | None = None
    """The hub's revision: a commit, tag or branch; null is the newest."""
    steps: Count = 50
    """Steps of denoising."""
    guidance: Annotated[Float, Field(ge=0)] = 7.5
    """How closely an image keeps to its prompt (classifier-free guidance)."""
    negative_prompt: str = ""
    """What images should not show."""
    scheduler: str | None = "EulerDiscreteScheduler"
    """A class name of diffusers; null keeps the pipeline's own, which few-step models need."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Number format of the weights."""
    device: Annotated[Device, Mark.RESUMABLE] = "cpu"
    """Where the pipeline runs."""
    offload: Annotated[Literal["none", "model", "sequential"], Mark.RESUMABLE] = "none"
    """Whether parts move to the device only as they are needed: less memory, more time."""


class Restyle(Diffusion):
    """Images given another look while what they show stays where it is. The keys of a pipeline, `revision` to
    `offload`, count for `diffusers/` alone."""

    backend: Annotated[str, one_of(*names("restyler"))]
    """Who restyles: Reinhard's colour statistics, Fourier amplitudes (FDA), a style transfer network, or an
    image-to-image pipeline."""
    strength: Share = 0.5
    """0 changes nothing, 1 is all the backend can."""
    styles: Annotated[str, Field(min_length=1)] | None = None
    """A folder of style images; `photos`: public photographs that come with scikit-image; null: streets that the
    renderer draws, for the scene `streets` alone. A pipeline takes prompts instead."""
    max_side: Annotated[Int, Field(ge=32)] = 1024
    """The longer side, in pixels, that a pipeline's images are brought down to."""

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
    """Labelled images restyled once before training, their labels kept. `styles` may also be `generated`: the run's
    generated set."""

    share: Share = 0.5
    """Share of the source samples of training that show a variant instead of the image itself."""
    variants: Count = 1
    """How many variants of each image are made."""
    stage: Literal["both", "warmup", "joint"] = "both"
    """The stages that draw variants."""
    folder: Folder | None = None
    """Where the variants are kept, to be made ahead by many machines or shared by runs; null is the run folder."""


class Generate(Diffusion):
    """Role 3: who draws the prompts. The keys of a pipeline, `revision` to `offload`, count for `diffusers/` alone."""

    generator: str = "streets"
    """Who draws: `streets`, `diffusers/` and a hub id or folder of a text-to-image pipeline, or `MODULE:NAME`."""
    count: Whole = 1000
    """How many images; 0 draws none, for photographs alone (`data.unlabelled`)."""
    size: tuple[Side, Side] = (768, 768)
    """Height and width in pixels; equal to `augment.crop`."""
    folder: Folder | None = None
    """A set that is there already, drawn or adopted, to train on; null draws one into the run folder."""
    batch_size: Count = 1
    """How many images are drawn at a time."""
    restyle: Restyle | None = None
    """Another look for each drawn image; null leaves it as it is."""
    audit: bool = False
    """Whether images that are broken, blank or nearly another one are left out before training, by the limits of
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
    """The least standard deviation of an image's grey values, 0 to 255."""
    radius: Annotated[Int, Field(ge=0, le=16)] = 6
    """Two images are nearly one when their 64-bit perceptual hashes differ in at most this many bits."""
    clip: Annotated[Float, Field(ge=0, le=100)] | None = None
    """The least CLIP score of image and prompt; null drops nothing for it."""
    confidence: Share | None = None
    """The least mean confidence of the teacher; null drops nothing for it."""
    agreement: Share | None = None
    """The least share of refined pixels that agree with the teacher; null drops nothing for it."""
