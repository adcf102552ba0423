// Options: one table in, resolved values out. In: flags, environment, a TOML file. Out: Options, every value checked.
// Never reads a file that was not named, never guesses at a wrong value.

export { comfyuiFolders, fileSource } from "./file.ts";
export { environmentSource, envName, reloadedOptions, resolveOptions } from "./resolve.ts";
export type { OptionName, Options, RawValues, Source } from "./resolve.ts";
export { mebibyte, optionTable } from "./table.ts";
export type { OptionSpec } from "./table.ts";
