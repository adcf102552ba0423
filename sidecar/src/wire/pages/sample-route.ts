// POST /sample: engine.sample for whoever speaks HTTP alone. Tensors travel as base64 in the JSON; latents also come as a safetensors file. One request, one answer; a
// connection that is closed cancels its loop.

import type { Request, RequestHandler, Response } from "express";
import { failure, httpRoutes, tensorDtypes, type FrameTensor } from "@refit-sidecar/protocol";
import { Failure } from "../../failure/index.ts";
import { elements } from "../../terms/index.ts";
import type { Log } from "../../telemetry/index.ts";
import type { SampleReply, WireBackend } from "../backend.ts";
import { logText, toWireFailure, wireJson } from "../failures.ts";
import { limits } from "../limits.ts";
import { encodeHeader } from "../pushes/index.ts";
import { firstIssue } from "../session/index.ts";
import { httpStatus } from "../upgrade.ts";

const { body: bodySchema } = httpRoutes["POST /sample"];

type HttpTensor = Pick<FrameTensor, "name" | "dtype" | "shape"> & { readonly data: string };

/** Throws WIRE_PARAMS_INVALID when the text is not the shape's bytes. */
function decoded({ name, dtype, shape, data }: HttpTensor, index: number): FrameTensor {
  const bytes = elements(shape) * tensorDtypes[dtype];
  const buffer = Buffer.from(data, "base64");
  if (buffer.byteLength !== bytes || buffer.toString("base64") !== data)
    throw new Failure(
      "WIRE_PARAMS_INVALID",
      `tensors.${index}.data: expected ${bytes} bytes in base64 for ${dtype} [${shape.join(", ")}]`,
      {},
    );
  return { name, dtype, shape, data: new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength) };
}

const encoded = ({ name, dtype, shape, data }: FrameTensor): HttpTensor => ({
  name,
  dtype,
  shape,
  data: Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("base64"),
});

function send(request: Request, response: Response, { result, latents }: SampleReply): void {
  if (request.accepts(["application/json", "application/octet-stream"]) === "application/octet-stream") {
    const head = encodeHeader([{ ...latents, bytes: latents.data.byteLength }]);
    response.type("application/octet-stream").send(Buffer.concat([head, latents.data]));
  } else response.type("application/json").send(wireJson({ ...result, tensors: [encoded(latents)] }));
}

export interface SampleRouteParts {
  readonly sample: WireBackend["sample"];
  readonly log: Log;
}

/** Expects a parsed JSON body of somebody with the control role. */
export function sampleRoute({ sample, log }: SampleRouteParts): RequestHandler {
  let open = 0;
  let last = 0;
  return async (request, response) => {
    const gone = new AbortController();
    response.once("close", () => gone.abort());
    last += 1;
    open += 1;
    try {
      if (open > limits.httpSamples)
        throw new Failure("WIRE_BUSY", `expected at most ${limits.httpSamples} loops over HTTP at a time; wait for answers`, {});
      const parsed = bodySchema.safeParse(request.body);
      if (!parsed.success) throw new Failure("WIRE_PARAMS_INVALID", firstIssue(parsed.error).slice(0, 500), {});
      const { tensors, ...params } = parsed.data;
      const context = {
        session: `http-${last}`,
        signal: gone.signal,
        progress: () => undefined,
        preview: () => undefined,
        makeRoom: async () => 0,
      };
      const reply = await sample({ params, tensors: tensors.map(decoded) }, context);
      if (!gone.signal.aborted) send(request, response, reply);
    } catch (error) {
      const { code, message, reason } = toWireFailure(error);
      if (code === "WIRE_INTERNAL") log.error(`a loop over HTTP failed: ${logText(error)}`);
      if (!gone.signal.aborted)
        response
          .status(httpStatus(code))
          .type("application/json")
          .send(wireJson({ error: failure(null, code, message, reason === null ? {} : { reason })["error"] }));
    } finally {
      open -= 1;
    }
  };
}
