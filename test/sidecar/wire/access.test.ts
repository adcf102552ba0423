import { describe, expect, it } from "vitest";
import { admitRequest, admitUpgrade, type Access } from "../../../sidecar/src/wire/access/index.ts";
import { hostAllowed, isLoopback, originAllowed, type AllowRules } from "../../../sidecar/src/wire/access/allow.ts";
import { createBrowsers } from "../../../sidecar/src/wire/access/browsers.ts";
import { bearerToken, createTokens, roleOfToken } from "../../../sidecar/src/wire/access/tokens.ts";
import { limits, times } from "../../../sidecar/src/wire/limits.ts";

const rules: AllowRules = { scheme: "http", port: 8188, bind: "127.0.0.1", hosts: [], origins: [] };

describe("hostAllowed", () => {
  it.each(["127.0.0.1:8188", "localhost:8188", "LOCALHOST:8188", "[::1]:8188"])("accepts %s on a loopback bind", (host) => {
    expect(hostAllowed(host, rules)).toBe(true);
  });

  it.each([
    undefined,
    "",
    "evil.example:8188",
    "127.0.0.1:80",
    "127.0.0.1",
    "localhost.evil.example:8188",
    "127.0.0.1.evil.example:8188",
    "192.168.1.5:8188",
    "127.0.0.1:8188@evil.example",
    "127.0.0.1:8188 ",
    "[::1%25x]:8188",
    "0x7f000001:8188",
    "127.1:8188",
  ])("refuses %j on a loopback bind", (host) => {
    expect(hostAllowed(host, rules)).toBe(false);
  });

  it("accepts any IP literal when bound to all addresses, since rebinding needs a name", () => {
    const open = { ...rules, bind: "0.0.0.0" };
    expect(hostAllowed("192.168.1.5:8188", open)).toBe(true);
    expect(hostAllowed("evil.example:8188", open)).toBe(false);
    expect(hostAllowed("192.168.1.5:9999", open)).toBe(false);
  });

  it("accepts the bound address and listed names, with a port or without", () => {
    expect(hostAllowed("10.0.0.7:8188", { ...rules, bind: "10.0.0.7" })).toBe(true);
    expect(hostAllowed("10.0.0.8:8188", { ...rules, bind: "10.0.0.7" })).toBe(false);
    expect(hostAllowed("[fd00::1]:8188", { ...rules, bind: "fd00::1" })).toBe(true);
    expect(hostAllowed("Studio.example", { ...rules, hosts: ["studio.example"] })).toBe(true);
    expect(hostAllowed("studio.example:443", { ...rules, hosts: ["studio.example:443"] })).toBe(true);
    expect(hostAllowed("studio.example:444", { ...rules, hosts: ["studio.example:443"] })).toBe(false);
  });
});

describe("originAllowed", () => {
  const host = "127.0.0.1:8188";
  it("accepts programs, our own page and listed origins", () => {
    expect(originAllowed({ host, origin: undefined, secFetchSite: undefined }, rules)).toBe(true);
    expect(originAllowed({ host, origin: "http://127.0.0.1:8188", secFetchSite: "same-origin" }, rules)).toBe(true);
    expect(originAllowed({ host, origin: "http://127.0.0.1:8188", secFetchSite: undefined }, rules)).toBe(true);
    expect(originAllowed({ host, origin: undefined, secFetchSite: "none" }, rules)).toBe(true);
    expect(
      originAllowed({ host, origin: "https://ui.example", secFetchSite: "cross-site" }, { ...rules, origins: ["https://ui.example"] }),
    ).toBe(true);
  });

  it.each([
    "null",
    "http://evil.example",
    "http://127.0.0.1:8189",
    "https://127.0.0.1:8188",
    "http://localhost:8188",
    "http://127.0.0.1:8188.evil.example",
    "",
    "file://",
  ])("refuses the origin %j", (origin) => {
    expect(originAllowed({ host, origin, secFetchSite: undefined }, rules)).toBe(false);
  });

  it("refuses null though somebody listed it: any page can produce it", () => {
    expect(originAllowed({ host, origin: "null", secFetchSite: undefined }, { ...rules, origins: ["null"] })).toBe(false);
  });

  it.each(["cross-site", "same-site", "nonsense"])(
    "refuses a request without Origin that a page of another site caused (%s)",
    (secFetchSite) => {
      expect(originAllowed({ host, origin: undefined, secFetchSite }, rules)).toBe(false);
      expect(originAllowed({ host, origin: "http://127.0.0.1:8188", secFetchSite }, rules)).toBe(false);
    },
  );

  it("accepts the https origin of a proxy that ends TLS, for listed hosts only", () => {
    expect(
      originAllowed(
        { host: "studio.example", origin: "https://studio.example", secFetchSite: "same-origin" },
        { ...rules, hosts: ["studio.example"] },
      ),
    ).toBe(true);
  });
});

describe("isLoopback", () => {
  it("knows loopback addresses from lookalikes", () => {
    for (const address of ["127.0.0.1", "127.8.8.8", "::1", "localhost", "::ffff:127.0.0.1"]) expect(isLoopback(address)).toBe(true);
    for (const address of ["0.0.0.0", "::", "127.0.0.1.example", "10.0.0.1", "128.0.0.1", ""]) expect(isLoopback(address)).toBe(false);
  });
});

