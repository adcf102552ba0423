// Names for the Python oracles: reads {"family", "shapes": {key: shape}} on stdin, writes {"format", "parameters": {name: [part keys]}, "map": {adapter name: [parameter, start, length, swap]}}.
import { readFileSync } from "node:fs";
import { canonicalNames, keyMap } from "../../../sidecar/dist/src/terms/index.js";

const { family, shapes } = JSON.parse(readFileSync(0, "utf8"));
const names = canonicalNames(new Map(Object.entries(shapes)));
const parameters = new Map([...names.parameters].map(([name, { shape }]) => [name, shape]));
const map = keyMap(family, parameters);
console.log(
  JSON.stringify({
    format: names.format,
    other: names.otherKeys,
    shapes: Object.fromEntries(parameters),
    parameters: Object.fromEntries(
      [...names.parameters].map(([name, { parts }]) => [
        name,
        parts.map(({ key, start, length, swapHalves }) => [key, start, length, swapHalves]),
      ]),
    ),
    map: Object.fromEntries(
      [...map].map(([name, { parameter, slice, swapHalves }]) => [
        name,
        [parameter, slice?.start ?? 0, slice?.length ?? null, swapHalves === true],
      ]),
    ),
  }),
);
