import { expect, it } from "vitest";
import { MeasureService } from "../../../sidecar/src/delta/index.ts";

const entry = new URL("../../../sidecar/dist/src/delta/measure/worker.js", import.meta.url);

it("a delta that cannot be read is told, and asked for anew the next time", async () => {
  const service = new MeasureService(entry);
  const [first, second] = [service.layers("/nowhere/x.delta"), service.layers("/nowhere/x.delta")];
  expect(first).toBe(second);
  await expect(first).rejects.toMatchObject({ code: "DELTA_UNMEASURED" });
  const later = service.layers("/nowhere/x.delta");
  expect(later).not.toBe(first);
  await expect(later).rejects.toMatchObject({ code: "DELTA_UNMEASURED" });
});
