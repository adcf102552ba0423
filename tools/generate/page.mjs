// The generated tables inside docs/protocol.md, between their markers.

const cell = (text) => String(text).replaceAll("|", "\\|");

function replaceBetween(page, name, content) {
  const begin = `<!-- generated: ${name} -->`;
  const end = `<!-- end of ${name} -->`;
  const from = page.indexOf(begin);
  const to = page.indexOf(end);
  if (from === -1 || to < from) throw new Error(`docs/protocol.md lacks the markers of ${name}`);
  return `${page.slice(0, from + begin.length)}\n${content}\n${page.slice(to)}`;
}

export function protocolPage({ wireMethods, wireNotifications, errorTable }, page) {
  const methods = Object.entries(wireMethods).map(([name, { summary, role, tensors }]) => `| \`${name}\` | ${role} | ${tensors} | ${cell(summary)} |`);
  const notifications = Object.entries(wireNotifications).map(([name, { summary }]) => `| \`${name}\` | ${cell(summary)} |`);
  const errors = Object.entries(errorTable).map(([code, { rpc, fault, summary, remedy }]) => `| \`${code}\` | ${rpc} | ${fault} | ${cell(summary)} | ${cell(remedy)} |`);
  let text = page.replaceAll("\r\n", "\n");
  text = replaceBetween(text, "methods", ["| method | token | tensors | what it does |", "|---|---|---|---|", ...methods].join("\n"));
  text = replaceBetween(text, "notifications", ["| notification | when |", "|---|---|", ...notifications].join("\n"));
  return replaceBetween(text, "errors", ["| code | number | who can act | what happened | what to do |", "|---|---|---|---|---|", ...errors].join("\n"));
}
