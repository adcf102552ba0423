"""Which model classes of a UI an engine serves, and how their calls feed its inputs. Generated from protocol/families by `npm run generate`; do not edit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class WordsCall(NamedTuple):
    method: str
    #: In the order in which the UI gives them.
    arguments: tuple[str, ...]
    #: Argument -> engine input.
    inputs: Mapping[str, str | tuple[str, ...]]
    #: Arguments that say nothing that an engine does not know.
    ignored: frozenset[str]
    #: As those of a step.
    settings: Mapping[str, str | tuple[str, str]]
    #: Without this argument, what is as wide as this input of a step is its words already.
    unless: tuple[str, str] | None


class FamilyCall(NamedTuple):
    family: str
    title: str
    #: UI ("comfyui", "forge") -> names of its model classes.
    classes: Mapping[str, tuple[str, ...]]
    #: Arguments in the order in which the UI gives them.
    arguments: tuple[str, ...]
    #: Argument -> engine input; several for an argument that is a list of tensors of different kinds.
    inputs: Mapping[str, str | tuple[str, ...]]
    #: Engine inputs that are the same over a run.
    once_per_run: frozenset[str]
    #: Arguments that say nothing that an engine does not know.
    ignored: frozenset[str]
    #: Engine inputs that not every structure of the family has; without it, the UI's own model does not look at the argument.
    conditional: frozenset[str]
    #: Engine inputs that a call may leave out.
    optional: frozenset[str]
    #: Engine inputs that take a list: at most so many tensors, as name_0, name_1, ...
    many: Mapping[str, int]
    #: Argument of one number a batch entry -> the input for numbers of parts of the sample.
    finer: Mapping[str, str | tuple[str, ...]]
    #: Value in the configuration that the UI read off a file -> engine input; with a word: 1 where the value is that word.
    settings: Mapping[str, str | tuple[str, str]]
    #: The method of the UI's model that makes a run's words.
    words: WordsCall | None


FAMILY_CALLS: tuple[FamilyCall, ...] = (
    FamilyCall(
        "sd15",
        "SD 1.x",
        {"comfyui": ("BaseModel",), "forge": ("IntegratedUNet2DConditionModel", "BaseModel")},
        ("x", "timesteps", "context", "y", "control", "transformer_options"),
        {"x": "sample", "timesteps": "timestep", "context": "encoder_hidden_states", "y": "y"},
        frozenset({"encoder_hidden_states", "y"}),
        frozenset(),
        frozenset({"y"}),
        frozenset(),
        {},
        {},
        {},
        None,
    ),
    FamilyCall(
        "sd2",
        "SD 2.x",
        {"comfyui": ("SD21UNCLIP",), "forge": ("BaseModel",)},
        ("x", "timesteps", "context", "y", "control", "transformer_options"),
        {"x": "sample", "timesteps": "timestep", "context": "encoder_hidden_states", "y": "y"},
        frozenset({"encoder_hidden_states", "y"}),
        frozenset(),
        frozenset({"y"}),
        frozenset(),
        {},
        {},
        {},
        None,
    ),
    FamilyCall(
        "sdxl",
        "SDXL",
        {"comfyui": ("SDXL",), "forge": ("SDXL",)},
        ("x", "timesteps", "context", "y", "control", "transformer_options"),
        {"x": "sample", "timesteps": "timestep", "context": "encoder_hidden_states", "y": "y"},
        frozenset({"encoder_hidden_states", "y"}),
        frozenset(),
        frozenset({"y"}),
        frozenset(),
        {},
        {},
        {},
        None,
    ),
    FamilyCall(
        "sdxl-refiner",
        "SDXL refiner",
        {"comfyui": ("SDXLRefiner",), "forge": ("SDXLRefiner",)},
        ("x", "timesteps", "context", "y", "control", "transformer_options"),
        {"x": "sample", "timesteps": "timestep", "context": "encoder_hidden_states", "y": "y"},
        frozenset({"encoder_hidden_states", "y"}),
        frozenset(),
        frozenset({"y"}),
        frozenset(),
        {},
        {},
        {},
        None,
    ),
    FamilyCall(
        "sd3",
        "SD3 and SD3.5",
        {"comfyui": ("SD3",), "forge": ("MMDiTX", "SD3")},
        ("x", "timesteps", "context", "y", "control", "transformer_options"),
        {"x": "sample", "timesteps": "timestep", "context": "encoder_hidden_states", "y": "y"},
        frozenset({"encoder_hidden_states", "y"}),
        frozenset(),
        frozenset(),
        frozenset(),
        {},
        {},
        {},
        None,
    ),
    FamilyCall(
        "flux",
        "Flux.1",
        {"comfyui": ("Flux",), "forge": ("IntegratedFluxTransformer2DModel", "Flux")},
        ("x", "timestep", "context", "y", "guidance", "ref_latents", "control", "transformer_options"),
        {
            "x": "sample",
            "timestep": "timestep",
            "context": "encoder_hidden_states",
            "y": "y",
            "guidance": "guidance",
            "ref_latents": "reference_latents",
        },
        frozenset({"encoder_hidden_states", "y", "guidance", "reference_latents"}),
        frozenset(),
        frozenset({"guidance"}),
        frozenset({"reference_latents"}),
        {"reference_latents": 8},
        {},
        {},
        None,
    ),
    FamilyCall(
        "flux2",
        "Flux.2",
        {"comfyui": ("Flux2",)},
        ("x", "timestep", "context", "y", "guidance", "ref_latents", "control", "transformer_options"),
        {
            "x": "sample",
            "timestep": "timestep",
            "context": "encoder_hidden_states",
            "guidance": "guidance",
            "ref_latents": "reference_latents",
        },
        frozenset({"encoder_hidden_states", "guidance", "reference_latents"}),
        frozenset({"y"}),
        frozenset({"guidance"}),
        frozenset({"reference_latents"}),
        {"reference_latents": 8},
        {},
        {},
        None,
    ),
    FamilyCall(
        "chroma",
        "Chroma",
        {"comfyui": ("Chroma",)},
        ("x", "timestep", "context", "guidance", "control", "transformer_options"),
        {"x": "sample", "timestep": "timestep", "context": "encoder_hidden_states", "guidance": "guidance"},
        frozenset({"encoder_hidden_states", "guidance"}),
        frozenset({"y", "ref_latents", "ref_latents_method"}),
        frozenset(),
        frozenset(),
        {},
        {},
        {},
        None,
    ),
    FamilyCall(
        "z-image",
        "Z-Image",
        {"comfyui": ("Lumina2",)},
        ("x", "timesteps", "context", "num_tokens", "attention_mask", "control", "transformer_options"),
        {"x": "sample", "timesteps": "timestep", "context": "encoder_hidden_states"},
        frozenset({"encoder_hidden_states"}),
        frozenset({"num_tokens", "attention_mask"}),
        frozenset(),
        frozenset(),
        {},
        {},
        {},
        None,
    ),
    FamilyCall(
        "lumina2",
        "Lumina 2",
        {"comfyui": ("Lumina2",)},
        ("x", "timesteps", "context", "num_tokens", "attention_mask", "control", "transformer_options"),
        {"x": "sample", "timesteps": "timestep", "context": "encoder_hidden_states"},
        frozenset({"encoder_hidden_states"}),
        frozenset({"num_tokens", "attention_mask"}),
        frozenset(),
        frozenset(),
        {},
        {},
        {},
        None,
    ),
    FamilyCall(
        "qwen-image",
        "Qwen-Image",
        {"comfyui": ("QwenImage",)},
        ("x", "timestep", "context", "attention_mask", "ref_latents", "additional_t_cond", "transformer_options"),
        {
            "x": "sample",
            "timestep": "timestep",
            "context": "encoder_hidden_states",
            "attention_mask": "attention_mask",
            "ref_latents": "reference_latents",
        },
        frozenset({"encoder_hidden_states", "attention_mask", "reference_latents"}),
        frozenset(),
        frozenset(),
        frozenset({"attention_mask", "reference_latents"}),
        {"reference_latents": 8},
        {},
        {},
        None,
    ),
    FamilyCall(
        "krea2",
        "Krea 2",
        {"comfyui": ("Krea2",)},
        ("x", "timesteps", "context", "attention_mask", "ref_latents", "transformer_options"),
        {"x": "sample", "timesteps": "timestep", "context": "encoder_hidden_states"},
        frozenset({"encoder_hidden_states"}),
        frozenset({"attention_mask"}),
        frozenset(),
        frozenset(),
        {},
        {},
        {},
        None,
    ),
    FamilyCall(
        "anima",
        "Anima",
        {"comfyui": ("Anima",)},
        ("x", "timesteps", "context", "fps", "padding_mask", "control", "transformer_options"),
        {"x": "sample", "timesteps": "timestep", "context": "encoder_hidden_states"},
        frozenset({"encoder_hidden_states", "words", "word_ids", "word_weights"}),
        frozenset(),
        frozenset(),
        frozenset(),
        {},
        {},
        {},
        WordsCall(
            "preprocess_text_embeds",
            ("text_embeds", "text_ids", "t5xxl_weights"),
            {"text_embeds": "words", "text_ids": "word_ids", "t5xxl_weights": "word_weights"},
            frozenset(),
            {},
            None,
        ),
    ),
    FamilyCall(
        "wan",
        "Wan 2.1 and 2.2",
        {"comfyui": ("WAN21", "WAN22")},
        ("x", "timestep", "context", "clip_fea", "time_dim_concat", "transformer_options"),
        {"x": "sample", "timestep": "timestep", "context": "encoder_hidden_states", "clip_fea": "encoder_hidden_states_image"},
        frozenset({"encoder_hidden_states", "encoder_hidden_states_image"}),
        frozenset({"denoise_mask"}),
        frozenset({"encoder_hidden_states_image"}),
        frozenset({"frame_timesteps"}),
        {},
        {"timestep": "frame_timesteps"},
        {},
        None,
    ),
    FamilyCall(
        "wan",
        "Wan 2.1 and 2.2",
        {"comfyui": ("WAN21_Vace",)},
        ("x", "timestep", "context", "clip_fea", "time_dim_concat", "transformer_options", "vace_context", "vace_strength"),
        {
            "x": "sample",
            "timestep": "timestep",
            "context": "encoder_hidden_states",
            "vace_context": "vace_context",
            "vace_strength": "vace_strength",
        },
        frozenset({"encoder_hidden_states", "vace_context", "vace_strength"}),
        frozenset(),
        frozenset({"vace_context", "vace_strength"}),
        frozenset(),
        {},
        {},
        {},
        None,
    ),
    FamilyCall(
        "ltxv",
        "LTX-Video",
        {"comfyui": ("LTXV",)},
        ("x", "timestep", "context", "attention_mask", "frame_rate", "transformer_options"),
        {
            "x": "sample",
            "timestep": "timestep",
            "context": "encoder_hidden_states",
            "attention_mask": "attention_mask",
            "frame_rate": "frame_rate",
        },
        frozenset({"encoder_hidden_states", "attention_mask", "frame_rate", "causal", "middle"}),
        frozenset({"denoise_mask"}),
        frozenset(),
        frozenset({"attention_mask", "token_timesteps", "causal", "middle"}),
        {},
        {"timestep": "token_timesteps"},
        {"causal_temporal_positioning": "causal", "use_middle_indices_grid": "middle"},
        None,
    ),
    FamilyCall(
        "ltx2",
        "LTX-2",
        {"comfyui": ("LTXAV",)},
        ("x", "timestep", "context", "attention_mask", "frame_rate", "transformer_options"),
        {
            "x": ("sample", "audio_sample"),
            "timestep": ("timestep", "audio_timestep"),
            "context": "encoder_hidden_states",
            "attention_mask": "attention_mask",
            "frame_rate": "frame_rate",
        },
        frozenset({"encoder_hidden_states", "attention_mask", "frame_rate", "causal", "middle", "halves", "precise", "gate_scale", "words", "word_halves"}),
        frozenset({"denoise_mask", "audio_denoise_mask"}),
        frozenset({"words", "word_halves"}),
        frozenset({"audio_sample", "audio_timestep", "attention_mask", "token_timesteps", "audio_token_timesteps", "causal", "middle", "halves", "precise", "gate_scale"}),
        {},
        {"timestep": ("token_timesteps", "audio_token_timesteps")},
        {
            "causal_temporal_positioning": "causal",
            "use_middle_indices_grid": "middle",
            "rope_type": ("halves", "split"),
            "frequencies_precision": ("precise", "float64"),
            "av_ca_timestep_scale_multiplier": "gate_scale",
        },
        WordsCall(
            "preprocess_text_embeds",
            ("context", "unprocessed"),
            {"context": "words"},
            frozenset(),
            {"rope_type": ("word_halves", "split")},
            ("unprocessed", "encoder_hidden_states"),
        ),
    ),
    FamilyCall(
        "hunyuan-video",
        "HunyuanVideo",
        {"comfyui": ("HunyuanVideo", "HunyuanVideoI2V", "HunyuanVideoSkyreelsI2V")},
        (
            "x",
            "timestep",
            "context",
            "y",
            "txt_byt5",
            "clip_fea",
            "guidance",
            "attention_mask",
            "guiding_frame_index",
            "ref_latent",
            "disable_time_r",
            "control",
            "transformer_options",
        ),
        {
            "x": "sample",
            "timestep": "timestep",
            "context": "encoder_hidden_states",
            "attention_mask": "attention_mask",
            "y": "y",
            "guidance": "guidance",
        },
        frozenset({"encoder_hidden_states", "y", "guidance", "attention_mask"}),
        frozenset({"disable_time_r"}),
        frozenset({"guidance"}),
        frozenset({"attention_mask"}),
        {},
        {},
        {},
        None,
    ),
    FamilyCall(
        "hunyuan-video-1.5",
        "HunyuanVideo 1.5",
        {"comfyui": ("HunyuanVideo15",)},
        (
            "x",
            "timestep",
            "context",
            "y",
            "txt_byt5",
            "clip_fea",
            "guidance",
            "attention_mask",
            "guiding_frame_index",
            "ref_latent",
            "disable_time_r",
            "control",
            "transformer_options",
        ),
        {
            "x": "sample",
            "timestep": "timestep",
            "context": "encoder_hidden_states",
            "attention_mask": "attention_mask",
            "txt_byt5": "letters",
            "clip_fea": "encoder_hidden_states_image",
        },
        frozenset({"encoder_hidden_states", "attention_mask", "letters", "encoder_hidden_states_image"}),
        frozenset({"y", "guidance", "disable_time_r"}),
        frozenset(),
        frozenset({"attention_mask", "letters", "encoder_hidden_states_image"}),
        {},
        {},
        {},
        None,
    ),
    FamilyCall(
        "hidream",
        "HiDream-I1",
        {"comfyui": ("HiDream",)},
        ("x", "t", "y", "context", "encoder_hidden_states_llama3", "image_cond", "control", "transformer_options"),
        {
            "x": "sample",
            "t": "timestep",
            "y": "y",
            "context": "encoder_hidden_states",
            "encoder_hidden_states_llama3": "encoder_hidden_states_layers",
        },
        frozenset({"encoder_hidden_states", "encoder_hidden_states_layers", "y"}),
        frozenset(),
        frozenset(),
        frozenset(),
        {},
        {},
        {},
        None,
    ),
    FamilyCall(
        "kandinsky5",
        "Kandinsky 5",
        {"comfyui": ("Kandinsky5",)},
        ("x", "timestep", "context", "y", "time_dim_replace", "control", "transformer_options"),
        {
            "x": "sample",
            "timestep": "timestep",
            "context": "encoder_hidden_states",
            "y": "y",
            "time_dim_replace": "first_frames",
        },
        frozenset({"encoder_hidden_states", "y", "first_frames"}),
        frozenset({"attention_mask"}),
        frozenset(),
        frozenset({"first_frames"}),
        {},
        {},
        {},
        None,
    ),
)


def call_of(ui: str, class_name: str) -> FamilyCall | None:
    """The call of a UI's model class; None when no engine serves it. Families of one class have one call."""
    return next((call for call in FAMILY_CALLS if class_name in call.classes.get(ui, ())), None)


def served_titles(ui: str) -> list[str]:
    """What people call the families that a UI's runs can use, in list order."""
    return list(dict.fromkeys(call.title for call in FAMILY_CALLS if ui in call.classes))
