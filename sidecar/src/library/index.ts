// What lies beside a model file for people: notes and a preview picture. In: the path of a catalogued file. Out: plain texts, a picture with its kind and size.
// Must never follow a link, take a name from a request, or believe what a file calls itself.

import { isBeside, readBeside } from "./beside.ts";
import { pictureFacts, type PictureFacts } from "./picture.ts";

export { adapterNotes } from "./notes.ts";

export interface Preview extends PictureFacts {
  readonly bytes: Buffer;
}

/** As UIs and downloaders name them, the most particular first. */
const endings = [".preview.png", ".preview.jpg", ".preview.jpeg", ".preview.webp", ".png", ".jpg", ".jpeg", ".webp"];
/** One picture of a list; larger ones are not meant for it. */
const limitBytes = 4 * 1024 * 1024;
/** A browser takes four bytes a pixel to show it. */
const longestSide = 8192;

export const hasPreview = (model: string): Promise<boolean> => isBeside(model, endings, limitBytes);

/** Null when there is no picture, or none that a list should show. */
export async function readPreview(model: string): Promise<Preview | null> {
  const bytes = await readBeside(model, endings, limitBytes);
  const facts = bytes === null ? null : pictureFacts(bytes);
  if (bytes === null || facts === null || facts.width > longestSide || facts.height > longestSide) return null;
  return { ...facts, bytes };
}
