"""Tells ComfyUI's detection the widths of the tests' narrow checkpoints: it takes some sizes of a family from published models instead of from the file."""

import inspect
from functools import partial

import comfy.model_detection
import comfy.supported_models
from comfy.ldm.lumina.model import NextDiT

from .narrow_faces import use_widths_of

HEAD = 128
_adapters = {}
_detect = comfy.model_detection.detect_unet_config


def detect_unet_config(state_dict, key_prefix, metadata=None):
    config = _detect(state_dict, key_prefix, metadata=metadata)
    if config is None:
        return None

    def size(name, axis):
        return state_dict[f"{key_prefix}{name}"].shape[axis]

    z_image = config.get("image_model") == "lumina2" and f"{key_prefix}layers.0.adaLN_modulation.0.weight" in state_dict
    if z_image and "n_heads" in config:
        # As wide as the published model: nothing is missing.
        return config
    if z_image:
        heads = config["dim"] // HEAD
        config |= {"n_heads": heads, "n_kv_heads": heads, "axes_dims": [32, 48, 48], "axes_lens": [1536, 512, 512], "rope_theta": 256.0}
        config |= {"ffn_dim_multiplier": 8.0 / 3.0, "z_image_modulation": True, "time_scale": 1000.0, "pad_tokens_multiple": 32}
    elif config.get("image_model") == "qwen_image":
        config |= {"num_attention_heads": size("img_in.weight", 0) // HEAD, "joint_attention_dim": size("txt_in.weight", 1)}
    elif config.get("image_model") == "lumina2":
        # Before 0.33 all widths but that of the words were those of the published model.
        config |= {"dim": size("cap_embedder.1.weight", 0)}
        head = size("layers.0.attention.q_norm.weight", 0)
        heads = config["dim"] // head
        keys = (size("layers.0.attention.qkv.weight", 0) // head - heads) // 2
        config |= {"n_heads": heads, "n_kv_heads": keys, "axes_dims": [head // 3] * 3, "axes_lens": [300, 512, 512]}
        inner = size("layers.0.feed_forward.w1.weight", 0) / config["dim"]
        if "rope_theta" in inspect.signature(NextDiT).parameters:
            config |= {"rope_theta": 10000.0, "ffn_dim_multiplier": inner, "multiple_of": 1}
        else:  # Before 0.33 the multiplier was one of four times the width.
            config |= {"ffn_dim_multiplier": inner / 4, "multiple_of": 1}
    elif config.get("image_model") == "wan2.1":
        config |= {"text_dim": size("text_embedding.0.weight", 1)}
        if config["model_type"] == "animate":
            use_widths_of(state_dict, key_prefix)
    elif config.get("image_model") in ("flux", "chroma"):
        head = state_dict_size(state_dict, f"{key_prefix}double_blocks.0.img_attn.norm.key_norm.")
        # Before 0.33 all widths were those of the published model.
        config |= {"hidden_size": size("img_in.weight", 0), "context_in_dim": size("txt_in.weight", 1)}
        if f"{key_prefix}vector_in.in_layer.weight" in state_dict:
            config |= {"vec_in_dim": size("vector_in.in_layer.weight", 1)}
        config |= {"axes_dim": [head // 8, head * 7 // 16, head * 7 // 16], "num_heads": config["hidden_size"] // head}
        if config["image_model"] == "chroma":
            config |= {"out_dim": config["hidden_size"], "hidden_dim": size("distilled_guidance_layer.in_proj.weight", 0)}
    elif config.get("image_model") == "anima":
        import comfy.ldm.anima.model as anima  # only newer versions have it

        config |= {"crossattn_emb_channels": size("blocks.0.cross_attn.k_proj.weight", 1)}
        config |= {"adaln_lora_dim": size("blocks.0.adaln_modulation_self_attn.1.weight", 0), "num_heads": config["model_channels"] // HEAD}
        width = size("llm_adapter.out_proj.weight", 0)
        adapter = {"source_dim": width, "target_dim": width, "model_dim": width, "num_layers": 2, "num_heads": width // 64}
        anima.LLMAdapter = partial(_adapters.setdefault("own", anima.LLMAdapter), **adapter)
    elif config.get("image_model") == "ltxv":
        config |= {"caption_channels": size("caption_projection.linear_1.weight", 1)}
    elif config.get("image_model") == "hunyuan_video" and config["vec_in_dim"] is not None:
        config |= {"vec_in_dim": size("vector_in.in_layer.weight", 1)}
    elif config.get("image_model") == "kandinsky5":
        config |= {
            "in_text_dim": size("text_embeddings.in_layer.weight", 1),
            "in_text_dim2": size("pooled_text_embeddings.in_layer.weight", 1),
        }
        if config["visual_embed_dim"] == 64:
            # The image model is told by its width.
            comfy.supported_models.Kandinsky5Image.unet_config["model_dim"] = config["model_dim"]
            config |= {"axes_dims": (32, 48, 48), "rope_scale_factor": (1.0, 1.0, 1.0)}
    elif config.get("image_model") == "ernie":
        config |= {"hidden_size": size("x_embedder.proj.weight", 0), "text_in_dim": size("text_proj.weight", 1)}
        config |= {"num_attention_heads": config["hidden_size"] // HEAD, "ffn_hidden_size": size("layers.0.mlp.linear_fc2.weight", 1)}
        config |= {"num_layers": sum(name.endswith("self_attention.to_q.weight") for name in state_dict)}
    elif config.get("image_model") == "hidream":
        blocks = sum(name.endswith(".block.attn1.to_q.weight") for name in state_dict)
        words = size("caption_projection.0.linear.weight", 1)
        config |= {
            "num_layers": 2,
            "num_single_layers": blocks - 2,
            "llama_layers": list(range(blocks)),
            "caption_channels": [words, words],
        }
        config |= {"num_attention_heads": size("x_embedder.proj.weight", 0) // HEAD}
        config |= {"text_emb_dim": size("p_embedder.pooled_embedder.linear_1.weight", 1)}
    elif config.get("image_model") == "krea2":
        heads = config["txtdim"] // size("txtfusion.layerwise_blocks.0.attn.qknorm.qnorm.scale", 0)
        config |= {"txtheads": heads, "txtkvheads": heads}
    return config


def state_dict_size(state_dict, stem):
    """First dimension of the norm that files call weight or scale."""
    return next(state_dict[stem + end].shape[0] for end in ("scale", "weight") if stem + end in state_dict)


comfy.model_detection.detect_unet_config = detect_unet_config
