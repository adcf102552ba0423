"""Tells ComfyUI's detection the widths of the tests' narrow checkpoints: it takes some sizes of a family from published models instead of from the file."""

import comfy.model_detection

HEAD = 128
_detect = comfy.model_detection.detect_unet_config


def detect_unet_config(state_dict, key_prefix, metadata=None):
    config = _detect(state_dict, key_prefix, metadata=metadata)
    if config is None:
        return None

    def size(name, axis):
        return state_dict[f"{key_prefix}{name}"].shape[axis]

    if (
        config.get("image_model") == "lumina2"
        and f"{key_prefix}layers.0.adaLN_modulation.0.weight" in state_dict
        and "n_heads" not in config
    ):
        heads = config["dim"] // HEAD
        config |= {"n_heads": heads, "n_kv_heads": heads, "axes_dims": [32, 48, 48], "axes_lens": [1536, 512, 512], "rope_theta": 256.0}
        config |= {"ffn_dim_multiplier": 8.0 / 3.0, "z_image_modulation": True, "time_scale": 1000.0, "pad_tokens_multiple": 32}
    elif config.get("image_model") == "qwen_image":
        config |= {"num_attention_heads": size("img_in.weight", 0) // HEAD, "joint_attention_dim": size("txt_in.weight", 1)}
    elif config.get("image_model") == "wan2.1":
        config |= {"text_dim": size("text_embedding.0.weight", 1)}
    return config


comfy.model_detection.detect_unet_config = detect_unet_config
