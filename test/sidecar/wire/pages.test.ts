import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { request } from "node:https";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { WebSocket } from "ws";
import { describe, expect, it } from "vitest";
import { httpRoutes, wireMethods, wireNotifications } from "@refit-sidecar/protocol";
import { createPages, type PageParts } from "../../../sidecar/src/wire/pages/app.ts";
import { bearer, cleanUp, connect, startFake, temporaryFolder, type Running } from "./support.ts";

const json = { "content-type": "application/json" };
const authorized = (running: Running): Record<string, string> => ({ authorization: `Bearer ${running.discovery.read_token}` });

async function logIn(running: Running, body: object): Promise<{ cookie: string; proof: string; role: string }> {
  const reply = await fetch(`${running.server.url}/session`, { method: "POST", headers: json, body: JSON.stringify(body) });
  expect(reply.status).toBe(200);
  const setCookie = reply.headers.get("set-cookie") ?? "";
  expect(setCookie).toMatch(/^refit_sidecar_\d+=[\w-]{22}; .*HttpOnly; SameSite=Strict$/);
  return { cookie: setCookie.split(";", 1)[0]!, ...((await reply.json()) as { proof: string; role: string }) };
}

describe("the pages", () => {
  it("say that the sidecar is healthy to anybody, and to a token holder that it is really this one", async () => {
    const running = await startFake();
    expect(await (await fetch(`${running.server.url}/healthz`)).json()).toEqual({ ok: true, version: "9.9.9" });
    expect(await (await fetch(`${running.server.url}/healthz`, { headers: authorized(running) })).json()).toEqual({
      ok: true,
      version: "9.9.9",
      authenticated: true,
    });
    expect(await (await fetch(`${running.server.url}/healthz`, { headers: { authorization: "Bearer x" } })).json()).toEqual({
      ok: true,
      version: "9.9.9",
      authenticated: false,
    });
  });

  it("show status and metrics to a read token", async () => {
    const running = await startFake();
    await connect(running);
    const status = await fetch(`${running.server.url}/status`, { headers: authorized(running) });
    expect(await status.json()).toMatchObject({ version: "0.0.0", clients: 1, watch: { paused: false } });
    const metrics = await (await fetch(`${running.server.url}/metrics`, { headers: authorized(running) })).text();
    expect(metrics).toContain("# TYPE refit_wire_clients gauge\nrefit_wire_clients 1\n");
  });

  it("have the routes of the table, no more and no fewer", () => {
    const { router } = createPages({} as PageParts);
    const routes = (router as unknown as { stack: { route?: { path: string | string[]; methods: Record<string, boolean> } }[] }).stack;
    const found = routes.flatMap(({ route }) =>
      route === undefined
        ? []
        : [route.path].flat().flatMap((path) => Object.keys(route.methods).map((verb) => `${verb.toUpperCase()} ${path}`)),
    );
    expect(found.sort()).toEqual(Object.keys(httpRoutes).sort());
  });

  it("answer every route as the table says, and let in whom it says", async () => {
    const running = await startFake();
    for (const [route, { access, type, ...rest }] of Object.entries(httpRoutes)) {
      const [verb = "", path = ""] = route.split(" ");
      const ask = (headers: Record<string, string>) =>
        fetch(`${running.server.url}${path}`, {
          method: verb,
          headers: verb === "POST" ? { ...json, ...headers } : headers,
          ...(verb === "POST" ? { body: "{}" } : {}),
        });
      const asStranger = await ask({});
      expect([route, asStranger.status === 401], route).toEqual([route, access !== "open" || route === "POST /session"]);
      // Its own tests: sample-route.test.ts.
      if (route === "POST /stop" || route === "POST /session" || route === "POST /sample") continue;
      const reply = await ask({ authorization: `Bearer ${running.discovery.token}` });
      expect([route, reply.status, reply.headers.get("content-type")?.split(";")[0]]).toEqual([route, 200, type]);
      if ("answer" in rest && route !== "GET /status") rest.answer.parse(await reply.json());
    }
  });

  it("show what can be asked, every call by its name, with no script", async () => {
    const running = await startFake();
    const reply = await fetch(`${running.server.url}/api`, { headers: authorized(running) });
    const html = await reply.text();
    for (const name of [...Object.keys(wireMethods), ...Object.keys(wireNotifications), ...Object.keys(httpRoutes)])
      expect(html).toContain(`<code>${name}</code>`);
    expect(html).not.toContain("<script");
    const style = /<style>([\s\S]*?)<\/style>/.exec(html)?.[1] ?? "";
    expect(reply.headers.get("content-security-policy")).toContain(createHash("sha256").update(style).digest("base64"));
  });

  it("carry headers against framing, sniffing, caching and foreign scripts", async () => {
    const running = await startFake();
    for (const path of ["/healthz", "/status", "/", "/nowhere"]) {
      const { headers } = await fetch(`${running.server.url}${path}`);
      expect(headers.get("content-security-policy")).toContain("default-src 'none'");
      expect(headers.get("content-security-policy")).toContain("frame-ancestors 'none'");
      expect([
        headers.get("x-content-type-options"),
        headers.get("cache-control"),
        headers.get("referrer-policy"),
        headers.get("x-powered-by"),
      ]).toEqual(["nosniff", "no-store", "no-referrer", null]);
    }
  });

  it("offer a log-in page whose only script is the one that its policy names", async () => {
    const running = await startFake();
    const reply = await fetch(`${running.server.url}/`, { headers: { "sec-fetch-site": "none" } });
    expect([reply.status, reply.headers.get("content-type")]).toEqual([401, "text/html; charset=utf-8"]);
    const html = await reply.text();
    const script = /<script>([\s\S]*)<\/script>/.exec(html)![1]!;
    expect(reply.headers.get("content-security-policy")).toContain(
      `script-src 'sha256-${createHash("sha256").update(script).digest("base64")}'`,
    );
    expect(html).not.toMatch(/https?:\/\//);
  });

  it("exchange a ticket for a cookie with a proof, once; the dashboard then opens its session with a fresh ticket", async () => {
    const running = await startFake();
    const ticket = running.server.createTicket("control");
    const { cookie, proof, role } = await logIn(running, { ticket });
    expect(role).toBe("control");
    const again = await fetch(`${running.server.url}/session`, { method: "POST", headers: json, body: JSON.stringify({ ticket }) });
    expect([again.status, ((await again.json()) as { error: { data: { code: string } } }).error.data.code]).toEqual([
      401,
      "WIRE_TICKET_INVALID",
    ]);
    const page = await fetch(`${running.server.url}/`, { headers: { cookie } });
    expect([page.status, await page.text()]).toEqual([
      200,
      readFileSync(new URL("../../../sidecar/dashboard/index.html", import.meta.url), "utf8"),
    ]);
    expect((await fetch(`${running.server.url}/ticket`, { method: "POST", headers: { ...json, cookie }, body: "{}" })).status).toBe(401);
    const fresh = (await (
      await fetch(`${running.server.url}/ticket`, { method: "POST", headers: { ...json, cookie, "x-refit-proof": proof }, body: "{}" })
    ).json()) as { ticket: string };
    const client = await connect(running, { headers: { origin: running.server.url } }, ["refit.v1", `refit.ticket.${fresh.ticket}`]);
    expect(client.socket.protocol).toBe("refit.v1");
    expect((await client.call("watch.pause")).code).toBeNull();
  });

  it("end the sidecar for the control token alone", async () => {
    const running = await startFake();
    let asked = false;
    void running.server.stopAsked.then(() => (asked = true));
    const stop = (headers: Record<string, string>) => fetch(`${running.server.url}/stop`, { method: "POST", headers, body: "{}" });
    expect((await stop(json)).status).toBe(401);
    expect((await stop({ ...json, ...authorized(running) })).status).toBe(403);
    expect((await stop({ authorization: `Bearer ${running.discovery.token}`, "content-type": "text/plain" })).status).toBe(415);
    expect(asked).toBe(false);
    expect((await stop({ ...json, authorization: `Bearer ${running.discovery.token}` })).status).toBe(200);
    await running.server.stopAsked;
  });

  it("give a read ticket to whoever asks for one, and a control ticket to no read token", async () => {
    const running = await startFake();
    const ask = async (token: string, body: object): Promise<{ ticket: string; role: string }> =>
      (await (
        await fetch(`${running.server.url}/ticket`, {
          method: "POST",
          headers: { ...json, authorization: `Bearer ${token}` },
          body: JSON.stringify(body),
        })
      ).json()) as { ticket: string; role: string };
    expect((await ask(running.discovery.token, {})).role).toBe("control");
    expect((await ask(running.discovery.token, { role: "read" })).role).toBe("read");
    const { ticket, role } = await ask(running.discovery.read_token, { role: "control" });
    expect(role).toBe("read");
    expect((await logIn(running, { ticket })).role).toBe("read");
  });

  it("forget a browser that logs out", async () => {
    const running = await startFake();
    const { cookie, proof } = await logIn(running, { token: running.discovery.token });
    expect(
      (await fetch(`${running.server.url}/logout`, { method: "POST", headers: { ...json, cookie, "x-refit-proof": proof }, body: "{}" }))
        .status,
    ).toBe(200);
    expect((await fetch(`${running.server.url}/status`, { headers: { cookie, "x-refit-proof": proof } })).status).toBe(401);
  });

  it("answer a preflight of an allowed origin only, also one that is allowed later", async () => {
    const running = await startFake();
    const ask = (): Promise<Response> =>
      fetch(`${running.server.url}/status`, { method: "OPTIONS", headers: { origin: "https://ui.example" } });
    expect((await ask()).status).toBe(403);
    running.server.reload({ allowHosts: [], allowOrigins: ["https://ui.example"], maxClients: 10 });
    const allowed = await ask();
    expect([
      allowed.status,
      allowed.headers.get("access-control-allow-origin"),
      allowed.headers.get("access-control-allow-credentials"),
    ]).toEqual([204, "https://ui.example", null]);
  });

  it("keep a failure of the backend to themselves", async () => {
    const running = await startFake();
    Object.assign(running.backend, {
      status: async () => {
        throw new Error("broken at /home/somebody/x");
      },
    });
    const reply = await fetch(`${running.server.url}/status`, { headers: authorized(running) });
    const body = await reply.text();
    expect([reply.status, JSON.parse(body)]).toMatchObject([500, { error: { data: { code: "WIRE_INTERNAL", fault: "sidecar" } } }]);
    expect(body + running.logLines.join("")).not.toContain("somebody");
  });
});

describe("the listener", () => {
  it.each<[string, object, string]>([
    ["a remote address without TLS", { bind: "0.0.0.0" }, "WIRE_OPTIONS_REMOTE"],
    ["a certificate without a key", { tlsCert: "x.pem" }, "WIRE_OPTIONS_TLS"],
    ["certificate files that are not there", { tlsCert: "/nowhere/x.pem", tlsKey: "/nowhere/y.pem" }, "WIRE_OPTIONS_TLS"],
  ])("refuses %s", async (_name, options, code) => {
    await expect(startFake(options)).rejects.toMatchObject({ code });
  });

  it("says which port is taken", async () => {
    const taken = createServer().listen(0, "127.0.0.1");
    cleanUp(() => void taken.close());
    await new Promise((resolve) => taken.once("listening", resolve));
    const address = taken.address();
    await expect(startFake({ port: typeof address === "object" && address !== null ? address.port : 0 })).rejects.toMatchObject({
      code: "WIRE_LISTEN_FAILED",
    });
  });

  it("listens beyond loopback behind a proxy when told so, for the hosts it is told", async () => {
    const running = await startFake({ bind: "0.0.0.0", behindProxy: true, allowHosts: ["studio.example"] });
    const port = new URL(running.server.url).port;
    const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`, {
      headers: { host: "studio.example", origin: "https://studio.example", authorization: `Bearer ${running.discovery.token}` },
    });
    cleanUp(() => socket.terminate());
    await new Promise((resolve, reject) => (socket.once("open", resolve), socket.once("error", reject)));
    expect(running.logLines.join("")).toContain("which other computers can reach");
  });

  it("speaks TLS when it has a certificate", async (context) => {
    const folder = temporaryFolder();
    try {
      execFileSync(
        "openssl",
        [
          "req",
          "-x509",
          "-newkey",
          "ec",
          "-pkeyopt",
          "ec_paramgen_curve:prime256v1",
          "-nodes",
          "-keyout",
          join(folder, "key.pem"),
          "-out",
          join(folder, "cert.pem"),
          "-days",
          "1",
          "-subj",
          "/CN=127.0.0.1",
          "-addext",
          "subjectAltName=IP:127.0.0.1",
        ],
        { stdio: "ignore" },
      );
    } catch {
      context.skip("openssl, which makes the test's certificate, is not installed");
    }
    const running = await startFake({ bind: "127.0.0.1", tlsCert: join(folder, "cert.pem"), tlsKey: join(folder, "key.pem") });
    expect(running.discovery.ws_url).toMatch(/^wss:/);
    const ca = readFileSync(join(folder, "cert.pem"));
    const status = await new Promise<number | undefined>((resolve, reject) =>
      request(`${running.server.url}/status`, { ca, headers: authorized(running) }, (reply) => (reply.resume(), resolve(reply.statusCode)))
        .on("error", reject)
        .end(),
    );
    expect(status).toBe(200);
    expect((await (await connect(running, { ...bearer(running.discovery.token), ca })).call("ping")).code).toBeNull();
  });
});

describe("error codes of the wire", () => {
  it("are each provoked by a test", async () => {
    const { errorTable } = await import("../../../protocol/src/index.ts");
    const { readdirSync } = await import("node:fs");
    const folders = [new URL("./", import.meta.url), new URL("../../protocol/", import.meta.url)];
    const sources = folders
      .flatMap((folder) =>
        readdirSync(folder)
          .filter((name) => name.endsWith(".test.ts"))
          .map((name) => readFileSync(new URL(name, folder), "utf8")),
      )
      .join("");
    const own = Object.keys(errorTable).filter((code) => /^(FRAME|RPC|WIRE)_/.test(code));
    expect(own.filter((code) => !sources.includes(`"${code}"`))).toEqual([]);
  });
});
