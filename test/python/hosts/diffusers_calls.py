"""How diffusers' own pipelines call their transformers: the other side of the comparison. In: the inputs of an engine's step. Out: what the engine should answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Callable, Mapping

import torch
from diffusers.models.transformers import transformer_cosmos
from torch import Tensor, nn

Inputs = Mapping[str, Tensor]


def pictures(inputs: Inputs) -> list[Tensor]:
    batch = inputs["sample"].shape[0]
    more = [inputs[name] for name in sorted(inputs) if name.startswith("reference_latents_")]
    return [inputs["sample"], *(value.expand(batch, *value.shape[1:]) for value in more)]


def controls(inputs: Inputs, name: str, count: int) -> list[Tensor] | None:
    """What a ControlNet adds behind blocks, as long as so many tokens."""
    found = [inputs[f"{name}_{number}"] for number in range(64) if f"{name}_{number}" in inputs]
    return [torch.nn.functional.pad(one, (0, 0, 0, count - one.shape[1])) for one in found] or None


def packed(picture: Tensor, patch: int = 2) -> Tensor:
    """[b, c, (1,) h, w] as tokens of (channel, row, column)."""
    if picture.dim() == 5:
        picture = picture[:, :, 0]
    batch, channels, height, width = picture.shape
    cells = picture.view(batch, channels, height // patch, patch, width // patch, patch).permute(0, 2, 4, 1, 3, 5)
    return cells.reshape(batch, -1, channels * patch**2)


def unpacked(tokens: Tensor, like: Tensor, patch: int = 2) -> Tensor:
    height, width = like.shape[-2:]
    count = (height // patch) * (width // patch)
    cells = tokens[:, :count].view(len(tokens), height // patch, width // patch, -1, patch, patch).permute(0, 3, 1, 4, 2, 5)
    out = cells.reshape(len(tokens), -1, height, width)
    return out[:, :, None] if like.dim() == 5 else out


def z_image(module: nn.Module, inputs: Inputs) -> Tensor:
    """Lists of pictures and of words, time from noise to picture, the velocity's other sign."""
    out = module(
        [one[:, None] for one in inputs["sample"]], 1 - inputs["timestep"], list(inputs["encoder_hidden_states"]), return_dict=False
    )[0]
    return -torch.stack(list(out))[:, :, 0]


