// The words that sidecar, plugin and engine hosts share. In: nothing but zod. Out: the tensor frame codec, JSON-RPC envelopes, the method and error tables.
// It must never touch a file, a socket, a clock or Node itself.

export {
  decodeFrame,
  defaultFrameLimits,
  encodeFrame,
  encodeFrameParts,
  FrameError,
  frameErrorCodes,
  FrameReader,
  tensorBytes,
  tensorDtypes,
} from "./frame.ts";
export type { Frame, FrameErrorCode, FrameLimits, FrameTensor, JsonObject, TensorDescriptor, TensorDtype } from "./frame.ts";
export {
  checkpointSource,
  desiredState,
  gatewayMethods,
  gatewayNotifications,
  gatewayPlace,
  gatewayPrefixBytes,
  gatewayProtocolVersion,
  hostErrors,
  isHostErrorCode,
  hostMethods,
  hostNotifications,
  hostProtocolVersion,
  refitPlan,
  stackFile,
  weightDtype,
} from "./host/index.ts";
export type {
  AdapterLosses,
  GatewayMethod,
  GatewayNotification,
  GatewayNotificationParams,
  GatewayParams,
  GatewayResult,
  HostErrorCode,
  HostErrorRow,
  HostMethod,
  HostNotification,
  HostNotificationParams,
  HostParams,
  HostResult,
  StackFile,
  WeightDtype,
} from "./host/index.ts";
export { httpRoutes } from "./http.ts";
export type { HttpAccess, HttpRoute } from "./http.ts";
export { errorTable, isErrorCode, ProtocolError } from "./errors.ts";
export type { ErrorCode, ErrorEntry, Fault } from "./errors.ts";
export { failureRow, failureTables, isKnownCode } from "./failures/index.ts";
export type { FailureRow, KnownCode } from "./failures/index.ts";
export {
  autoencoderDescription,
  autoencoderTable,
  familyDescription,
  familyNames,
  familyTable,
  otherModels,
  otherModelTable,
} from "./families/index.ts";
export type { Autoencoder, Family, FamilyCall, FamilyDescription, FamilyInput, NameRow, SpellingRow } from "./families/index.ts";
export { failure, notification, parseJsonObject, parseRpc, request, success } from "./rpc.ts";
export type { RequestId, RpcError, RpcFailure, RpcMessage, RpcNotification, RpcRequest, RpcSuccess } from "./rpc.ts";
export {
  isWireMethod,
  mostQueuedListed,
  protocolVersion,
  retiredParams,
  wireMethods,
  wireNotifications,
  wireValues,
} from "./messages/index.ts";
export type {
  Capability,
  DeepReadonly,
  Method,
  Notification,
  Role,
  TensorDirection,
  Topic,
  WireEventValue,
  WireMethod,
  WireNotification,
  WireNotificationParams,
  WireParams,
  WireResult,
} from "./messages/index.ts";
export { alignTo64, readDescriptors, withDescriptors } from "./frame.ts";
