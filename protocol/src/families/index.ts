// Model families as data. In: the descriptions of protocol/families. Out: their names and fields. Computes nothing: expressions are evaluated where shapes are known.

import type { familyNames } from "./table.ts";

export { familyDescription, otherModels } from "./schema.ts";
export type { FamilyCall, FamilyDescription, FamilyInput, NameRow, OtherModels, SpellingRow } from "./schema.ts";
export { familyNames, familyTable, otherModelTable } from "./table.ts";
export type Family = (typeof familyNames)[number];
