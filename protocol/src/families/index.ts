// Model families as data. In: the descriptions of protocol/families. Out: their names and fields. Computes nothing: expressions are evaluated where shapes are known.

import type { autoencoderTable, familyNames } from "./table.ts";

export { autoencoderDescription, familyDescription, otherModels } from "./schema.ts";
export type { FamilyCall, FamilyDescription, FamilyInput, NameRow, OtherModels, SpellingRow } from "./schema.ts";
export { autoencoderTable, familyNames, familyTable, otherModelTable } from "./table.ts";
/** An autoencoder's name is its file's. */
export type Autoencoder = keyof typeof autoencoderTable;
export type Family = (typeof familyNames)[number];
