// The host protocol: what the sidecar and an engine host say to each other over the child's pipes (docs/develop/host-protocol.md, docs/develop/hosts.md).
// In: nothing but zod. Out: schemas, their types and the error table. It never holds behaviour: hosts in other languages read the same page.

export { hostMethods, hostNotifications, hostProtocolVersion } from "./methods.ts";
export type { HostMethod, HostNotification, HostNotificationParams, HostParams, HostResult } from "./methods.ts";
export { hostErrors, isHostErrorCode } from "./errors.ts";
export type { HostErrorCode, HostErrorRow } from "./errors.ts";
export { adapterLosses, adapterLossLimit, checkpointSource, desiredState, refitPlan, stackFile, weightDtype } from "./values.ts";
export type { AdapterLosses, StackFile, WeightDtype } from "./values.ts";
export { gatewayMethods, gatewayNotifications, gatewayPlace, gatewayPrefixBytes, gatewayProtocolVersion } from "./gateway.ts";
export type { GatewayMethod, GatewayNotification, GatewayNotificationParams, GatewayParams, GatewayResult } from "./gateway.ts";
