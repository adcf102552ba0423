// Calls of the page, through ComfyUI's server. Answers are data or a RefitError with the sidecar's own code and text.

export class RefitError extends Error {
  constructor(code, message) {
    super(message);
    this.name = "RefitError";
    this.code = code;
  }
}

/** `fetchApi(path, options)` is ComfyUI's own, which adds its base path. */
export function createClient(fetchApi) {
  async function ask(path, options = {}) {
    let response;
    try {
      response = await fetchApi(path, { cache: "no-store", ...options });
    } catch {
      throw new RefitError("PAGE_OFFLINE", "ComfyUI does not answer.");
    }
    const data = await response.json().catch(() => ({}));
    if (!response.ok) throw new RefitError(data.code ?? `HTTP_${response.status}`, data.message ?? `ComfyUI answered ${response.status}.`);
    return data;
  }

  return {
    facts: () => ask("/refit/facts"),
    read: (method, params = {}) => ask(`/refit/read/${method}?${new URLSearchParams({ params: JSON.stringify(params) })}`),
    change: (method, params = {}) => ask(`/refit/change/${method}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(params) }),
    warm: (checkpoint) => ask("/refit/warm", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ checkpoint }) }),
  };
}
