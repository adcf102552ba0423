// segments: tensors between processes of one computer without the socket. In: descriptors and ranges from a client. Out: copies of tensors, checked ranges,
// places in memory that client and engine host share. It must never map a file (a client could cut it), and never let a name leave except in the hello reply of the session that owns it.

export { createDeviceMemory, createDeviceSegments, isDeviceIndex, type DeviceMemory, type DeviceSegments } from "./device-segments.ts";
export { makeFolder, removeStale, segmentPlace, type SegmentFolderPlace } from "./folder.ts";
export {
  createSessionSegments,
  replyIndex,
  requestIndex,
  segmentProof,
  type SegmentRange,
  type SessionSegments,
} from "./session-segments.ts";
