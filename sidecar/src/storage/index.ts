// How a checkpoint stores its numbers: which tensors only serve storage, where a parameter's codes and scales lie, what value they stand for, and back.
// In: headers, files, f32 values. Out: plain shapes, values, codes and scales. Must never know a family, an adapter or an engine.

export { blockColumns, blockPadding, tiledIndex } from "./blocks.ts";
export { CheckpointFiles, type Scales, type StoredParameter, type StoredPiece } from "./checkpoint-files.ts";
export { decodePiece, exchangeHalves, readValues } from "./decode.ts";
export { encodePiece, encodeUnscaled, type Encoded } from "./encode.ts";
export { readMergeable, readStored, type Mergeable } from "./mergeable.ts";
export { helperStem, isMarkerOf, needsNotes, plainTensors, type PlainTensor, type PlainTensors } from "./plain.ts";
export { isSameFile, joinedNotes, readStorageNotes } from "./read-notes.ts";
export { nearest, seedOf, type Rounding } from "./rounding.ts";
export { noNotes } from "./types.ts";
export type { CheckpointSource, ParameterPiece, ParameterSource, Storage, StorageNotes, StoredTensors } from "./types.ts";
