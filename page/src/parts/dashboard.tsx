// The dashboard: one page with a view a topic. The address says which, so that a view can be linked to.

import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Activity } from "./activity.tsx";
import { Engines } from "./engines.tsx";
import { Library } from "./library.tsx";
import { NoticeList, type Notices } from "./notices.tsx";
import type { Shell } from "./panel.tsx";
import { System } from "./system.tsx";
import { TryIt } from "./try-it.tsx";
import { useStore } from "./use-store.ts";

interface DashboardShell extends Shell {
  readonly notices: Notices;
}

const views = [
  {
    id: "library",
    title: "Library",
    draw: (shell: DashboardShell) => <Library store={shell.store} fits={shell.fits} actions={shell.actions ?? []} />,
  },
  { id: "engines", title: "Engines", draw: (shell: DashboardShell) => <Engines {...shell} /> },
  { id: "try", title: "Try it", draw: (shell: DashboardShell) => <TryIt store={shell.store} /> },
  { id: "activity", title: "Activity", draw: (shell: DashboardShell) => <Activity store={shell.store} /> },
  { id: "system", title: "System", draw: (shell: DashboardShell) => <System store={shell.store} /> },
] as const;

export function createDashboard(host: Element, shell: DashboardShell): void {
  render(<Dashboard {...shell} />, host);
  void shell.store.refresh();
}

/** The view that the address names; the library without a name. */
function useView() {
  const find = () => views.find(({ id }) => `#${id}` === location.hash) ?? views[0];
  const [view, setView] = useState(find);
  useEffect(() => {
    const look = () => setView(find);
    addEventListener("hashchange", look);
    return () => removeEventListener("hashchange", look);
  }, []);
  return view;
}

function Dashboard(shell: DashboardShell) {
  const { connection } = useStore(shell.store, "facts").facts;
  const view = useView();
  useEffect(() => {
    document.title = `${view.title} · Refit Sidecar`;
  }, [view]);
  return (
    <div class="refit-dashboard refit-look">
      <a class="refit-skip" href="#content" onClick={(event) => (event.preventDefault(), document.getElementById("content")?.focus())}>
        Skip to the content
      </a>
      <header class="refit-header">
        <h1>Refit Sidecar</h1>
        <p class={`refit-connection refit-${connection.state}`} id="connection" role="status">
          {connection.text}
        </p>
        <nav aria-label="Views">
          {views.map(({ id, title }) => (
            <a key={id} href={`#${id}`} aria-current={id === view.id ? "page" : undefined}>
              {title}
            </a>
          ))}
        </nav>
      </header>
      <main id="content" tabIndex={-1} data-view={view.id} aria-label={view.title}>
        {view.draw(shell)}
      </main>
      <NoticeList notices={shell.notices} />
    </div>
  );
}
