"""The nodes, by the ids that workflows save. An id is for ever."""

from .accelerate import RefitAccelerateModel
from .engine_status import RefitEngineStatus
from .export_lora import RefitExportLora
from .load_engine import RefitLoadEngine, RefitLoadEngineLora, RefitLoadEngineStacked
from .lora_stack import RefitLoraStack
from .warm_engine import RefitWarmEngine

NODE_CLASS_MAPPINGS = {
    "RefitLoadEngine": RefitLoadEngine,
    "RefitLoadEngineLora": RefitLoadEngineLora,
    "RefitLoraStack": RefitLoraStack,
    "RefitLoadEngineStacked": RefitLoadEngineStacked,
    "RefitAccelerateModel": RefitAccelerateModel,
    "RefitWarmEngine": RefitWarmEngine,
    "RefitExportLora": RefitExportLora,
    "RefitEngineStatus": RefitEngineStatus,
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "RefitLoadEngine": "Load Engine (Refit)",
    "RefitLoadEngineLora": "Load Engine with LoRA (Refit)",
    "RefitLoraStack": "LoRA Stack (Refit)",
    "RefitLoadEngineStacked": "Load Engine with LoRA Stack (Refit)",
    "RefitAccelerateModel": "Accelerate Model (Refit)",
    "RefitWarmEngine": "Warm Engine (Refit)",
    "RefitExportLora": "Export LoRA (Refit)",
    "RefitEngineStatus": "Engine Status (Refit)",
}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
