"""A denoiser call between a UI's torch model and an engine. In: the arguments that a UI gives its model. Out: the engine's prediction.

Shared by every UI whose models are torch modules; knows no UI and imports none.
"""

from .answer import Answerer
from .calls import UNET, Call, CallShape, NotServed, call_shape, made_by, read_call, read_words, refuse_patches
from .graphics import require_gpu_engine

__all__ = [
    "UNET",
    "Answerer",
    "Call",
    "CallShape",
    "NotServed",
    "call_shape",
    "made_by",
    "read_call",
    "read_words",
    "refuse_patches",
    "require_gpu_engine",
]
