// device: what engines are placed on, for operators. What each one does stands in `status`.

import { z } from "zod";
import { method } from "./method.ts";

const name = z.string().min(1).max(200);

export const deviceMethods = {
  "device.restart": method({
    summary:
      "Restarts the hosts of one device, or of all (null), one device after another: runs go elsewhere first, and the next device waits until the last one serves again. No step fails for it.",
    role: "control",
    tensors: "none",
    params: z.strictObject({ device: name.nullable() }),
    result: z.object({ restarted: z.array(name) }),
  }),
} as const;