def qwen_image(module: nn.Module, inputs: Inputs) -> Tensor:
    seen = pictures(inputs)
    shapes = [[(1, one.shape[-2] // 2, one.shape[-1] // 2) for one in seen]] * len(inputs["sample"])
    tokens = torch.cat([packed(one) for one in seen], dim=1)
    out = module(
        hidden_states=tokens, encoder_hidden_states=inputs["encoder_hidden_states"], encoder_hidden_states_mask=inputs.get("attention_mask"),
        timestep=inputs["timestep"], img_shapes=shapes, controlnet_block_samples=controls(inputs, "block_controls", tokens.shape[1]), return_dict=False,
    )[0]  # fmt: skip
    return unpacked(out, inputs["sample"])


def qwen_image_21(module: nn.Module, inputs: Inputs) -> Tensor:
    """Every slot of the picture stands for four cells."""
    sample, words, mask = inputs["sample"], inputs["encoder_hidden_states"], inputs.get("attention_mask")
    rows, columns = sample.shape[-2:]
    slots = torch.arange(words.shape[1] + rows * columns // 4) >= words.shape[1]
    out = module(
        sample.flatten(2).mT, words, inputs["timestep"], [[(1, rows, columns)]] * len(sample), slots[None],
        None if mask is None else mask > 0.5, return_dict=False,
    )[0]  # fmt: skip
    return out[:, words.shape[1] :].mT.reshape(sample.shape)


def flux2(module: nn.Module, inputs: Inputs) -> Tensor:
    seen = pictures(inputs)
    ids = torch.cat([_flux2_ids(one, 10 * number) for number, one in enumerate(seen)])
    words = torch.zeros(inputs["encoder_hidden_states"].shape[1], 4)
    words[:, 3] = torch.arange(len(words))
    out = module(
        hidden_states=torch.cat([packed(one, 1) for one in seen], dim=1), encoder_hidden_states=inputs["encoder_hidden_states"], timestep=inputs["timestep"],
        img_ids=ids, txt_ids=words, guidance=inputs.get("guidance"), return_dict=False,
    )[0]  # fmt: skip
    return unpacked(out, inputs["sample"], 1)


def _flux2_ids(picture: Tensor, place: int) -> Tensor:
    rows, columns = picture.shape[-2:]
    return torch.cartesian_prod(torch.tensor([place]), torch.arange(rows), torch.arange(columns), torch.tensor([0])).float()


def flux3(module: nn.Module, inputs: Inputs) -> Tensor:
    """Places of pictures count by halves; references stand at -1, -2, ... along the words' axis."""
    sample, *seen = pictures(inputs)
    words = torch.zeros(inputs["encoder_hidden_states"].shape[1], 4)
    words[:, 3] = torch.arange(len(words))
    more = {}
    if seen:
        more["image_cond_hidden_states"] = torch.cat([packed(one, 1) for one in seen], dim=1)
        more["image_cond_ids"] = torch.cat([_flux3_ids(one, -1 - number) for number, one in enumerate(seen)])
    out = module(
        packed(sample, 1), inputs["encoder_hidden_states"], inputs["timestep"], _flux3_ids(sample, 0), words, target_timestep=inputs.get("target_timestep"),
        return_dict=False, **more,
    )[0]  # fmt: skip
    return unpacked(out, sample, 1)


def _flux3_ids(picture: Tensor, place: int) -> Tensor:
    rows, columns = (torch.arange(size) * 0.5 for size in picture.shape[-2:])
    return torch.cartesian_prod(torch.zeros(1), rows, columns, torch.tensor([float(place)]))


def krea2(module: nn.Module, inputs: Inputs) -> Tensor:
    words = inputs["encoder_hidden_states"].unflatten(-1, (module.config.num_text_layers, -1))
    rows, columns = inputs["sample"].shape[-2] // 2, inputs["sample"].shape[-1] // 2
    places = torch.cartesian_prod(torch.tensor([0]), torch.arange(rows), torch.arange(columns))
    places = torch.cat([torch.zeros(words.shape[1], 3, dtype=places.dtype), places])
    return unpacked(module(packed(inputs["sample"]), words, inputs["timestep"], places, return_dict=False)[0], inputs["sample"])


def lumina2(module: nn.Module, inputs: Inputs) -> Tensor:
    words = inputs["encoder_hidden_states"]
    return -module(inputs["sample"], 1 - inputs["timestep"], words, torch.ones(words.shape[:2], dtype=torch.bool), return_dict=False)[0]


def chroma(module: nn.Module, inputs: Inputs) -> Tensor:
    """Without guidance, which diffusers does not take."""
    rows, columns = inputs["sample"].shape[-2] // 2, inputs["sample"].shape[-1] // 2
    ids = torch.cartesian_prod(torch.tensor([0.0]), torch.arange(rows).float(), torch.arange(columns).float())
    words = inputs["encoder_hidden_states"]
    tokens = packed(inputs["sample"])
    double, single = (controls(inputs, f"{kind}_controls", tokens.shape[1]) for kind in ("double", "single"))
    out = module(
        tokens, words, inputs["timestep"], img_ids=ids, txt_ids=torch.zeros(words.shape[1], 3), controlnet_block_samples=double,
        controlnet_single_block_samples=single, return_dict=False,
    )[0]  # fmt: skip
    return unpacked(out, inputs["sample"])


def anima(module: nn.Module, inputs: Inputs) -> Tensor:
    """No padding anywhere, so the mask has the right size already, and torchvision, which would bring it there, is not needed."""
    same = SimpleNamespace(resize=lambda mask, *_, **__: mask)
    transformer_cosmos.transforms = SimpleNamespace(functional=same, InterpolationMode=SimpleNamespace(NEAREST=None))
    mask = torch.zeros(1, 1, *inputs["sample"].shape[-2:])
    return module(inputs["sample"], inputs["timestep"], inputs["encoder_hidden_states"], padding_mask=mask, return_dict=False)[0]


def ltxv(module: nn.Module, inputs: Inputs) -> Tensor:
    """Without the settings that diffusers leaves to its caller."""
    sample, rate = inputs["sample"], float(inputs["frame_rate"][0])
    frames, height, width = sample.shape[2:]
    words = inputs["encoder_hidden_states"]
    times = inputs.get("token_timesteps", inputs["timestep"][:, None])
    out = module(
        sample.flatten(2).mT, words, 1000 * times, inputs.get("attention_mask", torch.ones(words.shape[:2])), num_frames=frames, height=height, width=width,
        rope_interpolation_scale=(8 / rate, 32, 32), return_dict=False,
    )[0]  # fmt: skip
    return out.mT.reshape(sample.shape)


def ltx2(module: nn.Module, inputs: Inputs) -> Tensor:
    """The words of both streams lie side by side, and so does the answer."""
    sample, rate, batch = inputs["sample"], float(inputs["frame_rate"][0]), len(inputs["sample"])
    words, wide = inputs["encoder_hidden_states"], module.config.cross_attention_dim
    video_words, audio_words = words.chunk(2, dim=-1) if module.config.use_prompt_embeddings else (words[..., :wide], words[..., wide:])
    sounds = inputs["audio_sample"].transpose(1, 2).flatten(2)
    sigma, audio_sigma = 1000 * inputs["timestep"], 1000 * inputs["audio_timestep"]
    mask = inputs.get("attention_mask")
    video, audio = module(
        sample.flatten(2).mT, sounds, video_words, audio_words, sigma[:, None], audio_sigma[:, None], sigma, audio_sigma, mask, mask,
        *sample.shape[2:], fps=rate, audio_num_frames=sounds.shape[1], return_dict=False,
        video_keyframes_mask=(torch.arange(sample[0, 0].numel()) < sample[0, 0, 0].numel()).float()[None, :, None],
    )  # fmt: skip
    sound = audio.unflatten(-1, (8, -1)).transpose(1, 2)
    return torch.cat([video.mT.reshape(batch, -1), sound.reshape(batch, -1)], dim=1)


def minimax_h3(module: nn.Module, inputs: Inputs) -> Tensor:
    """Row by row, because all rows of a batch have one time there. Words are the encoder's (`words`), or the run's already; audio is carried as it is."""
    given, out = "words" if "words" in inputs else "encoder_hidden_states", []
    if given == "encoder_hidden_states":
        wide = module.config.hidden_size
        module.token_refiner, module.context_embedder = nn.Identity(), nn.Linear(wide, wide, bias=False)
        module.context_embedder.weight.data = torch.eye(wide)
    for row in range(len(inputs["sample"])):
        video, sound, words = (inputs[name][row : row + 1] for name in ("sample", "audio_sample", given))
        frames, rows, columns = video.shape[2], video.shape[3] // 2, video.shape[4] // 2
        places = _minimax_places(words.shape[1], sound.shape[-1], frames, rows, columns)
        sizes = [words.shape[1], 2 * sound.shape[-1], frames * rows * columns]
        text, audio, seen = torch.arange(sum(sizes)).split(sizes)
        sigma = inputs["timestep"][row] / 1000
        base = sigma / (12 - 11 * sigma)
        times = torch.stack([1 - sigma, 1 - 3 * base / (1 + 2 * base)])
        kinds = torch.cat([torch.full((size,), kind) for size, kind in zip(sizes, (1, 2, 0), strict=True)])
        cells = torch.cat([packed(video[:, :, frame]) for frame in range(frames)], dim=1)
        found = module(
            cells,
            sound.permute(0, 2, 3, 1).flatten(1, 2),
            words,
            times,
            (kinds == 2).long(),
            kinds,
            places,
            seen,
            audio,
            text,
            return_dict=False,
        )
        back = [unpacked(part, video[:, :, 0]) for part in found[0].chunk(frames, dim=1)]
        whole = found[1].unflatten(1, (2, -1)).permute(0, 3, 1, 2)
        out.append(-torch.cat([torch.stack(back, dim=2).flatten(1), whole.flatten(1)], dim=1))
    return torch.cat(out)


def _minimax_places(words: int, sounds: int, frames: int, rows: int, columns: int) -> Tensor:
    """(time, row, column) of every token, as the pipeline counts them."""
    area = (rows * columns) ** 0.5
    down, right = ([32 * ((1 - size / area) / 2 + number / area) for number in range(size)] for size in (rows, columns))
    at, places = float(words), [(float(number), 0.0, 0.0) for number in range(words)]
    places += [(words + number, 0.0, edge) for edge in (right[0], right[-1]) for number in range(sounds)]
    for frame in range(frames):
        places += [(at, row, column) for row in down for column in right]
        at += 5 / 3 * (1, 4, 4, 4, 4)[frame % 5]
    return torch.tensor(places, dtype=torch.float64)


def hunyuan_video(module: nn.Module, inputs: Inputs) -> Tensor:
    words = inputs["encoder_hidden_states"]
    return module(
        inputs["sample"], inputs["timestep"], words, torch.ones(words.shape[:2]), inputs["y"], 1000 * inputs["guidance"], return_dict=False
    )[0]


def hunyuan_video_15(module: nn.Module, inputs: Inputs) -> Tensor:
    """Everything is seen; a picture of zeros counts as none."""
    words = inputs["encoder_hidden_states"]
    letters = inputs.get("letters", words.new_zeros(len(words), 0, module.config.text_embed_2_dim))
    seen = inputs.get("encoder_hidden_states_image", words.new_zeros(len(words), 1, module.config.image_embed_dim))
    return module(
        inputs["sample"], inputs["timestep"], words, torch.ones(words.shape[:2]), encoder_hidden_states_2=letters,
        encoder_attention_mask_2=torch.ones(letters.shape[:2]), image_embeds=seen, return_dict=False,
    )[0]  # fmt: skip


def kandinsky5(module: nn.Module, inputs: Inputs) -> Tensor:
    """Channels last; row by row, because one row alone comes back without its batch."""
    rows = []
    for row in range(len(inputs["sample"])):
        one = {name: value[row : row + 1] for name, value in inputs.items()}
        sample = one["sample"].clone() if one["sample"].dim() == 5 else one["sample"][:, :, None]
        if "first_frames" in one:
            sample[:, : one["first_frames"].shape[1], : one["first_frames"].shape[2]] = one["first_frames"]
        frames, height, width = sample.shape[2:]
        places = tuple(torch.arange(size) for size in (frames, height // 2, width // 2))
        words = one["encoder_hidden_states"]
        out = module(
            sample.movedim(1, -1),
            words,
            one["timestep"],
            one["y"],
            places,
            torch.arange(words.shape[1]),
            scale_factor=(1.0, 2.0, 2.0) if module.config.visual_cond else (1.0, 1.0, 1.0),
            return_dict=False,
        )
        rows.append(out.reshape(1, frames, height, width, -1).movedim(-1, 1))
    return torch.cat(rows).reshape(len(rows), -1, *inputs["sample"].shape[2:])


def ernie_image(module: nn.Module, inputs: Inputs) -> Tensor:
    words = inputs["encoder_hidden_states"]
    counts = torch.full((len(words),), words.shape[1])
    return module(inputs["sample"], inputs["timestep"], words, counts, return_dict=False)[0]


def hidream(module: nn.Module, inputs: Inputs) -> Tensor:
    """A square picture: others are filled up with tokens that attention sees."""
    layers = inputs["encoder_hidden_states_layers"].transpose(0, 1)
    return -module(inputs["sample"], inputs["timestep"], inputs["encoder_hidden_states"], layers, inputs["y"], return_dict=False)[0]


def wan(module: nn.Module, inputs: Inputs) -> Tensor:
    return (wan_vace if "vace_context" in inputs else wan_animate)(module, inputs)


def wan_animate(module: nn.Module, inputs: Inputs) -> Tensor:
    """A pose for every frame but the first, and a face for each of their pictures. Without a face none of the blocks that look at one does anything."""
    sample, size = inputs["sample"], module.config.motion_encoder_size
    frames = sample.shape[2]
    pose = inputs.get("pose_latents")
    if pose is None:
        # No pose is a pose whose patches are zeros.
        torch.nn.init.zeros_(module.pose_patch_embedding.weight)
        torch.nn.init.zeros_(module.pose_patch_embedding.bias)
        pose = sample.new_zeros(len(sample), module.config.latent_channels, frames - 1, *sample.shape[3:])
    face = inputs.get("face_pixel_values")
    if face is None:
        for block in module.face_adapter:
            torch.nn.init.zeros_(block.to_out.weight)
            torch.nn.init.zeros_(block.to_out.bias)
        face = sample.new_zeros(len(sample), 3, 4 * (frames - 1) - 3, size, size)
    return module(
        sample, inputs["timestep"], inputs["encoder_hidden_states"], inputs["encoder_hidden_states_image"], pose_hidden_states=pose,
        face_pixel_values=face, return_dict=False,
    )[0]  # fmt: skip


def wan_vace(module: nn.Module, inputs: Inputs) -> Tensor:
    """One control video, at one strength for all rows."""
    strengths = inputs["vace_strength"][0].expand(len(module.config.vace_layers))
    return module(
        inputs["sample"], inputs["timestep"], inputs["encoder_hidden_states"], control_hidden_states=inputs["vace_context"][:, 0],
        control_hidden_states_scale=strengths, return_dict=False,
    )[0]  # fmt: skip


CALLS: dict[str, Callable[[nn.Module, Inputs], Tensor]] = {
    "z-image": z_image,
    "qwen-image": qwen_image,
    "qwen-image-2.1": qwen_image_21,
    "flux2": flux2,
    "flux3": flux3,
    "krea2": krea2,
    "lumina2": lumina2,
    "chroma": chroma,
    "anima": anima,
    "ltxv": ltxv,
    "ltx2": ltx2,
    "minimax-h3": minimax_h3,
    "hunyuan-video": hunyuan_video,
    "hunyuan-video-1.5": hunyuan_video_15,
    "kandinsky5": kandinsky5,
    "hidream": hidream,
    "ernie-image": ernie_image,
    "wan": wan,
}
