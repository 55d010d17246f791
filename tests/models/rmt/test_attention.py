"""Attention against double loops and closed forms.

Covers: dd/models/rmt/position.py.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from dd.models.rmt.attention import ManhattanAttention, decomposed_attention, rotate, whole_attention
from dd.models.rmt.position import RelativePosition, Tables, angles, line_mask, log_decays, plane_mask, rotation

HEIGHT, WIDTH, HEADS, SIZE = 3, 4, 2, 4
PIXELS = list(itertools.product(range(HEIGHT), range(WIDTH)))
GAMMAS = [1 - 2 ** -(2 + 4 * j / HEADS) for j in range(HEADS)]


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def qkv() -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = draw(3, 2, HEIGHT, WIDTH, HEADS, SIZE)
    return q, k, v


def masks(product: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Of the plane, of the rows, of the columns."""
    decay = log_decays(HEADS, 2, 4)
    found = plane_mask(decay, HEIGHT, WIDTH), line_mask(decay, WIDTH), line_mask(decay, HEIGHT)
    return tuple(m.exp() for m in found) if product else found


def test_decays_are_equation_8() -> None:
    torch.testing.assert_close(log_decays(HEADS, 2, 4).exp(), torch.tensor(GAMMAS, dtype=torch.float64))
    expected = [1 - 2 ** -(2 + 6 * j / 8) for j in range(8)]
    found = log_decays(8, 2, 6).exp()
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    assert (found[0].item(), round(found[-1].item(), 5)) == (0.75, 0.99343)


def test_the_plane_mask_is_the_logarithm_of_a_kronecker_product() -> None:
    plane, rows, columns = masks()
    for head in range(HEADS):
        torch.testing.assert_close(plane[head].exp(), torch.kron(columns[head].exp(), rows[head].exp()))


@pytest.mark.parametrize("form", ["released", "product"])
def test_whole_attention_is_a_softmax_with_manhattan_distances(form: str) -> None:
    q, k, v = qkv()
    found = whole_attention(q, k, v, masks(form == "product")[0], form=form)
    for b, j, (i, (y, x)) in itertools.product(range(2), range(HEADS), enumerate(PIXELS)):
        logits = [float(q[b, y, x, j] @ k[b, y2, x2, j]) for y2, x2 in PIXELS]
        decays = [GAMMAS[j] ** (abs(y - y2) + abs(x - x2)) for y2, x2 in PIXELS]
        weights = [math.exp(logit) * d for logit, d in zip(logits, decays, strict=True)]
        total = sum(weights) if form == "released" else sum(math.exp(logit) for logit in logits)
        expected = sum(w / total * v[b, y2, x2, j] for w, (y2, x2) in zip(weights, PIXELS, strict=True))
        torch.testing.assert_close(found[b, y, x, j], expected, msg=f"sample {b}, head {j}, pixel {i}")


def _line(q: Tensor, keys: list[Tensor], values: list[Tensor], place: int, gamma: float, form: str) -> Tensor:
    """One query against the keys of a line, written with Python's floats."""
    logits = [float(q @ key) for key in keys]
    weights = [math.exp(logit) * gamma ** abs(place - i) for i, logit in enumerate(logits)]
    total = sum(weights) if form == "released" else sum(math.exp(logit) for logit in logits)
    return sum((w / total * value for w, value in zip(weights, values, strict=True)), torch.zeros_like(q))


@pytest.mark.parametrize("form", ["released", "product"])
def test_decomposed_attention_equals_a_double_loop(form: str) -> None:
    q, k, v = qkv()
    _, rows, columns = masks(form == "product")
    found = decomposed_attention(q, k, v, rows, columns, form=form)
    for b, j in itertools.product(range(2), range(HEADS)):
        along = {
            (y, x): _line(q[b, y, x, j], list(k[b, y, :, j]), list(v[b, y, :, j]), x, GAMMAS[j], form)
            for y, x in PIXELS
        }
        for y, x in PIXELS:
            column = [along[i, x] for i in range(HEIGHT)]
            expected = _line(q[b, y, x, j], list(k[b, :, x, j]), column, y, GAMMAS[j], form)
            torch.testing.assert_close(found[b, y, x, j], expected)


def test_the_product_form_with_normalised_rows_is_the_released_form() -> None:
    q, k, v = qkv()
    log_mask, mask = masks()[0], masks(True)[0]
    sums = whole_attention(q, k, torch.ones_like(v), mask, form="product")
    assert float(sums.max()) < 1
    renormalised = whole_attention(q, k, v, mask, form="product") / sums
    torch.testing.assert_close(renormalised, whole_attention(q, k, v, log_mask))


