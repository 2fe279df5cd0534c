"""The network: pixel decoder, transformer decoder, heads, and the merge into a semantic map."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import tiny
from clouds.model.decoder import Attention, TextHead, TransformerDecoder
from clouds.model.pixel_decoder import DeformableAttention, extents, reference_points, sine_positions
from clouds.model.segmenter import merge
from clouds.model.vocabulary import synonym_index


def images(batch, height, width, seed=0):
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=torch.manual_seed(seed))


@pytest.fixture(scope="module")
def model():
    return tiny.segmenter()


def naive_merge(logits, masks, size):
    full = F.interpolate(masks, scale_factor=4, mode="bilinear", align_corners=False).sigmoid()
    semantic = torch.einsum("bqc,bqhw->bchw", logits.softmax(-1)[..., :-1], full)
    return semantic[..., : size[0], : size[1]]


@settings(deadline=None)
@given(data=st.data(), h=st.integers(1, 9), w=st.integers(1, 9), rows=st.integers(1, 40))
def test_merge_equals_the_full_size_formulation(data, h, w, rows):
    size = data.draw(st.integers(1, 4 * h)), data.draw(st.integers(1, 4 * w))
    torch.manual_seed(data.draw(st.integers(0, 99)))
    logits, masks = 3 * torch.randn(2, 5, 4), 6 * torch.randn(2, 5, h, w)
    assert torch.allclose(merge(logits, masks, size, rows), naive_merge(logits, masks, size), atol=1e-5)


def test_merge_reads_the_last_column_as_void():
    logits = torch.zeros(1, 2, 4)
    logits[..., -1] = 50
    assert merge(logits, torch.full((1, 2, 3, 3), 9.0), (12, 12)).max() < 1e-6
    logits = torch.zeros(1, 2, 4)
    logits[..., 2] = 50
    assert merge(logits, torch.full((1, 2, 3, 3), 9.0), (12, 12)).argmax(1).unique().tolist() == [2]


def decoder_case(head="linear", layers=4):
    torch.manual_seed(3)
    decoder = TransformerDecoder(
        hidden=32, queries=6, layers=layers, heads=4, ffn=32, head=head, classes=3, text_dim=8
    ).double()
    features = torch.randn(2, 32, 16, 24, dtype=torch.float64)
    memories = [torch.randn(2, 32, 16 // s, 24 // s, dtype=torch.float64) for s in (8, 4, 2)]
    vocabulary = F.normalize(torch.randn(4, 8, dtype=torch.float64), dim=-1)
    return decoder, features, memories, vocabulary, synonym_index([1, 2, 1])


def watch_attention(decoder):
    seen = []
    for layer in decoder.layers:
        layer.register_forward_pre_hook(lambda module, args: seen.append(args[4]))
    return seen


def test_attention_bits_equal_those_of_shrunk_full_masks():
    decoder, features, memories, vocabulary, synonyms = decoder_case()
    seen = watch_attention(decoder)
    prediction = decoder(features, memories, vocabulary, synonyms, True)
    sizes = [memories[i % 3].shape[-2:] for i in range(4)]
    for i, (allowed, size) in enumerate(zip(seen, sizes, strict=True)):
        shrunk = F.interpolate(prediction.masks(i), size=size, mode="bilinear", align_corners=False)
        wanted = (shrunk.sigmoid() >= 0.5).flatten(2)
        wanted |= ~wanted.any(-1, keepdim=True)
        assert 0 < wanted.double().mean() < 1
        assert torch.equal(allowed, wanted)


def test_an_empty_mask_attends_everywhere():
    decoder, features, memories, vocabulary, synonyms = decoder_case("text")
    nn.init.zeros_(decoder.mask_embed[-1].weight)
    nn.init.ones_(decoder.mask_embed[-1].bias)
    seen = watch_attention(decoder)
    prediction = decoder(-features.abs(), memories, vocabulary, synonyms, True)
    assert prediction.masks().max() < 0
    assert all(allowed.all() for allowed in seen)
    assert all(logits.isfinite().all() for logits in prediction.logits)
    torch.stack(prediction.logits).sum().backward()
    assert all(p.grad.isfinite().all() for p in decoder.parameters() if p.grad is not None)


def test_attention_equals_torch_multi_head_attention():
    torch.manual_seed(0)
    ours, theirs = Attention(32, 4), nn.MultiheadAttention(32, 4, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    query, key, value = torch.randn(2, 5, 32), torch.randn(2, 7, 32), torch.randn(2, 7, 32)
    allowed = torch.rand(2, 5, 7) < 0.5
    allowed[..., 0] = True
    wanted, _ = theirs(query, key, value, attn_mask=~allowed.repeat_interleave(4, 0), need_weights=False)
    assert torch.allclose(ours(query, key, value, allowed), wanted, atol=1e-6)


@pytest.mark.parametrize("head", ["linear", "text"])
def test_auxiliary_outputs_change_nothing_but_how_many_logits_there_are(head):
    model = tiny.segmenter(head=head)
    x = images(2, 64, 96)
    many, one = model(x, auxiliary=True), model(x, auxiliary=False)
    assert (len(many.logits), len(many.mask_embeddings)) == (3, 3)
    assert (len(one.logits), len(one.mask_embeddings)) == (1, 3)
    assert many.logits[-1].shape == (2, 6, len(tiny.CLASSES) + 1)
    assert many.masks().shape == (2, 6, 16, 24)
    assert torch.equal(many.logits[-1], one.logits[-1])
    assert torch.equal(many.masks(), one.masks())


@pytest.mark.parametrize("size", [(50, 70), (64, 64), (33, 129)])
def test_maps_have_the_images_size(model, size):
    semantic = model.semantic(images(2, *size))
    assert semantic.shape == (2, len(tiny.CLASSES), *size)
    assert semantic.dtype == torch.float32
    assert semantic.min() >= 0
    assert semantic.max() <= 6


@pytest.mark.parametrize("size", [(1, 1), (5, 31), (32, 32)])
def test_an_image_of_one_cell_at_the_coarsest_stride_is_seen_alone_as_in_a_batch(model, size):
    assert model.head.pixel_decoder.mask_features.in_channels == 32  # a channel a group: one value to normalise
    pair = images(2, *size)
    alone = torch.cat([model.semantic(image[None]) for image in pair])
    assert torch.allclose(alone, model.semantic(pair), atol=1e-5)


def test_an_odd_image_is_padded_with_the_pixel_mean(model):
    x = images(1, 50, 70)
    padded = torch.full((1, 3, 64, 96), 127, dtype=torch.uint8)
    padded[..., :50, :70] = x
    assert torch.allclose(model.semantic(x), model.semantic(padded)[..., :50, :70], atol=1e-5)


def test_bytes_and_floats_give_the_same_map(model):
    x = images(1, 64, 64)
    assert torch.equal(model.semantic(x), model.semantic(x.float()))


def test_an_images_map_does_not_depend_on_its_batch(model):
    x = images(3, 64, 64)
    assert torch.allclose(model.semantic(x)[1:2], model.semantic(x[1:2]), atol=1e-5)


@pytest.mark.parametrize("freeze", [True, False])
def test_a_frozen_backbone_gets_no_gradient_and_never_leaves_eval_mode(freeze):
    model = tiny.segmenter(freeze=freeze).train()
    before = {name: b.clone() for name, b in model.backbone.named_buffers()}
    prediction = model(images(2, 64, 64))
    (torch.stack(prediction.logits).sum() + sum(prediction.masks(i).square().mean() for i in range(3))).backward()
    assert model.head.training
    assert not any(module.training for module in model.backbone.modules())
    assert all(torch.equal(b, before[name]) for name, b in model.backbone.named_buffers())
    reached = [p.grad is not None and bool(p.grad.any()) for p in model.backbone.parameters()]
    assert not any(reached) if freeze else sum(reached) > 0.9 * len(reached)
    assert all(p.grad is not None for p in model.head.parameters())


def test_gradients_reach_text_head_and_void(model):
    head = tiny.segmenter().head
    assert isinstance(head.decoder.class_head, TextHead)
    model.zero_grad()
    torch.stack(model(images(2, 64, 64)).logits).square().sum().backward()
    class_head = model.head.decoder.class_head
    assert all(p.grad.abs().sum() > 0 for p in class_head.parameters())


def text_head():
    torch.manual_seed(5)
    head = TextHead(8, 4).double()
    queries = torch.randn(1, 3, 8, dtype=torch.float64)
    masks, features = torch.randn(1, 3, 5, 6, dtype=torch.float64), torch.randn(1, 8, 5, 6, dtype=torch.float64)
    return head, queries, masks, features, F.normalize(torch.randn(4, 4, dtype=torch.float64), dim=-1)


def test_the_text_head_follows_its_formula():
    head, queries, masks, features, vocabulary = text_head()
    norm, linear = head.pool_proj
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    logits = head(queries, masks, features, vocabulary, synonym_index([1, 2, 1]))
    for q in range(3):
        inside = masks[0, q] > 0
        pooled = linear(F.layer_norm(features[0, :, inside].mean(1), (8,), norm.weight, norm.bias))
        embedded = F.normalize(head.embed(pooled + queries[0, q]), dim=-1)
        scores = (embedded @ vocabulary.T / 0.07).tolist()
        void = (embedded @ F.normalize(head.void[0], dim=-1) / 0.07).item()
        wanted = torch.tensor([scores[0], max(scores[1:3]), scores[3], void], dtype=torch.float64)
        assert torch.allclose(logits[0, q], wanted, atol=1e-6)


def test_only_the_last_text_logit_depends_on_the_void_embedding():
    head, queries, masks, features, vocabulary = text_head()
    before = head(queries, masks, features, vocabulary, synonym_index([1, 2, 1]))
    with torch.no_grad():
        head.void.neg_()
    after = head(queries, masks, features, vocabulary, synonym_index([1, 2, 1]))
    assert torch.equal(before[..., :-1], after[..., :-1])
    assert torch.allclose(before[..., -1], -after[..., -1])


def test_the_text_scale_stops_at_100_and_an_empty_mask_is_finite():
    head, queries, masks, features, vocabulary = text_head()
    nn.init.constant_(head.logit_scale, 20.0)
    logits = head(queries, -masks.abs(), features, vocabulary, synonym_index([4]))
    assert logits.isfinite().all()
    assert 1 < logits.abs().max() <= 100 + 1e-9


def slow_deformable(attention, query, tokens, reference, shapes):
    """Deformable DETR's definition, point by point."""
    batch, count, hidden = query.shape
    heads, points = attention.heads, attention.points
    width_of_head = hidden // heads
    values = attention.value_proj(tokens)
    offsets = attention.sampling_offsets(query)
    scores = attention.attention_weights(query)
    mixed = torch.zeros_like(query)
    for b in range(batch):
        for n in range(count):
            for m in range(heads):
                channels = slice(m * width_of_head, (m + 1) * width_of_head)
                per_head = len(shapes) * points
                share = scores[b, n, m * per_head : (m + 1) * per_head].softmax(0)
                start = 0
                for level, (height, width) in enumerate(shapes):
                    for p in range(points):
                        k = (m * len(shapes) + level) * points + p
                        x = reference[n, 0] * width + offsets[b, n, 2 * k] - 0.5
                        y = reference[n, 1] * height + offsets[b, n, 2 * k + 1] - 0.5
                        for row in (math.floor(y), math.floor(y) + 1):
                            for column in (math.floor(x), math.floor(x) + 1):
                                if 0 <= row < height and 0 <= column < width:
                                    near = (1 - (x - column).abs()) * (1 - (y - row).abs())
                                    value = values[b, start + row * width + column, channels]
                                    mixed[b, n, channels] += share[level * points + p] * near * value
                    start += height * width
    return attention.output_proj(mixed)


