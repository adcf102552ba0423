// The page of A1111 and Forge: keeps the accordions' lines up to date, fills the tab, shows messages. It talks to the UI's own server only.

import { commandList, engineCommands } from "../commands/engine-commands.ts";
import { createToasts } from "../messages/toasts.ts";
import { webuiMessages } from "../messages/webui-messages.ts";
import { createPanel } from "../parts/panel.tsx";
import { stateBrief, stateLine } from "../state/rows.ts";
import { createStore } from "../state/store.ts";
import type { PolledFacts } from "../wire/poll.ts";
import { createPoll } from "../wire/poll.ts";
import { createRelay } from "../wire/relay.ts";

const ui = "the web UI";
const calls = new URL("../../", import.meta.url);
const client = createRelay((path, options) => fetch(new URL(`.${path}`, calls), options), ui);
const store = createStore(client);
const toasts = createToasts(webuiMessages(ui), (id) => store.nameOf(id));
const root = (): ParentNode => (globalThis as { gradioApp?: () => ParentNode }).gradioApp?.() ?? document;

async function warm(): Promise<string> {
  const { checkpoint } = await client.warm(null);
  return `Getting ready in the background: ${checkpoint}.`;
}

const commands = commandList(
  engineCommands({
    client,
    warm: { label: "Warm engine of this checkpoint", work: warm },
    idle: "Make a picture, or press Warm.",
    dashboard: new URL("../dashboard.html", import.meta.url),
  }),
  { store, toasts },
);

/** Gradio may draw the page anew at any time, so places are looked for each time. */
function fillTab(): void {
  const place = root().querySelector(".refit-tab");
  if (!place || place.querySelector(".refit-panel")) return;
  const host = document.createElement("div");
  place.replaceChildren(host);
  createPanel(host, { store, commands, ui, fits: () => null });
}

function tell(selector: string, state: string, text: string): void {
  for (const place of root().querySelectorAll<HTMLElement>(selector)) {
    if (place.dataset["state"] !== state) place.dataset["state"] = state;
    if (place.textContent !== text) place.textContent = text;
  }
}

function tellLines({ state, text }: { readonly state: string; readonly text: string }): void {
  tell(".refit-line", state, text);
  tell(".refit-brief", state, stateBrief(state));
}

/** A link to where the browser asks for the name and password, and comes back from. */
function offerSignIn(): void {
  const place = root().querySelector(".refit-tab");
  if (!place || place.querySelector(".refit-sign-in-link")) return;
  const link = document.createElement("a");
  link.className = "refit-sign-in-link";
  link.href = new URL("./sign-in", calls).href;
  link.textContent = "Sign in to see engines and LoRAs";
  place.prepend(link);
}

const poll = createPoll(client);
store.follow(poll);
store.onEvent((event) => void toasts.tell(event));
poll.addEventListener("refit.facts", ({ detail }: { readonly detail: PolledFacts }) => {
  fillTab();
  tellLines(stateLine(detail));
});
poll.addEventListener("refit.connection", ({ detail }) => {
  fillTab();
  if (detail.state === "sign-in") offerSignIn();
  else root().querySelector(".refit-sign-in-link")?.remove();
  if (detail.state !== "connected") tellLines({ state: detail.state, text: detail.text });
});
void poll.start();
