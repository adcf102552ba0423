// The entry for A1111 and Forge, which put every file of this folder into their page. ComfyUI's is web/refit.js.
// The rest comes through our route: there its type and its place are known on every system. The page may be up a little before the route is.

const page = new URL("refit-sidecar/web/refit/webui.mjs", document.baseURI);
const attempts = 20;

for (let attempt = 1; attempt <= attempts; attempt += 1) {
  try {
    // A failed import is remembered by its address.
    await import(attempt === 1 ? page.href : `${page.href}?attempt=${attempt}`);
    break;
  } catch (error) {
    if (attempt === attempts)
      console.error("Refit Sidecar: its page could not be loaded; reload this page, and look at the UI's log.", error);
    else await new Promise((next) => setTimeout(next, 1500));
  }
}