def deformable_case(shapes):
    torch.manual_seed(1)
    attention = DeformableAttention(4, 2, len(shapes), 2).double()
    for layer in (attention.sampling_offsets, attention.attention_weights):
        nn.init.normal_(layer.weight, std=0.7)
    count = sum(h * w for h, w in shapes)
    query, tokens = torch.randn(2, 2, count, 4, dtype=torch.float64)
    return attention, query, tokens, reference_points(shapes, torch.device("cpu")).double()


@torch.no_grad()
def test_deformable_attention_equals_the_written_out_definition():
    shapes = [(1, 2), (2, 3), (3, 5)]
    attention, query, tokens, reference = deformable_case(shapes)
    wanted = slow_deformable(attention, query, tokens, reference, shapes)
    assert torch.allclose(attention(query, tokens, reference, extents(shapes, query), shapes), wanted, atol=1e-10)


def test_deformable_attention_has_the_right_gradients():
    shapes = [(1, 2), (2, 2)]
    attention, query, tokens, reference = deformable_case(shapes)
    query.requires_grad_()
    tokens.requires_grad_()
    extent = extents(shapes, query)
    assert torch.autograd.gradcheck(lambda q, t: attention(q, t, reference, extent, shapes), (query[:1], tokens[:1]))


def test_deformable_attention_starts_by_looking_around_evenly():
    attention = DeformableAttention(16, heads=8, levels=3, points=4)
    around = torch.tensor([[1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0], [-1, -1], [0, -1], [1, -1]])
    wanted = (around[:, None, None] * torch.arange(1, 5)[:, None]).expand(-1, 3, -1, -1).float()
    query = torch.randn(16)
    assert torch.allclose(attention.sampling_offsets(query).view(8, 3, 4, 2), wanted, atol=1e-6)
    assert not attention.attention_weights(query).any()
    assert not attention.value_proj.bias.any()
    assert not attention.output_proj.bias.any()


