// The conformance suite of the host protocol: what every engine host must do, whatever language it is written in.
// Use: hostConformance("name", command) inside a *.test.ts; or `REFIT_HOST_COMMAND='["python","-m","refit_torch"]' vitest run test/hosts` for one that is not built in.

import { describe } from "vitest";
import type { HostCommand } from "../../sidecar/src/host/index.ts";
import { conversation } from "./conformance/conversation.ts";
import type { WeightDtype } from "../../protocol/src/index.ts";
import { failures } from "./conformance/failures.ts";
import { fused } from "./conformance/fused.ts";
import { golden } from "./conformance/golden.ts";
import { keptInputs } from "./conformance/kept-inputs.ts";
import { lifetime } from "./conformance/lifetime.ts";
import { quantised } from "./conformance/quantised.ts";
import { refits } from "./conformance/refits.ts";
import { closeSharedHost } from "./conformance/shared-host.ts";
import { segments } from "./conformance/segments.ts";
import { steps } from "./conformance/steps.ts";

export interface ConformanceOptions {
  /** Relative tolerance of merged f32 values against a double-precision merge. */
  readonly mergeTolerance?: number;
  /** Relative tolerance of a step's output against diffusers and peft. */
  readonly stepTolerance?: number;
  /** How often the stack changes, and over how many steps, in the test that looks for mixed weights. */
  readonly churn?: { readonly steps: number; readonly changes: number };
  /** Dtypes that the host can hold without a graph. */
  readonly precisions?: readonly WeightDtype[];
  /** Whether the several hundred vectors of merges run too. A host that shares its merges with one that runs them does so in test:e2e. */
  readonly vectors?: boolean;
  /** Leaves out what does not depend on how weights are held (frames, segments, kept inputs, the process's life): for a second form of a host that runs it in the first. */
  readonly weightsOnly?: boolean;
}

export function hostConformance(name: string, command: HostCommand, options: ConformanceOptions = {}): void {
  describe(`${name} conforms to the host protocol`, () => {
    closeSharedHost(command);
    refits(command, options.mergeTolerance ?? 1e-6);
    if (options.vectors ?? true) {
      golden(command, options.precisions ?? ["f32", "f16", "bf16"]);
      quantised(command);
    }
    // What a merge computes is all that the native kernels change: the pass without them, in test:e2e, stops here.
    if (process.env["REFIT_NATIVE"] === "off") return;
    failures(command);
    steps(command, options.stepTolerance ?? 1e-3, options.churn ?? { steps: 24, changes: 10 });
    fused(command, options.stepTolerance ?? 1e-3);
    if (options.weightsOnly) return;
    conversation(command);
    segments(command);
    keptInputs(command);
    lifetime(command);
  });
}
