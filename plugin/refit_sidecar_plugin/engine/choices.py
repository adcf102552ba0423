"""What a user may choose for an engine, the same in every UI; the first of each leaves the choice to the sidecar."""

HOSTS = ("auto", "onnxruntime", "torch", "tensorrt")
PRECISIONS = ("auto", "fp16", "bf16", "fp32", "fp8", "int8", "nvfp4")
