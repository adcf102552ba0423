"""UNets (sd15, sd2, sdxl, refiner) over the fused operations: maps with channels last, one pass for a norm with SiLU and the step's time, one product for what reads the same rows.

Keys and values of the words are one product for all blocks of a width, at the beginning of each step: whatever words and weights then are, they are theirs.
"""

# pyright: reportIncompatibleMethodOverride=false
from __future__ import annotations

from typing import Any, Mapping

import torch
from diffusers.models.activations import GEGLU
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_blocks import CrossAttnUpBlock2D, UpBlock2D
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn import functional

from ..models.attention import mix
from .maps import TIMELESS, Groups, Time, channels_last, map_of, rows_of
from .passes import Even, Operations, Update
from .rows import Rows, product, takes_codes
from .stacked import products

# Keys and values of the words, by the attention that reads them: [batch * words, heads * width] each.
Words = Mapping[nn.Module, tuple[Tensor, Tensor]]
WORDS = "words_read"


def _groups(norm: Any) -> Groups:
    return Groups(norm.num_groups, norm.eps, norm.weight, norm.bias)


def _even(norm: Any) -> Even:
    return Even(norm.eps, norm.weight, norm.bias)


def _convolved(layer: Any, x: Tensor) -> Tensor:
    """Without the layer's bias: the next pass adds it."""
    return functional.conv2d(x, layer.weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)


def _projected(layer: Any, rows: Tensor) -> Tensor:
    """A linear layer, or a convolution of single places."""
    return functional.linear(rows, layer.weight.flatten(1), layer.bias) if isinstance(layer, nn.Conv2d) else product(layer, rows)


class Resnet(ResnetBlock2D):
    operations: Operations

    def forward(self, input_tensor: Tensor, temb: Tensor | None, *args: Any, **kwargs: Any) -> Tensor:
        plain = self.time_embedding_norm in ("default", "scale_shift") and isinstance(self.nonlinearity, nn.SiLU)
        if not plain or self.up or self.down or self.output_scale_factor != 1.0:
            return super().forward(input_tensor, temb, *args, **kwargs)
        do, time = self.operations, TIMELESS
        if self.time_emb_proj is not None and temb is not None:
            # A time of one row is everybody's.
            said = self.time_emb_proj(temb if self.skip_time_act else functional.silu(temb)).expand(len(input_tensor), -1)
            time = Time(None, *said.chunk(2, 1)) if self.time_embedding_norm == "scale_shift" else Time(said)
        first = _convolved(self.conv1, do.norm_map(input_tensor, _groups(self.norm1)))
        second = _convolved(self.conv2, do.norm_map(first, _groups(self.norm2), bias=self.conv1.bias, time=time))
        if self.conv_shortcut is not None:
            input_tensor = map_of(_projected(self.conv_shortcut, rows_of(input_tensor)), input_tensor)
        return do.add_map(input_tensor, second, self.conv2.bias)


class Convolution(nn.Conv2d):
    """Where one is called as it is: at both ends, and where the size changes."""

    operations: Operations

    def forward(self, input: Tensor) -> Tensor:
        # A picture comes with its channels apart: what follows would be turned again and again.
        return self.operations.add_map(_convolved(self, channels_last(input)), None, self.bias)


class Norm(nn.GroupNorm):
    """The last one, before the way out."""

    operations: Operations

    def forward(self, input: Tensor) -> Tensor:
        return self.operations.norm_map(input, _groups(self), silu=False)


class Upsample(Upsample2D):
    operations: Operations

    def forward(self, hidden_states: Tensor, output_size: Any = None, *args: Any, **kwargs: Any) -> Tensor:
        doubled = [2 * side for side in hidden_states.shape[2:]]
        if not self.use_conv or self.use_conv_transpose or self.norm is not None or not self.interpolate or self.name != "conv":
            return super().forward(hidden_states, output_size, *args, **kwargs)
        if output_size is not None and list(output_size) != doubled:
            return super().forward(hidden_states, output_size, *args, **kwargs)
        layer: Any = self.conv
        return layer(self.operations.double_map(hidden_states))


