// From folder events to settled files. In: folders that the user named. Out: batches of ArrivalEvent: settled, changed, gone, refused, and what
// befell a folder as a whole. Finds out whether a file is whole; what is in it is the catalog's business.
// Never reads tensor data beyond a few pages, never holds a file open, never follows a link to anything but a regular file, and never takes silence
// of the watcher for absence of change: scans at start, after doubt and at an interval have the last word.

export { createArrivals, folderKey } from "./arrivals.ts";
export type { Arrivals } from "./arrivals.ts";
export type { FolderSpec, GivenArrivalsOptions } from "./options.ts";
export { systemClock } from "./world.ts";
export type { Clock, Files, Listing, Look, Mark, StartWatch, Watch, WatchHints } from "./world.ts";
export type { ArrivalEvent, ArrivalListener, FileKind, Place, RefusalCode, WatchedFolder } from "./types.ts";
