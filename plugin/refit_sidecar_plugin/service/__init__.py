"""The plugin's side of the sidecar, for any UI. In: folders, wishes, calls of the page. Out: ids, runs, facts for pages.

It starts the sidecar when none runs, pushes the UI's folders, and tells what happens. It knows no UI and imports none.
"""

from .catalog import Catalog
from .facts import Facts, LastRun
from .push import Pusher
from .relay import Relay, RelayRefused
from .service import Folder, Service

__all__ = ["Catalog", "Facts", "Folder", "LastRun", "Pusher", "Relay", "RelayRefused", "Service"]
