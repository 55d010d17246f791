"""Manhattan self-attention: attention that decays with the distance of the pixels.

Queries, keys and values are maps [samples, height, width, heads, head channels]; keys come scaled by
(head channels)^(-1/2). The released form adds log-decays to the logits before the softmax; the paper's form
(arXiv 2309.11523, equation 5) multiplies the softmax by the decays, and its rows then sum to less than one. Divided by
these sums the product is the released form.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dd.models.rmt.layers import DepthwiseConv
from dd.models.rmt.position import Tables


def rotate(z: Tensor, sine: Tensor, cosine: Tensor) -> Tensor:
    """Turn the pairs of neighbouring channels.

    Args:
        z: [samples, height, width, heads, head channels]; the last channel of an odd number stays as it is.
        sine: [height, width, head channels].
        cosine: [height, width, head channels].
    """
    end = z.shape[-1] // 2 * 2
    turned = torch.stack((-z[..., 1:end:2], z[..., 0:end:2]), dim=-1).flatten(-2)
    turned = nn.functional.pad(turned, (0, z.shape[-1] - end))
    return (z * cosine[:, :, None] + turned * sine[:, :, None]).to(z.dtype)


def released(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Softmax(q kᵀ + mask) v, written out.

    Args:
        q: queries, [batch, heads, pixels, head channels].
        k: scaled keys, the same shape.
        v: values, the same shape.
        mask: log-decays, [heads, pixels, pixels].
    """
    return (q @ k.mT + mask).softmax(-1).to(v.dtype) @ v


def product(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Compute (softmax(q kᵀ) ⊙ mask) v with decays as the mask (equation 5); shapes as in :func:`released`."""
    return ((q @ k.mT).softmax(-1) * mask).to(v.dtype) @ v


def fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """:func:`released` through torch's fused kernels."""
    return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.dtype), scale=1.0)


FORMS = {"released": released, "product": product, "fused": fused}


def _pixels(z: Tensor) -> Tensor:
    """[samples, height, width, heads, channels] -> [samples, heads, height * width, channels]."""
    return z.flatten(1, 2).transpose(1, 2)


def _rows(z: Tensor) -> Tensor:
    """[samples, height, width, heads, channels] -> [samples * height, heads, width, channels]."""
    return z.flatten(0, 1).transpose(1, 2)


def _columns(z: Tensor) -> Tensor:
    """[samples, height, width, heads, channels] -> [samples * width, heads, height, channels]."""
    return z.transpose(1, 2).flatten(0, 1).transpose(1, 2)


def whole_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, *, form: str = "released") -> Tensor:
    """Attention over all pixels of a map.

    Args:
        q: queries, [samples, height, width, heads, head channels].
        k: scaled keys, the same shape.
        v: values, the same shape.
        mask: see :class:`Tables`, [heads, height * width, height * width].
        form: "released", "product" or "fused" (the released form through torch's kernels).

    Returns:
        [samples, height, width, heads, head channels].
    """
    over = FORMS[form](_pixels(q), _pixels(k), _pixels(v), mask)
    return over.transpose(1, 2).reshape(q.shape)


def decomposed_attention(
    q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor, *, form: str = "released"
) -> Tensor:
    """Attention along each row, then, on its result and with the same queries and keys, along each column.

    Args:
        q: queries, [samples, height, width, heads, head channels].
        k: scaled keys, the same shape.
        v: values, the same shape.
        rows: see :class:`Tables`, [heads, width, width].
        columns: see :class:`Tables`, [heads, height, height].
        form: see :func:`whole_attention`.

    Returns:
        [samples, height, width, heads, head channels].
    """
    samples, height, width, heads, size = q.shape
    along = FORMS[form](_rows(q), _rows(k), _rows(v), rows)
    v = along.transpose(1, 2).reshape(samples, height, width, heads, size)
    along = FORMS[form](_columns(q), _columns(k), _columns(v), columns)
    return along.transpose(1, 2).reshape(samples, width, height, heads, size).transpose(1, 2)


class ManhattanAttention(nn.Module):
    """Attention of a block, with the local term (5 x 5 depthwise convolution of the values) of equation 7.

    The released form runs through torch's fused kernels, but is written out in float64 and where ``explicit`` is set:
    the fused kernels have no forward-mode and no second derivatives.

    Args:
        dim: channels.
        heads: attention heads.
        form: "released" or "product".

    Attributes:
        explicit: whether attention is written out in every dtype.
    """

    def __init__(self, dim: int, heads: int, form: str) -> None:
        super().__init__()
        self.heads, self.form, self.explicit = heads, form, False
        self.scale = (dim // heads) ** -0.5
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.lepe = DepthwiseConv(dim, 5)
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, tables: Tables) -> Tensor:
        """[samples, height, width, channels] -> the same shape."""
        q, k, v = self.q_proj(x), self.k_proj(x) * self.scale, self.v_proj(x)
        local = self.lepe(v)
        q, k, v = (z.unflatten(-1, (self.heads, -1)) for z in (q, k, v))
        if tables.rotation is not None:
            q, k = rotate(q, *tables.rotation), rotate(k, *tables.rotation)
        form = self.form
        if form == "released" and not (self.explicit or q.dtype == torch.float64):
            form = "fused"
        if len(tables.masks) == 1:
            attended = whole_attention(q, k, v, *tables.masks, form=form)
        else:
            attended = decomposed_attention(q, k, v, *tables.masks, form=form)
        return self.out_proj(attended.flatten(-2) + local)
