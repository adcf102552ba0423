// The tensor frame: one JSON-RPC message plus the tensors that belong to it (docs/develop/internals.md, "Tensor frame").
// In: message and tensors, or bytes. Out: bytes, or a message with checked tensors. Nothing is believed before it is checked, nothing is allocated beyond a cap.

export { defaultFrameLimits, FrameError, frameErrorCodes, roundUp as alignTo64, tensorBytes, tensorDtypes } from "./frame/layout.ts";
export type { Frame, FrameErrorCode, FrameLimits, FrameTensor, JsonObject, TensorDescriptor, TensorDtype } from "./frame/layout.ts";
export { encodeFrame, encodeFrameParts, withDescriptors } from "./frame/encode.ts";
export { decodeFrame, readDescriptors } from "./frame/decode.ts";
export { FrameReader } from "./frame/reader.ts";
