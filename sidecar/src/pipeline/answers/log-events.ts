// What happens to engines and hosts, as lines of the log.

import type { Events, Log } from "../../telemetry/index.ts";

export function logEvents(events: Events, log: Log): void {
  events.subscribe(({ event }) => {
    if (event.type === "refit.failed")
      log.warn(`refit failed on ${event.engine}: ${event.message} [${event.code}]; old weights keep serving`);
    if (event.type === "host.crashed") log.error(`engine host ${event.engine} ended: ${event.message}; it is started again`);
    if (event.type === "engine.serving") log.info(`engine ${event.engine} serves with ${event.serving.tier}, base ${event.serving.base}`);
    if (event.type === "engine.state")
      log.info(`engine ${event.engine}: ${event.state}${event.reason === null ? "" : ` (${event.reason})`}`);
  });
}