def test_fused_attention_equals_the_written_out_one() -> None:
    q, k, v = (z.float() for z in qkv())
    plane, rows, columns = (m.float() for m in masks())
    torch.testing.assert_close(
        whole_attention(q, k, v, plane, form="fused"), whole_attention(q, k, v, plane), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(
        decomposed_attention(q, k, v, rows, columns, form="fused"),
        decomposed_attention(q, k, v, rows, columns),
        rtol=1e-5,
        atol=1e-5,
    )


def test_angles_include_both_ends() -> None:
    torch.testing.assert_close(angles(2), torch.tensor([1.0, 1.0]).double())
    torch.testing.assert_close(angles(4), torch.tensor([1.0, 1.0, 1e-4, 1e-4]).double())
    assert angles(8)[2].item() == pytest.approx(10000 ** (-1 / 3))
    assert [angles(n).numel() for n in (1, 3, 5)] == [0, 2, 4]


def test_rotation_is_multiplication_of_complex_numbers() -> None:
    z = draw(2, HEIGHT, WIDTH, HEADS, SIZE)
    found = rotate(z, *rotation(HEIGHT, WIDTH, angles(SIZE), SIZE))
    index = torch.arange(HEIGHT * WIDTH, dtype=torch.float64).view(HEIGHT, WIDTH, 1, 1)
    theta = torch.tensor([1.0, 1e-4], dtype=torch.float64)
    turned = torch.view_as_complex(z.unflatten(-1, (-1, 2))) * torch.exp(1j * index * theta)
    torch.testing.assert_close(found, torch.view_as_real(turned).flatten(-2))


def test_logits_depend_on_relative_positions_along_a_row_only() -> None:
    q, k = (draw(1, 1, 1, 1, SIZE + i)[..., :SIZE].expand(1, HEIGHT, WIDTH, 1, SIZE) for i in range(2))
    tables = rotation(HEIGHT, WIDTH, angles(SIZE), SIZE)
    q, k = rotate(q, *tables)[0, :, :, 0], rotate(k, *tables)[0, :, :, 0]
    logits = torch.einsum("yxc,zwc->yxzw", q, k)
    for x, x2 in itertools.product(range(WIDTH - 1), repeat=2):
        torch.testing.assert_close(logits[:, x, :, x2].diagonal(), logits[:, x + 1, :, x2 + 1].diagonal())
    # raster order: one row down is WIDTH pixels on, the same as WIDTH pixels along a row
    torch.testing.assert_close(logits[0, 0, 1, 0], logits[0, 1, 1, 1])
    assert not torch.allclose(logits[0, 0, 1, 0], logits[0, 0, 0, 1])


def test_the_last_channel_of_an_odd_head_is_not_rotated() -> None:
    z = draw(1, HEIGHT, WIDTH, HEADS, 5)
    found = rotate(z, *rotation(HEIGHT, WIDTH, angles(5), 5))
    even = rotate(z[..., :4], *rotation(HEIGHT, WIDTH, angles(4), 4))
    torch.testing.assert_close(found, torch.cat([even, z[..., 4:]], dim=-1))


def test_a_head_of_one_channel_has_nothing_to_rotate() -> None:
    position = RelativePosition(2, 1, 2, 4, whole=False, rotary=True, product=False)
    assert position.angle.shape == (0,)
    assert position(torch.zeros(1, 3, 3, 2)).rotation is None


def position_of(whole: bool = False, shape: tuple[int, int] | None = (HEIGHT, WIDTH)) -> RelativePosition:
    return RelativePosition(HEADS, SIZE, 2, 4, whole=whole, rotary=True, product=False, shape=shape)


def flat(tables: Tables) -> list[Tensor]:
    assert tables.rotation is not None
    return [*tables.rotation, *tables.masks]


@pytest.mark.parametrize("whole", [False, True])
def test_tables_of_a_module_cast_to_float64_are_exact(whole: bool) -> None:
    found = flat(position_of(whole).double()(torch.zeros(1, HEIGHT, WIDTH, 1, dtype=torch.float64)))
    plane, rows, columns = masks()
    expected = [*rotation(HEIGHT, WIDTH, angles(SIZE), SIZE), *((plane,) if whole else (rows, columns))]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-14)


def test_tables_follow_the_data_where_the_kept_ones_do_not_fit() -> None:
    position = position_of()
    kept = position(torch.zeros(1, HEIGHT, WIDTH, 1))
    assert kept is position.kept
    assert position(torch.zeros(1, HEIGHT, WIDTH, 1, dtype=torch.bfloat16)) is kept
    wide = position(torch.zeros(1, HEIGHT, WIDTH, 1, dtype=torch.float64))
    torch.testing.assert_close(wide.masks[0], masks()[1], rtol=0, atol=1e-14)
    other = position(torch.zeros(1, 5, 2, 1))
    assert [m.shape for m in other.masks] == [(HEADS, 2, 2), (HEADS, 5, 5)]
    for a, b in zip(flat(other), flat(position_of(shape=(5, 2))(torch.zeros(1, 5, 2, 1))), strict=True):
        assert torch.equal(a, b)


def test_the_module_adds_the_local_term_and_scales_the_keys() -> None:
    module = ManhattanAttention(HEADS * SIZE, HEADS, "released").double()
    x = draw(2, HEIGHT, WIDTH, HEADS * SIZE)
    position = position_of(whole=True).double()
    q, k, v = (p(x).view(2, HEIGHT, WIDTH, HEADS, SIZE) for p in (module.q_proj, module.k_proj, module.v_proj))
    sine, cosine = rotation(HEIGHT, WIDTH, angles(SIZE), SIZE)
    attended = whole_attention(rotate(q, sine, cosine), rotate(k, sine, cosine) / 2, v, masks()[0])
    padded = torch.nn.functional.pad(v.flatten(-2), (0, 0, 2, 2, 2, 2))
    weight, local = module.lepe.conv.weight[:, 0], module.lepe.conv.bias.expand(2, HEIGHT, WIDTH, -1)
    for i, j in itertools.product(range(5), repeat=2):
        local = local + padded[:, i : i + HEIGHT, j : j + WIDTH] * weight[:, i, j]
    torch.testing.assert_close(module(x, position(x)), module.out_proj(attended.flatten(-2) + local))
