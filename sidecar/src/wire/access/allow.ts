// Host and Origin: a browser that was lured to our port tells on itself with these two headers. Pure decisions.
// Host stops DNS rebinding (a foreign name that resolves to 127.0.0.1), Origin stops foreign pages, Sec-Fetch-Site what an old rule forgot.

export interface AllowRules {
  readonly scheme: "http" | "https";
  readonly port: number;
  /** The address that the server is bound to. */
  readonly bind: string;
  /** Additional Host values, with or without a port. */
  readonly hosts: readonly string[];
  /** Additional origins, as a browser writes them: https://example.org */
  readonly origins: readonly string[];
}

const loopbackNames = ["127.0.0.1", "localhost", "[::1]"];

export function isLoopback(address: string): boolean {
  return (
    address === "localhost" ||
    address === "::1" ||
    /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(address) ||
    /^::ffff:127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(address)
  );
}

/** `name:port`, lower case; the port may be missing when it is the scheme's own. */
function splitHost(host: string, scheme: "http" | "https"): { readonly name: string; readonly port: number } | null {
  const match = /^(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::(\d{1,5}))?$/.exec(host.toLowerCase());
  const name = match?.[1];
  if (name === undefined) return null;
  return { name, port: match?.[2] === undefined ? (scheme === "https" ? 443 : 80) : Number(match[2]) };
}

const isAddress = (name: string): boolean => name.startsWith("[") || /^\d{1,3}(\.\d{1,3}){3}$/.test(name);

/**
 * Whether a Host header names this server. Bound to loopback: the loopback names with our port. Bound to one address: that address as well. Bound to all
 * addresses: any IP literal (rebinding needs a name). Names come from `hosts` only.
 */
export function hostAllowed(host: string | undefined, rules: AllowRules): boolean {
  if (host === undefined) return false;
  if (rules.hosts.some((allowed) => allowed.toLowerCase() === host.toLowerCase())) return true;
  const split = splitHost(host, rules.scheme);
  if (split === null) return false;
  if (rules.hosts.some((allowed) => allowed.toLowerCase() === split.name)) return true;
  if (split.port !== rules.port) return false;
  if (loopbackNames.includes(split.name)) return true;
  if (isLoopback(rules.bind)) return false;
  if (rules.bind === "0.0.0.0" || rules.bind === "::") return isAddress(split.name);
  return split.name === rules.bind.toLowerCase() || split.name === `[${rules.bind.toLowerCase()}]`;
}

export interface OriginHeaders {
  readonly host: string | undefined;
  readonly origin: string | undefined;
  readonly secFetchSite: string | undefined;
}

/** The page's own origin, as the browser that sent this Host header writes it. */
function ownOrigins(host: string, rules: AllowRules): readonly string[] {
  // Behind a proxy that ends TLS the browser's scheme is https while ours is http.
  return [`${rules.scheme}://${host.toLowerCase()}`, ...(rules.hosts.length > 0 ? [`https://${host.toLowerCase()}`] : [])];
}

/**
 * Whether the headers are those of a program (no Origin), of our own page, or of an allowed origin. Call after `hostAllowed`.
 * `Origin: null` (sandboxed frames, files) is never allowed: any page can produce it.
 */
export function originAllowed({ host, origin, secFetchSite }: OriginHeaders, rules: AllowRules): boolean {
  if (origin === undefined) return secFetchSite === undefined || secFetchSite === "same-origin" || secFetchSite === "none";
  const given = origin.toLowerCase();
  if (given === "null") return false;
  if (rules.origins.some((allowed) => allowed.toLowerCase() === given)) return true;
  return host !== undefined && ownOrigins(host, rules).includes(given) && (secFetchSite === undefined || secFetchSite === "same-origin");
}
