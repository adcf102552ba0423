// The saved catalog: a kept text of its own format.

import { keepText, readKept, type Kept } from "../../files/index.ts";

/** Raised when the meaning of the saved fields changes; a file of another format is rebuilt from headers. */
export const catalogFormat = "refit-catalog-1";

export const loadText = (path: string): Promise<Kept> => readKept(path, catalogFormat);
export const saveText = (path: string, text: string): Promise<void> => keepText(path, catalogFormat, text);
