// pages: what a browser or a monitor sees over HTTP. In: requests that passed the listener's limits. Out: health, status, metrics, the dashboard and its
// log-in. It must never answer a foreign Host or Origin, take anything but small JSON, or serve a file by a name from the request.

export { createPages, type PageParts } from "./app.ts";
