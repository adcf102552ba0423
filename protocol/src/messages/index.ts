// The wire's methods and notifications, one file per family, and the types that tie a method's name to its params and result.
// In: zod schemas. Out: two tables. They hold no behaviour; the sidecar's wire stage and (generated) the Python client implement them.

import type { z } from "zod";
import type { DeepReadonly } from "./method.ts";
import { adapterMethods, touchedLayer } from "./adapter.ts";
import { adapterNotes, catalogEntry, catalogMethods } from "./catalog.ts";
import { deviceMethods } from "./device.ts";
import { adapterReport, engineInfo, engineMethods, keyReason, port, refitRecord } from "./engine.ts";
import { eventMethods, eventNotifications, stamped, wireEvent } from "./events.ts";
import { folder, folderMethods } from "./folders.ts";
import { helloMethods, helloNotifications, segment } from "./hello.ts";
import { job, jobMethods } from "./jobs.ts";
import { memoryMethods, memoryNotifications } from "./memory.ts";
import { sampleMethods, sampleNotifications } from "./sample.ts";
import { deviceSegment, segmentMethods } from "./segments.ts";
import { statusMethods } from "./status.ts";
import { stepMethods } from "./step.ts";
import { telemetryMethods } from "./telemetry.ts";
import { problem, segmentRange, stackItem, tensorDescriptor, weights } from "./values.ts";

export const wireMethods = {
  ...helloMethods,
  ...segmentMethods,
  ...catalogMethods,
  ...adapterMethods,
  ...folderMethods,
  ...engineMethods,
  ...stepMethods,
  ...deviceMethods,
  ...sampleMethods,
  ...jobMethods,
  ...eventMethods,
  ...memoryMethods,
  ...statusMethods,
  ...telemetryMethods,
} as const;

export const wireNotifications = {
  ...helloNotifications,
  ...sampleNotifications,
  ...eventNotifications,
  ...memoryNotifications,
} as const;

export type WireMethod = keyof typeof wireMethods;
/** Params as a handler gets them (checked). */
export type WireParams<M extends WireMethod> = z.output<(typeof wireMethods)[M]["params"]>;
/** Result as a handler gives it. */
export type WireResult<M extends WireMethod> = DeepReadonly<z.input<(typeof wireMethods)[M]["result"]>>;

export type WireNotification = keyof typeof wireNotifications;
export type WireNotificationParams<N extends WireNotification> = DeepReadonly<z.input<(typeof wireNotifications)[N]["params"]>>;

export function isWireMethod(name: string): name is WireMethod {
  return Object.hasOwn(wireMethods, name);
}

/** Values with a name of their own in the generated schema and in the Python client. */
export const wireValues = {
  AdapterNotes: adapterNotes,
  TouchedLayer: touchedLayer,
  RefitRecord: refitRecord,
  AdapterReport: adapterReport,
  CatalogEntry: catalogEntry,
  EngineInfo: engineInfo,
  Event: wireEvent,
  Folder: folder,
  Job: job,
  DeviceSegment: deviceSegment,
  KeyReason: keyReason,
  Port: port,
  Problem: problem,
  Segment: segment,
  SegmentRange: segmentRange,
  StackItem: stackItem,
  StampedEvent: stamped,
  TensorDescriptor: tensorDescriptor,
  Weights: weights,
} as const;

export { retiredParams } from "./engine.ts";
export { protocolVersion, type Capability } from "./hello.ts";
export { mostQueuedListed } from "./jobs.ts";
export type { Topic, WireEventValue } from "./events.ts";
export type { DeepReadonly, Method, Notification, Role, TensorDirection } from "./method.ts";