def _risen(block: Any, hidden: Tensor, skips: tuple[Tensor, ...], temb: Tensor | None, upsample_size: int | None, look: Any) -> Tensor:
    """A block of the way up: each residual block sees what the way down left beside."""
    for index, resnet in enumerate(block.resnets):
        hidden = look(index, resnet(block.operations.join_maps(hidden, skips[-1 - index]), temb))
    for upsampler in block.upsamplers or ():
        hidden = upsampler(hidden, upsample_size)
    return hidden


class Up(UpBlock2D):
    operations: Operations

    def forward(
        self, hidden_states: Tensor, res_hidden_states_tuple: tuple[Tensor, ...], temb: Tensor | None = None, upsample_size: int | None = None,
        *args: Any, **kwargs: Any,
    ) -> Tensor:  # fmt: skip
        return _risen(self, hidden_states, res_hidden_states_tuple, temb, upsample_size, lambda _, hidden: hidden)


class UpWithWords(CrossAttnUpBlock2D):
    operations: Operations

    def forward(
        self, hidden_states: Tensor, res_hidden_states_tuple: tuple[Tensor, ...], temb: Tensor | None = None, encoder_hidden_states: Tensor | None = None,
        cross_attention_kwargs: Any = None, upsample_size: int | None = None, attention_mask: Tensor | None = None, encoder_attention_mask: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        def look(index: int, hidden: Tensor) -> Tensor:
            return self.attentions[index](
                hidden, encoder_hidden_states, cross_attention_kwargs=cross_attention_kwargs, attention_mask=attention_mask,
                encoder_attention_mask=encoder_attention_mask, return_dict=False,
            )[0]  # fmt: skip

        return _risen(self, hidden_states, res_hidden_states_tuple, temb, upsample_size, look)


class Transformer(Transformer2DModel):
    """A map's places as tokens, through all of its blocks: the last pass of a block gives the next one its normed rows."""

    operations: Operations

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, timestep: Tensor | None = None,
        added_cond_kwargs: Any = None, class_labels: Tensor | None = None, cross_attention_kwargs: Any = None,
        attention_mask: Tensor | None = None, encoder_attention_mask: Tensor | None = None, return_dict: bool = True,
    ) -> Any:  # fmt: skip
        given: Any = {name: value for name, value in (cross_attention_kwargs or {}).items() if name != WORDS}
        fits = self.is_input_continuous and not given and not return_dict and attention_mask is encoder_attention_mask is None
        if not fits or encoder_hidden_states is None or not all(map(_fits, self.transformer_blocks)):
            rest: Any = given or None
            return super().forward(
                hidden_states, encoder_hidden_states, timestep, added_cond_kwargs, class_labels, rest, attention_mask, encoder_attention_mask, return_dict
            )  # fmt: skip
        do, batch = self.operations, len(hidden_states)
        words: Words = (cross_attention_kwargs or {}).get(WORDS) or read(do, list(self.transformer_blocks), encoder_hidden_states)
        normed = rows_of(do.norm_map(hidden_states, _groups(self.norm), silu=False))
        x = _projected(self.proj_in, normed).unflatten(0, (batch, -1))
        blocks: list[Any] = list(self.transformer_blocks)
        rows = do.norm(x, None, _even(blocks[0].norm1), codes=_takes(blocks[0].attn1))
        for block, following in zip(blocks, [*blocks[1:], None]):
            rows = self._read(x, block, self._look(x, block, rows), words[block.attn2])
            wide, narrow = block.ff.net[0].proj, block.ff.net[2]
            change = Update(product(narrow, do.geglu(product(wide, rows), codes=takes_codes(narrow))), None, x)
            if following is None:
                do.update(x, change)
            else:
                rows = do.update_and_norm(x, change, None, _even(following.norm1), codes=_takes(following.attn1))
        return (do.add_map(hidden_states, map_of(_projected(self.proj_out, x.flatten(0, 1)), hidden_states)),)

    def _look(self, x: Tensor, block: Any, rows: Rows) -> Rows:
        """Self-attention of normed `rows`, added to x in place; gives the rows that ask the words."""
        attn, batch = block.attn1, len(x)
        query, key, value = (_heads(part, batch, attn.heads) for part in products([attn.to_q, attn.to_k, attn.to_v], rows))
        return self._behind(x, attn, mix(query, key, value), block.norm2, block.attn2.to_q)

    def _read(self, x: Tensor, block: Any, rows: Rows, words: tuple[Tensor, Tensor]) -> Rows:
        """The same for what the words say; gives the rows of the feed-forward layers."""
        attn, batch = block.attn2, len(x)
        key, value = (_heads(part, batch, attn.heads) for part in words)
        return self._behind(
            x,
            attn,
            mix(_heads(product(attn.to_q, rows), batch, attn.heads), key, value),
            block.norm3,
            block.ff.net[0].proj,
        )

    def _behind(self, x: Tensor, attn: Any, mixed: Tensor, norm: nn.Module, taker: nn.Module) -> Rows:
        do, layer = self.operations, attn.to_out[0]
        change = Update(product(layer, do.rows(mixed, codes=takes_codes(layer))), None, x)
        return do.update_and_norm(x, change, None, _even(norm), codes=takes_codes(taker))


