"""For tests on a real Forge only: lets it load the narrow files of `transformer_checkpoints.py`. It takes their sizes from published models, not from the file."""

from contextlib import contextmanager

try:
    import transformers
    from backend import loader
    from huggingface_guess import detection
    from modules import script_callbacks
    from modules_forge import main_entry
except ImportError:
    # A1111 and reForge load no such model.
    loader = None

HEAD = 128
BLOCKS = {"double": "depth", "single": "depth_single_blocks"}


def narrow_flux(detect):
    def detect_unet_config(state_dict, key_prefix):
        config = detect(state_dict, key_prefix)
        if config is not None and config.get("image_model") in ("flux", "chroma"):
            names = [name.removeprefix(key_prefix) for name in state_dict if name.startswith(key_prefix)]
            width = state_dict[f"{key_prefix}img_in.weight"].shape[0]
            config |= {"hidden_size": width, "num_heads": width // HEAD}
            config |= {"context_in_dim": state_dict[f"{key_prefix}txt_in.weight"].shape[1]}
            if "distilled_guidance_layer.in_proj.weight" in names:
                config |= {"out_dim": width, "hidden_dim": state_dict[f"{key_prefix}distilled_guidance_layer.in_proj.weight"].shape[0]}
            config |= {
                key: len({name.split(".")[1] for name in names if name.startswith(f"{kind}_blocks.")}) for kind, key in BLOCKS.items()
            }
        return config

    return detect_unet_config


def narrow_texts(load):
    def load_huggingface_component(guess, component_name, lib_name, cls_name, repo_path, state_dict):
        arguments = (guess, component_name, lib_name, cls_name, repo_path, state_dict)
        if not state_dict or not component_name.startswith("text_encoder"):
            return load(*arguments)
        with t5_of(state_dict) if cls_name == "T5EncoderModel" else clip_of(state_dict):
            return load(*arguments)

    return load_huggingface_component


def count(state_dict, stem):
    """Blocks of a list whose names begin after `stem`."""
    return len({name.split(stem)[1].split(".")[0] for name in state_dict if stem in name})


@contextmanager
def replaced(owner, name, value):
    own = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, own)


def t5_of(state_dict):
    def rows(end):
        return next(value.shape[0] for name, value in state_dict.items() if name.endswith(end))

    sizes = {
        "d_model": rows("encoder.final_layer_norm.weight"),
        "d_ff": rows("block.0.layer.1.DenseReluDense.wi_0.weight"),
        "num_heads": rows("block.0.layer.0.SelfAttention.q.weight") // 64,
        "num_layers": count(state_dict, "encoder.block."),
    }
    read = loader.read_arbitrary_config
    return replaced(loader, "read_arbitrary_config", lambda path: {**read(path), **sizes})


def clip_of(state_dict):
    read, layers = transformers.CLIPTextConfig.from_pretrained, count(state_dict, "encoder.layers.")
    return replaced(transformers.CLIPTextConfig, "from_pretrained", lambda path: read(path, num_hidden_layers=layers))


# The extension is linked twice.
if loader is not None and not hasattr(loader, "refit_test_narrow"):
    loader.refit_test_narrow = True
    loader.load_huggingface_component = narrow_texts(loader.load_huggingface_component)
    detection.detect_unet_config = narrow_flux(detection.detect_unet_config)
    # Without its page, Forge never looks for the files that it loads beside a checkpoint.
    script_callbacks.on_app_started(lambda *_: main_entry.refresh_models())
