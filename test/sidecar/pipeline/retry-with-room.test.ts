import { describe, expect, it } from "vitest";
import { Failure } from "../../../sidecar/src/failure/index.ts";
import { hostFlags } from "../../../sidecar/src/pipeline/resolve/hosts.ts";
import { nobodyToAsk, withRoom } from "../../../sidecar/src/pipeline/retry-with-room.ts";

const full = (evidence: Record<string, unknown>, code: Failure["code"] = "HOST_OUT_OF_MEMORY") => new Failure(code, "no room", evidence);

/** Work that fails with these failures, one a call, then succeeds; and what was asked for. */
function scene(failures: Failure[], freed: number) {
  const asked: number[] = [];
  let calls = 0;
  const run = () =>
    withRoom(
      async () => {
        calls += 1;
        const failure = failures[calls - 1];
        if (failure) throw failure;
        return "done";
      },
      async (bytes) => {
        asked.push(bytes);
        return freed;
      },
    );
  return { run, asked, calls: () => calls };
}

describe("withRoom", () => {
  it.each(["HOST_OUT_OF_MEMORY", "REFIT_NO_ROOM"] as const)("asks for what %s lacks and tries once more", async (code) => {
    const { run, asked, calls } = scene([full({ bytes: 77 }, code)], 100);
    expect(await run()).toBe("done");
    expect([asked, calls()]).toEqual([[77], 2]);
  });
  it("asks nobody when nothing lacks, or something else than memory", async () => {
    const { run, asked } = scene([], 1);
    expect(await run()).toBe("done");
    const other = scene([full({}, "HOST_STEP_FAILED")], 1);
    await expect(other.run()).rejects.toMatchObject({ code: "HOST_STEP_FAILED" });
    expect([asked, other.asked, other.calls()]).toEqual([[], [], 1]);
  });
  it("fails as the work did when nothing was freed, or when it was not enough", async () => {
    const nothing = scene([full({ bytes: 5 })], 0);
    await expect(nothing.run()).rejects.toMatchObject({ evidence: { bytes: 5 } });
    expect(nothing.calls()).toBe(1);
    const little = scene([full({ bytes: 5 }), full({ bytes: 4 })], 1);
    await expect(little.run()).rejects.toMatchObject({ evidence: { bytes: 4 } });
    expect(little.asked).toEqual([5]);
  });
  it("lets a host that can stream weights take what there is", async () => {
    let calls = 0;
    const work = async () => {
      calls += 1;
      if (calls === 1) throw full({ bytes: 5, streams: true });
      return calls;
    };
    expect(await withRoom(work, nobodyToAsk)).toBe(2);
  });
});

describe("hostFlags", () => {
  const options = {
    "vram-cap": 7000,
    "vram-weights": 0,
    "idle-offload": 600,
    base: "auto",
    tier: "graphs",
    "adapter-loss": 25,
    rounding: "nearest",
    "device-segments": "off",
  } as const;
  it("hands the sidecar's options and engine stores to a GPU host, tier and limit of loss to torch alone", () => {
    expect(hostFlags("torch", options, ["--store", "/data/engines"]).join(" ")).toBe(
      "--vram-mib 7000 --weights-mib 0 --idle-seconds 600 --base auto --share off --store /data/engines --tier graphs --adapter-loss 0.25 --rounding nearest",
    );
    expect(hostFlags("tensorrt", options, ["--store", "/data/engines"]).join(" ")).toBe(
      "--vram-mib 7000 --weights-mib 0 --idle-seconds 600 --base auto --share off --store /data/engines",
    );
  });
});
