// STAGE_REASON codes. Add a code here together with a test that provokes it; wire codes are the subset listed in protocol/src/errors.ts.

export type FailureCode = string & {};