describe("tokens", () => {
  it("are 128 bits, differ, and name a role", () => {
    const tokens = createTokens();
    expect(Buffer.from(tokens.control, "base64url")).toHaveLength(16);
    expect(tokens.control).not.toBe(tokens.read);
    expect(roleOfToken(tokens.control, tokens)).toBe("control");
    expect(roleOfToken(tokens.read, tokens)).toBe("read");
    for (const wrong of [
      "",
      tokens.control.slice(1),
      `${tokens.control}x`,
      tokens.control.toLowerCase() === tokens.control ? "x" : tokens.control.toLowerCase(),
    ])
      expect(roleOfToken(wrong, tokens)).toBeNull();
  });

  it("come from one well-formed Bearer header", () => {
    expect(bearerToken("Bearer abc")).toBe("abc");
    expect(bearerToken("bearer abc")).toBe("abc");
    for (const header of [undefined, "", "Bearer", "Bearer ", "Basic abc", "Bearer a b", "Bearer a\tb", `Bearer ${"a".repeat(257)}`, "abc"])
      expect(bearerToken(header)).toBeNull();
  });
});

describe("createBrowsers", () => {
  it("redeems a ticket once, before it expires", () => {
    let now = 0;
    const browsers = createBrowsers(() => now);
    const ticket = browsers.createTicket("read");
    expect(browsers.redeemTicket(ticket)).toBe("read");
    expect(browsers.redeemTicket(ticket)).toBeNull();
    const late = browsers.createTicket("control");
    now += times.ticketMs;
    expect(browsers.redeemTicket(late)).toBeNull();
    expect(browsers.redeemTicket("")).toBeNull();
  });

  it("keeps the newest tickets and sessions when there are too many", () => {
    const browsers = createBrowsers(() => 0);
    const first = browsers.createTicket("read");
    for (let count = 0; count < limits.tickets; count += 1) browsers.createTicket("read");
    expect(browsers.redeemTicket(first)).toBeNull();
    const oldest = browsers.open("read");
    for (let count = 0; count < limits.browserSessions; count += 1) browsers.open("read");
    expect(browsers.roleOfCookie(oldest.cookie)).toBeNull();
  });

  it("gives a role for cookie and proof together only, until the session ends", () => {
    let now = 0;
    const browsers = createBrowsers(() => now);
    const { cookie, proof } = browsers.open("control");
    const other = browsers.open("read");
    expect(browsers.roleOf(cookie, proof)).toBe("control");
    for (const [given, shown] of [
      [cookie, undefined],
      [cookie, other.proof],
      [undefined, proof],
      [other.cookie, proof],
      ["", ""],
    ] as const)
      expect(browsers.roleOf(given, shown)).toBeNull();
    now += times.browserSessionMs;
    expect(browsers.roleOf(cookie, proof)).toBeNull();
    const short = browsers.open("read");
    browsers.close(short.cookie);
    expect(browsers.roleOfCookie(short.cookie)).toBeNull();
  });
});

describe("admitRequest and admitUpgrade", () => {
  const tokens = createTokens();
  const access: Access = { tokens, browsers: createBrowsers(() => 0), rules: () => rules };
  const host = "127.0.0.1:8188";
  const { cookie, proof } = access.browsers.open("control");
  const cookies = `other=1; refit_sidecar_8188=${cookie}; x=y=z`;

  it("tell a token, a browser with its proof and a mere cookie apart", () => {
    expect(admitRequest({ host, authorization: `Bearer ${tokens.read}` }, access)).toEqual({ admitted: true, role: "read", by: "token" });
    expect(admitRequest({ host, cookie: cookies, "x-refit-proof": proof }, access)).toEqual({
      admitted: true,
      role: "control",
      by: "browser",
    });
    expect(admitRequest({ host, cookie: cookies }, access)).toEqual({ admitted: true, role: "control", by: "cookie" });
    expect(admitRequest({ host }, access)).toEqual({ admitted: false, code: "WIRE_UNAUTHORIZED" });
  });

  it("do not fall back to a cookie when a token was shown and is wrong", () => {
    expect(admitRequest({ host, authorization: "Bearer wrong", cookie: cookies, "x-refit-proof": proof }, access)).toEqual({
      admitted: false,
      code: "WIRE_UNAUTHORIZED",
    });
  });

  it("never open a session for a cookie, nor twice for a ticket", () => {
    expect(admitUpgrade({ host, cookie: cookies, "x-refit-proof": proof }, access)).toEqual({ admitted: false, code: "WIRE_UNAUTHORIZED" });
    const headers = {
      host,
      origin: `http://${host}`,
      "sec-websocket-protocol": `refit.v1, refit.ticket.${access.browsers.createTicket("read")}`,
    };
    expect(admitUpgrade(headers, access)).toEqual({ admitted: true, role: "read", by: "browser" });
    expect(admitUpgrade(headers, access)).toEqual({ admitted: false, code: "WIRE_TICKET_INVALID" });
  });

  it("look at Host and Origin before any secret", () => {
    expect(admitUpgrade({ host: "evil.example", authorization: `Bearer ${tokens.control}` }, access)).toEqual({
      admitted: false,
      code: "WIRE_HOST_FORBIDDEN",
    });
    expect(admitUpgrade({ host, origin: "null", authorization: `Bearer ${tokens.control}` }, access)).toEqual({
      admitted: false,
      code: "WIRE_ORIGIN_FORBIDDEN",
    });
  });
});
