// Calls of the page, through the UI's own server. Answers are data or a RefitError with the sidecar's own code and text.

export class RefitError extends Error {
  constructor(code, message) {
    super(message);
    this.name = "RefitError";
    this.code = code;
  }
}

/** `fetchApi(path, options)` adds where the UI's server has these calls; `ui` is the UI's name in messages. */
export function createClient(fetchApi, ui) {
  async function ask(path, options = {}) {
    let response;
    try {
      response = await fetchApi(path, { cache: "no-store", ...options });
    } catch {
      throw new RefitError("PAGE_OFFLINE", `${ui} does not answer.`);
    }
    const data = await response.json().catch(() => ({}));
    if (!response.ok) throw new RefitError(data.code ?? `HTTP_${response.status}`, data.message ?? `${ui} answered ${response.status}.`);
    return data;
  }

  return {
    /** `after`: how many events are known already; a server that pushes its events needs none. */
    facts: (after = 0) => ask(`/facts?after=${after}`),
    read: (method, params = {}) => ask(`/read/${method}?${new URLSearchParams({ params: JSON.stringify(params) })}`),
    change: (method, params = {}) =>
      ask(`/change/${method}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(params) }),
    warm: (checkpoint) =>
      ask("/warm", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ checkpoint }) }),
  };
}
