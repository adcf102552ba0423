// Calls of a page through the UI's own server, which holds the token. Answers are data or a RefitError with the sidecar's own code and text.

import { RefitError, type Client, type Facts } from "./client.ts";

export interface Relay extends Client {
  /** Gets an engine ready for a checkpoint by the UI's name for it; null: the one that is selected. */
  readonly warm: (checkpoint: string | null) => Promise<{ readonly checkpoint?: string }>;
}

type FetchApi = (path: string, options?: RequestInit) => Promise<Response>;
const json = { "Content-Type": "application/json" };

/** `fetchApi(path, options)` adds where the UI's server has these calls; `ui` is the UI's name in messages. */
export function createRelay(fetchApi: FetchApi, ui: string): Relay {
  const subject = `${ui.slice(0, 1).toUpperCase()}${ui.slice(1)}`;
  async function ask<Answer>(path: string, options: RequestInit = {}): Promise<Answer> {
    let response: Response;
    try {
      response = await fetchApi(path, { cache: "no-store", ...options });
    } catch {
      throw new RefitError("PAGE_OFFLINE", `${subject} does not answer.`);
    }
    const data = (await response.json().catch(() => ({}))) as { readonly code?: string; readonly message?: string };
    if (!response.ok)
      throw new RefitError(data.code ?? `HTTP_${response.status}`, data.message ?? `${subject} answered ${response.status}.`);
    return data as Answer;
  }
  const post = (body: unknown): RequestInit => ({ method: "POST", headers: json, body: JSON.stringify(body) });

  return {
    facts: (after = 0) => ask<Facts>(`/facts?after=${after}`),
    read: (method, params) => ask(`/read/${method}?${new URLSearchParams({ params: JSON.stringify(params ?? {}) })}`),
    change: (method, params) => ask(`/change/${method}`, post(params ?? {})),
    ownServer: false,
    mayChange: () => true,
    warm: (checkpoint) => ask("/warm", post({ checkpoint })),
  };
}
