"""What a prompt writer and a text tower must do."""

from typing import Any, ClassVar

import pytest
import torch

from clouds.config.recipe import Prompts
from clouds.foundation.backbone import Text, build_text, check_text
from clouds.foundation.writer import PromptWriter, build_writer
from clouds.testing.shared import undisturbed

REQUEST = ["a village street, in fog", "a motorway, at night, lorries", "a suburban road, in snow"]


class WriterContract:
    """Of ``clouds.foundation.writer.PromptWriter``. A subclass says ``writer_name``, as a recipe does; ``settings``
    are more keys of ``prompts``."""

    writer_name: ClassVar[str]
    settings: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def writer(self) -> PromptWriter:
        return build_writer(Prompts(writer=self.writer_name, **self.settings))

    def test_answers_are_texts_that_follow_from_the_seed(self, writer: PromptWriter) -> None:
        answers = writer.write(REQUEST, 3, 7)
        assert answers
        assert all(isinstance(answer, str) and answer.strip() for answer in answers)
        again = build_writer(Prompts(writer=self.writer_name, **self.settings))
        assert again.write(REQUEST, 3, 7) == answers
        assert writer.write(REQUEST, 3, 7) == answers
        assert writer.write(REQUEST[:1], 1, 7)

    def test_it_says_what_it_is(self, writer: PromptWriter) -> None:
        assert writer.model is None or isinstance(writer.model, str)
        assert writer.revision is None or isinstance(writer.revision, str)
        assert writer.scenes >= 1

    def test_it_leaves_everybody_elses_draws_alone(self, writer: PromptWriter) -> None:
        with undisturbed():
            writer.write(REQUEST, 3, 7)


class TextContract:
    """Of ``clouds.foundation.backbone.Text``. A subclass says ``text``, as a recipe does."""

    text: ClassVar[str]

    @pytest.fixture(scope="class")
    @classmethod
    def tower(cls) -> Text:
        check_text(cls.text)
        return build_text(cls.text)

    def test_rows_are_of_unit_length_and_follow_from_their_text(self, tower: Text) -> None:
        words = ["a photo of a road.", "sky", "a rather long description of a tree beside a road " * 3]
        rows = tower.embed(words)
        assert (tuple(rows.shape), rows.dtype) == ((3, tower.dim), torch.float32)
        assert not rows.requires_grad
        assert (rows.norm(dim=-1) - 1).abs().max() < 1e-4
        for k, word in enumerate(words):
            assert (tower.embed([word])[0] - rows[k]).abs().max() < 1e-4
        assert (rows[0] - rows[1]).abs().max() > 1e-3
        assert torch.equal(tower.embed(words), rows)
