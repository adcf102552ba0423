// The generated tables inside docs/develop/protocol.md, between their markers.
import { cell, replaceBetween } from "./between.mjs";
import { httpRows } from "./openapi.mjs";

export function protocolPage({ wireMethods, wireNotifications, errorTable, httpRoutes }, page) {
  const methods = Object.entries(wireMethods).map(
    ([name, { summary, role, tensors }]) => `| \`${name}\` | ${role} | ${tensors} | ${cell(summary)} |`,
  );
  const notifications = Object.entries(wireNotifications).map(([name, { summary }]) => `| \`${name}\` | ${cell(summary)} |`);
  const errors = Object.entries(errorTable).map(
    ([code, { rpc, fault }]) => `| [\`${code}\`](../operate/errors.md#${code}) | ${rpc} | ${fault} |`,
  );
  const file = "docs/develop/protocol.md";
  let text = replaceBetween(
    page,
    "methods",
    ["| method | token | tensors | what it does |", "|---|---|---|---|", ...methods].join("\n"),
    file,
  );
  text = replaceBetween(text, "http", ["| route | for | gives |", "|---|---|---|", ...httpRows({ httpRoutes })].join("\n"), file);
  text = replaceBetween(text, "notifications", ["| notification | when |", "|---|---|", ...notifications].join("\n"), file);
  return replaceBetween(text, "errors", ["| code | number | who can act |", "|---|---|---|", ...errors].join("\n"), file);
}
