// Caps on what a file may ask for, checked before anything is allocated for it.

/** The container's own cap on the header (safetensors `MAX_HEADER_SIZE`). */
export const maxHeaderBytes = 100_000_000;

/** Rank cap: PyTorch and NumPy hold at most 64 dimensions, so a larger rank cannot be a weight. */
export const maxRank = 64;

/** Tensor count cap: the largest public single files hold below 20,000; ten times that keeps the table under about 100 MB. */
export const maxTensors = 200_000;

/** Nesting inside fields that the container does not define, as in serde_json; protects the scanner's stack. */
export const maxDepth = 128;
