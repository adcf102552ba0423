// The page of A1111 and Forge: keeps the accordions' lines up to date, fills the tab, shows messages. It talks to the UI's own server only.

import { createClient } from "./client.mjs";
import { commandList, engineCommands } from "./engine-commands.mjs";
import { createPanel } from "./panel.mjs";
import { createPoll } from "./poll.mjs";
import { stateBrief, stateLine } from "./rows.mjs";
import { createStore } from "./store.mjs";
import { createToasts } from "./toasts.mjs";
import { webuiMessages } from "./webui-messages.mjs";

const ui = "the web UI";
const calls = new URL("../../", import.meta.url);
const client = createClient((path, options) => fetch(new URL(`.${path}`, calls), options), ui);
const store = createStore(client);
const toasts = createToasts(webuiMessages(ui), (id) => store.nameOf(id));
const root = () => globalThis.gradioApp?.() ?? document;

async function warm() {
  const { checkpoint } = await client.warm(null);
  return `Getting ready in the background: ${checkpoint}.`;
}

const commands = commandList(
  engineCommands({ client, warm: { label: "Warm engine of this checkpoint", work: warm }, idle: "Make a picture, or press Warm." }),
  { store, toasts },
);

/** Gradio may draw the page anew at any time, so places are looked for each time. */
function fillTab() {
  const place = root().querySelector(".refit-tab");
  if (place && !place.querySelector(".refit-panel")) createPanel(place, { store, commands, ui });
}

function tell(selector, state, text) {
  for (const place of root().querySelectorAll(selector)) {
    if (place.dataset.state !== state) place.dataset.state = state;
    if (place.textContent !== text) place.textContent = text;
  }
}

function tellLines({ state, text }) {
  tell(".refit-line", state, text);
  tell(".refit-brief", state, stateBrief(state));
}

/** A link to where the browser asks for the name and password, and comes back from. */
function offerSignIn() {
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
store.onEvent((event) => toasts.tell(event));
poll.addEventListener("refit.facts", ({ detail }) => {
  fillTab();
  tellLines(stateLine(detail));
});
poll.addEventListener("refit.connection", ({ detail }) => {
  fillTab();
  if (detail.state === "sign-in") offerSignIn();
  else root().querySelector(".refit-sign-in-link")?.remove();
  if (detail.state !== "connected") tellLines({ state: detail.state, text: detail.text });
});
poll.start();