def test_layers_start_as_the_references_do():
    """Xavier's bound where Mask2Former has it; torch's own start has another."""
    head = tiny.segmenter(pixel_ffn=96, ffn=96).head
    for module in (*head.pixel_decoder.modules(), *(m for layer in head.decoder.layers for m in layer.modules())):
        for name, weight in module.named_parameters(recurse=False):
            if weight.ndim > 1 and name.endswith("weight") and weight.any():
                out, fan_in = weight.shape[0] * weight[0, 0].numel(), weight[0].numel()
                assert weight.abs().max().item() == pytest.approx(math.sqrt(6 / (out + fan_in)), rel=0.03), module


def test_reference_points_are_cell_centres_as_x_y():
    points = reference_points([(1, 2), (2, 1)], torch.device("cpu"))
    assert points.tolist() == [[0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75]]


def test_sine_positions_follow_the_formula():
    channels, height, width = 8, 3, 5
    position = sine_positions(height, width, channels, torch.device("cpu"), torch.float64)
    for row in range(height):
        for column in range(width):
            for c in range(channels):
                k = c % (channels // 2)
                place = (row + 1) / height if c < channels // 2 else (column + 1) / width
                angle = place * 2 * math.pi / 10000 ** (2 * (k // 2) / (channels // 2))
                wanted = math.cos(angle) if k % 2 else math.sin(angle)
                assert math.isclose(position[c, row, column], wanted, abs_tol=1e-4)
