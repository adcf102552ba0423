"""Names of the UI's folders to ids of the sidecar's catalog, and adapter contents to something that a stack can name."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from ..client import CHECK_EVERY_S, SidecarError, SidecarRefused
from ..engine import Link
from ..files import Stamp, stamp

# A folder that was pushed a moment ago, or a file that is still being copied, may take this long to be listed.
PATIENCE_S = 8.0


class Catalog:
    """`folders` maps a folder's path to the id that the sidecar gave it; it is filled by the service at each connection, and by `push_folders`."""

    def __init__(self, link: Link, push_folders: Callable[[], None] = lambda: None) -> None:
        self._link, self._push_folders = link, push_folders
        self.folders: dict[str, str] = {}
        # What need not be asked for every run. Ids and families hold while their file is as it was.
        self._ids: dict[str, tuple[Stamp | None, str]] = {}
        self._families: dict[str, tuple[Stamp | None, str]] = {}
        self._contents: set[str] = set()

    def forget(self) -> None:
        """After a reconnection the sidecar may be another one, and after CATALOG_ENTRY_UNKNOWN something left its catalog."""
        self._ids, self._families, self._contents = {}, {}, set()

    def id_of(self, path: str, check: Callable[[], None]) -> str:
        """The id of a file's entry; see `entry`. Asked once while the file stays as it is."""
        now, known = stamp(path), self._ids.get(path)
        if known is None or known[0] != now:
            known = self._ids[path] = (now, self.entry(path, check)["id"])
        return known[1]

    def family(self, path: str, check: Callable[[], None]) -> str | None:
        """The model family that a file is listed for, or None. Asked once while the file stays as it is. Does not wait."""
        now, known = stamp(path), self._families.get(path)
        if known is None or known[0] != now:
            entry = self.listed(path, check)
            if entry is None or not entry["family"]:
                return None
            known = self._families[path] = (now, entry["family"])
        return known[1]

    def entry(self, path: str, check: Callable[[], None], *, hashed: bool = False) -> dict[str, Any]:
        """The entry of a file; `hashed`: with the SHA-256 of its content, which is computed now where it is not known. Waits a little for one in the UI's
        folders that is not listed yet. Raises SidecarError, or what `check` raises."""
        places = self._places(path)
        if not places:
            # A folder of the UI that did not exist yet when it was told about.
            self._push_folders()
            places = self._places(path)
        deadline = time.monotonic() + (PATIENCE_S if places else 0.0)
        while True:
            for folder, name in places:
                entry = self._get({"folder": folder, "name": name, **({"hash": True} if hashed else {})}, check)
                if entry is not None:
                    return self._usable(entry)
            if time.monotonic() > deadline:
                raise SidecarRefused(
                    "CATALOG_ENTRY_UNKNOWN",
                    "The sidecar has not catalogued this file.",
                    "See whether it is complete, and in a folder that the UI lists.",
                )
            pause(0.1, check)

    def entry_of(self, path: str, sha256: str, check: Callable[[], None]) -> dict[str, Any] | None:
        """The entry of a file whose content the sidecar reads now, or None when that is another than `sha256`. Waits for a file that arrived a moment ago."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                entry = self.entry(path, check, hashed=True)
            except SidecarRefused as error:
                # It was written to since the catalog saw it, which will see that in a moment.
                if error.reason != "CATALOG_FILE_CHANGED" or time.monotonic() > deadline:
                    raise
                pause(0.1, check)
            else:
                return entry if entry["sha256"] == sha256 else None

    def listed(self, path: str, check: Callable[[], None]) -> dict[str, Any] | None:
        """The entry of a file as it is listed now, or None. Does not wait."""
        found = (self._get({"folder": folder, "name": name}, check) for folder, name in self._places(path))
        return next((entry for entry in found if entry is not None), None)

    def knows_content(self, sha256: str, check: Callable[[], None]) -> bool:
        if sha256 not in self._contents and self._get({"sha256": sha256}, check) is not None:
            self._contents.add(sha256)
        return sha256 in self._contents

    def find(self, tensors: list[dict[str, Any]], check: Callable[[], None]) -> dict[str, Any] | None:
        """The adapter that holds these tensors (dtype, shape, sha256), or None."""
        return self._link.call("adapter.find", {"tensors": tensors}, check=check).result["adapter"]

    def _places(self, path: str) -> list[tuple[str, str]]:
        out = []
        for folder, folder_id in list(self.folders.items()):
            relative = os.path.relpath(path, folder) if _same_drive(path, folder) else ".."
            if not relative.startswith(".."):
                out.append((folder_id, relative.replace(os.sep, "/")))
        return out

    def _get(self, params: dict[str, Any], check: Callable[[], None]) -> dict[str, Any] | None:
        try:
            return self._link.call("catalog.get", params, check=check).result["entry"]
        except SidecarError as error:
            if error.code in ("CATALOG_ENTRY_UNKNOWN", "CATALOG_FOLDER_UNKNOWN"):
                return None
            raise

    @staticmethod
    def _usable(entry: dict[str, Any]) -> dict[str, Any]:
        if entry["problem"] is not None:
            raise SidecarRefused(entry["problem"]["code"], entry["problem"]["message"])
        return entry


def _same_drive(path: str, folder: str) -> bool:
    return os.path.splitdrive(os.path.abspath(path))[0].lower() == os.path.splitdrive(os.path.abspath(folder))[0].lower()


def pause(seconds: float, check: Callable[[], None]) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        check()
        time.sleep(min(left, CHECK_EVERY_S))
