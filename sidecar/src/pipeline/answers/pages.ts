// What pages ask beyond the stages' own lists, put together.

import { MeasureService } from "../../delta/index.ts";
import { insightAnswers } from "./insight.ts";
import type { InsightParts } from "./insight.ts";
import { libraryAnswers } from "./library.ts";
import type { LibraryParts } from "./library.ts";
import { tryoutAnswers } from "./tryout.ts";
import type { TryoutParts } from "./tryout.ts";

export type PageParts = InsightParts & Omit<LibraryParts, "measures" | "mode"> & Pick<TryoutParts, "opener">;

export function pageAnswers(parts: PageParts) {
  const mode = () => parts.options().mode;
  return {
    ...libraryAnswers({ ...parts, mode, measures: new MeasureService() }),
    ...insightAnswers(parts),
    ...tryoutAnswers({ ...parts, mode }),
  };
}