def _heads(rows: Tensor, batch: int, heads: int) -> Tensor:
    return rows.unflatten(0, (batch, -1)).unflatten(2, (heads, -1))


def _takes(attn: Any) -> torch.dtype | None:
    return takes_codes(attn.to_q, attn.to_k, attn.to_v)


def _fits(block: Any) -> bool:
    """A block as these structures have them: three layer norms, two attentions without norms of their own, GEGLU."""
    return (
        block.norm_type == "layer_norm" and block.pos_embed is None and not block.only_cross_attention and isinstance(block.ff.net[0], GEGLU)
        and all(
            attn is not None and attn.group_norm is attn.spatial_norm is attn.norm_q is attn.norm_k is attn.norm_cross is None
            and not attn.residual_connection and attn.rescale_output_factor == 1.0
            for attn in (block.attn1, block.attn2)
        )
    )  # fmt: skip


def read(do: Operations, blocks: list[Any], words: Tensor) -> dict[nn.Module, tuple[Tensor, Tensor]]:
    """Keys and values of words [batch, words, cols] for each block's attention to them."""
    attentions = [block.attn2 for block in blocks]
    layers = [layer for attn in attentions for layer in (attn.to_k, attn.to_v)]
    found = products(layers, do.rows(words, codes=takes_codes(*layers)))
    return {attn: (found[2 * index], found[2 * index + 1]) for index, attn in enumerate(attentions)}


class UNet(UNet2DConditionModel):
    operations: Operations

    def forward(self, sample: Tensor, timestep: Any, encoder_hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        blocks = [block for child in self.modules() if isinstance(child, Transformer) for block in child.transformer_blocks]
        if self.encoder_hid_proj is None and not args and kwargs.get("cross_attention_kwargs") is None and all(map(_fits, blocks)):
            kwargs["cross_attention_kwargs"] = {WORDS: read(self.operations, blocks, encoder_hidden_states)}
        return super().forward(sample, timestep, encoder_hidden_states, *args, **kwargs)


BLOCKS = {
    ResnetBlock2D: Resnet, Transformer2DModel: Transformer, UpBlock2D: Up, CrossAttnUpBlock2D: UpWithWords, Upsample2D: Upsample, nn.Conv2d: Convolution, nn.GroupNorm: Norm,
    UNet2DConditionModel: UNet,
}  # fmt: skip
