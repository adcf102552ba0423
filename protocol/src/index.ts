// The words that sidecar, plugin and engine hosts share: tensor frames and message schemas. Imports nothing but zod.

export { decodeFrame, defaultFrameLimits, encodeFrame, encodeFrameParts, FrameError, frameErrorCodes, FrameReader, tensorBytes, tensorDtypes } from "./frame.ts";
export type { Frame, FrameErrorCode, FrameLimits, FrameTensor, JsonObject, TensorDescriptor, TensorDtype } from "./frame.ts";
export { checkpointSource, desiredState, hostErrors, hostMethods, hostNotifications, hostProtocolVersion, mergeReport, refitPlan, stackFile, weightDtype } from "./host/index.ts";
export type { HostErrorCode, HostErrorData, HostErrorRow, HostMethod, HostNotification, HostNotificationParams, HostParams, HostResult, MergeReport, StackFile, WeightDtype } from "./host/index.ts";
