// One denoiser call on a live engine. In: a leased engine, a desired state, tensors. Out: tensors, and how long they waited.
// Admission, fair turns, cancellation. It never steps on weights other than the lease's own, and never lets one lease keep an engine from another for good.

export { Leases } from "./leases.ts";
export type { Lease, LeaseReply, LeasesOptions, OnProgress, OpenOptions } from "./leases.ts";
export type { Place, StayLook } from "./stay.ts";
export { Turns } from "./turns.ts";
export type { TurnOptions } from "./turns.ts";
