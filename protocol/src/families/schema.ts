// What protocol/families/<name>.json may say. One description a model family, read by every part of the program. Format: docs/develop/adding-a-family.md.

import { z } from "zod";
import type { autoencoderTable } from "./table.ts";

/** Arithmetic over named dimensions and tensor names; grammar in docs/develop/adding-a-family.md, "Expressions". */
const expression = z.string().min(1).max(600);
/** A tensor name, with `{n}` for a number and `{*}` for any run of characters. */
const pattern = z.string().min(1).max(200);
/** Text with expressions in braces. */
const template = z.string().max(200);
const note = z.string().max(300).optional();

/** A name that counts when its condition holds; the last of a list needs none. */
const alternative = z.strictObject({ name: template, when: expression.optional() });

const configValue = z.union([
  /** `= expression` is computed, any other text stands for itself. */
  z.string(),
  z.number(),
  z.boolean(),
  z.null(),
  z.array(z.union([z.number(), z.string()])),
  /** Left out of the configuration unless `when` holds. */
  z.strictObject({ when: expression, value: z.union([z.string(), z.number(), z.boolean(), z.array(z.number())]) }),
  z.strictObject({
    choose: z.array(z.strictObject({ value: z.union([z.string(), z.number(), z.null()]), when: expression.optional() })).min(1),
  }),
]);

/** A third element: adapters may use the file's name too. */
const rename = z.union([z.tuple([pattern, pattern]), z.tuple([pattern, pattern, z.literal("adapters")])]);

const checkpoint = z.strictObject({
  /** Families are tried by ascending order; the first whose names and conditions fit wins. */
  order: z.int(),
  /** Canonical names (after `renames`) that must be there, and that must not. */
  requires: z.array(pattern).min(1),
  /** Further names that every whole file has. A file without one of them is a part of a checkpoint: it is recognised, and refused. */
  whole: z.array(pattern).optional(),
  forbids: z.array(pattern).optional(),
  where: expression.optional(),
  /** Sentences for a user, beside the required names. */
  evidence: z.array(template).optional(),
  /** Parts of the variant's name, joined by "-"; empty ones are left out. */
  variant: z.array(z.array(alternative).min(1)),
  /** The model's configuration in ComfyUI's words. */
  config: z.record(z.string(), configValue),
  /** File name → canonical name, for files that call a parameter otherwise. */
  renames: z.array(rename).optional(),
});

const diffusers = z.strictObject({
  class: z.string(),
  /** Names of diffusers' own file that tell it from every other. */
  requires: z.array(pattern).min(1),
  forbids: z.array(pattern).optional(),
  /** Tensors of such a file that the checkpoint has no parameter for. */
  note,
});

const rowOptions = {
  /** The parameter's suffix when it is not `.weight`. */
  suffix: z.string().optional(),
  /** Both names are whole parameter names (no `.weight` or `.bias` behind). */
  bare: z.literal(true).optional(),
  /** The diffusers parameter has the halves of dimension 0 in the other order: always, or where the expression holds. */
  swap: z.union([z.literal(true), expression]).optional(),
  /** `adapters`: a name that only adapters use; `files`: one that only diffusers' own files use; `extended`: both, but ComfyUI's map lacks it. */
  only: z.enum(["adapters", "files", "extended"]).optional(),
  /** The parameter's shape where diffusers keeps its values in another one; `size` is their number. */
  shape: z.array(expression).optional(),
  when: expression.optional(),
  note,
};
const part = z.tuple([z.string(), expression]);
const row = z.union([
  z.tuple([z.string(), z.string()]),
  z.strictObject({ native: z.string(), diffusers: z.string(), ...rowOptions }),
  /** A fused parameter: names of its parts and their rows, first rows first. */
  z.strictObject({ native: z.string(), parts: z.array(part).min(1), ...rowOptions }),
]);
const nameGroup = z.strictObject({
  /** A dimension that counts the blocks; `{n}` in the names runs over them. */
  blocks: z.string().optional(),
  native: z.string().optional(),
  diffusers: z.string().optional(),
  rows: z.array(row).min(1),
});

const spelling = z.strictObject({
  prefix: z.string(),
  /** `file`: names as other releases of the model write them (`renames`). */
  names: z.enum(["native", "diffusers", "file"]),
  /** `dotted` unless the prefix ends in `_`; `flat` has `_` for `.`; `processor` is diffusers' old attention processors. */
  form: z.enum(["dotted", "flat", "processor"]).optional(),
  /** Who accepts it: ComfyUI, or only extended mode. Extended mode has usual prefixes for every family beside these. */
  mode: z.enum(["comfyui", "extended"]).optional(),
  note,
});

const extraName = z.strictObject({
  blocks: z.string().optional(),
  name: z.string(),
  parameter: z.string(),
  start: expression,
  length: expression,
  note,
});

/** A test of an adapter's module names. The first that holds wins, over all families and other models by ascending order. */
const adapterRule = z.strictObject({
  order: z.int(),
  where: expression,
  evidence: template.optional(),
  /** Families whose adapters look the same, unless something tells them apart: an adapter that is applied goes by its checkpoint, `inspect` names them all. */
  also: z.array(z.strictObject({ family: z.string(), unless: expression })).optional(),
  note,
});

const input = z.strictObject({
  name: z.string(),
  /** The engine's float type, or f32 always. */
  dtype: z.enum(["float", "f32"]),
  /** A name is a size that changes between steps, `{expression}` one that the structure fixes. */
  axes: z.array(template).max(8),
  /** Comes with every step, or is the same over a run. */
  each: z.enum(["step", "run"]),
  /** Structures without it lack the input, and what a UI gives for it is left out. */
  when: expression.optional(),
  /** A number as a run brings it, for steps that nobody asked for. */
  typical: z.number().optional(),
  /** A step may leave it out. */
  optional: z.literal(true).optional(),
  /** Belongs to another call of the model than a step, which is called as its first input: `words` makes a run's words once. */
  call: z.literal("words").optional(),
  /** At most so many tensors, each with sizes of its own: `name_0`, `name_1`, … */
  many: z.int().min(1).max(64).optional(),
  note,
});

/** One engine input, or those of an argument that is a list of tensors of different kinds. */
const fed = z.union([z.string(), z.array(z.string()).min(2)]);
/** The input that takes a number or true, or 1 where the value is a certain word and 0 where it is another. */
const setting = z.union([z.string(), z.strictObject({ input: z.string(), is: z.string() })]);
const call = z.strictObject({
  /** Class names of a UI's models (ComfyUI: comfy.model_base; Forge: the model or the diffusion model in it). */
  classes: z.partialRecord(z.enum(["comfyui", "forge"]), z.array(z.string())),
  /**
   * Dotted name of a web UI's class → the UI → its parameters as they were read in its source, `self` first; `*` and `**` take any others. `selftest --webui` looks whether
   * they are still there.
   */
  recorded: z.record(z.string(), z.record(z.string(), z.array(z.string()))).optional(),
  /** The order in which the UI gives arguments without a name, then every other that it may give. */
  arguments: z.array(z.string()),
  /** Argument → engine input; `argument.key` is one value of an argument that is a table. An argument in neither list is refused when a run gives it. */
  inputs: z.record(z.string(), fed),
  /** Argument of one number a batch entry → the input for what a UI gives where parts of the sample have numbers of their own ([batch, parts]). The argument's own input gets the largest then. */
  finer: z.record(z.string(), fed).optional(),
  /** Arguments that say nothing that an engine does not know. */
  ignored: z.array(z.string()).optional(),
  /** Value in the configuration that the UI read off a file's metadata → the input that takes it. */
  settings: z.record(z.string(), setting).optional(),
  /** Value in the call's own options → the input that takes it. */
  options: z.record(z.string(), z.string()).optional(),
  /**
   * Part of a ControlNet's answer ("input", "output") → the input that takes what is added to the picture behind each block of a kind. `blocks`: the UI's configuration has
   * the number of blocks under it. A tensor that stands for several blocks in a row goes once. `last`: the last block has an input of its own, and `input` is for those before it.
   */
  controls: z
    .partialRecord(z.enum(["input", "output"]), z.strictObject({ input: z.string(), blocks: z.string(), last: z.string().optional() }))
    .optional(),
  /** Guides of a video, whose cells stand behind it and have places of their own (ComfyUI's LTX): the inputs for these places, for the cells that the model sees, and for weights between guides and video. */
  guides: z.strictObject({ places: z.string(), kept: z.string(), weights: z.string() }).optional(),
  /** Argument → the word with which it asks for what the model does anyway: that of the UI's configuration under `setting`, or else `value`. */
  usual: z.record(z.string(), z.strictObject({ value: z.string(), setting: z.string().optional() })).optional(),
  /** Argument → the number by which the UI's class multiplies it in its own float type before it makes waves of it: 3.5 in bf16 becomes 3504 and not 3500. The engine gets what was rounded so. */
  scaled: z.record(z.string(), z.number().positive()).optional(),
  /** The model works on squares of so many cells of the sample, and the UI's class fills the last ones up from the start: an engine gets whole squares, and its answer is cut back. */
  patch: z.int().min(2).optional(),
  /** A method of the UI's model that makes a run's words, called before the steps: its arguments in order, and the inputs that they feed. */
  words: z
    .strictObject({
      method: z.string(),
      arguments: z.array(z.string()),
      inputs: z.record(z.string(), fed),
      ignored: z.array(z.string()).optional(),
      settings: z.record(z.string(), setting).optional(),
      /** What has the width of this input of a step is its words already, where an `argument` does not say otherwise. */
      unless: z.strictObject({ argument: z.string().optional(), as: z.string() }).optional(),
    })
    .optional(),
  note,
});

export const familyDescription = z.strictObject({
  family: z.string().regex(/^[a-z][a-z0-9.-]*$/),
  title: z.string(),
  /** Its place in lists, ascending, in the order in which people meet the families; one without it comes last. */
  listed: z.int().optional(),
  /** Takes every field that is not given from this family. */
  like: z.string().optional(),
  /** `unet`: names and detection are computed (sidecar/src/terms/names/unet-stems.ts), not listed. */
  layout: z.literal("unet").optional(),
  checkpoint: checkpoint.optional(),
  diffusers: diffusers.optional(),
  /** Engine hosts that serve it, when not all do: `torch` alone means that no ONNX graph is made of it. */
  hosts: z.array(z.enum(["torch"])).optional(),
  /** `hosts` holds for the structures of which this is true; for all of them without it. */
  hostsWhen: expression.optional(),
  /** Named sizes, read from shapes; each may use those before it. */
  dimensions: z.record(z.string(), expression),
  names: z.array(nameGroup).optional(),
  spellings: z.array(spelling),
  /** How adapters of the family are told; functions over module names: docs/develop/adding-a-family.md, "Adapters". */
  adapters: z.array(adapterRule).optional(),
  /** Adapter names that are neither native nor diffusers', with their rows. */
  extra: z.array(extraName).optional(),
  inputs: z.array(input).optional(),
  /** Axes of the output, where they are not the sample's. */
  output: z.array(template).max(8).optional(),
  /** `output` holds for the structures of which this is true; for all of them without it. */
  outputWhen: expression.optional(),
  calls: z.array(call).optional(),
  /** How its denoising loop is run. Families without it take no `engine.sample`. */
  sampling: z
    .strictObject({
      prediction: z.enum(["epsilon", "flow"]),
      /** The input `timestep` at a flow's beginning, or per 1,000 trained steps: 1000 or 1. */
      time: z.union([z.literal(1), z.literal(1000)]),
      /** The autoencoder of its latents, where it has a description: protocol/autoencoders. The generator looks for the file. */
      latents: z
        .custom<keyof typeof autoencoderTable>((name) => typeof name === "string", "expected the name of an autoencoder")
        .optional(),
    })
    .optional(),
  /** Words in an adapter's metadata that name the family. */
  hints: z
    .strictObject({
      architectures: z.array(z.string()).optional(),
      implementations: z.array(z.string()).optional(),
      baseVersions: z.array(z.string()).optional(),
    })
    .optional(),
  /** A named row of sidecar/hardware.json → what of this family has run there. */
  ran: z.record(z.string(), z.string()).optional(),
  defaults: z.strictObject({
    /** Best first. */
    precisions: z.array(z.enum(["bf16", "fp16", "fp32"])).min(1),
    /** `measured`: a step's time is in attention over thousands of tokens, all of one width, so the kernels are tried on the device. */
    attention: z.literal("measured").optional(),
  }),
});

/** protocol/autoencoders/<name>.json. Families whose latents are an autoencoder's name it. */
export const autoencoderDescription = z.strictObject({
  /** Red, green and blue of each channel of a latent, -1 to 1 from black to full: fits of others (least squares of decoded pictures), as ComfyUI and InvokeAI publish them for previews. */
  colours: z.array(z.tuple([z.number(), z.number(), z.number()])).min(1),
});

/** Models that are known by name and have no family here. */
export const otherModels = z.array(
  z.strictObject({ title: z.string(), checkpoint: z.array(pattern).optional(), adapters: z.array(adapterRule).optional(), note }),
);

export type AutoencoderDescription = z.infer<typeof autoencoderDescription>;
export type OtherModels = z.infer<typeof otherModels>;
export type FamilyDescription = z.infer<typeof familyDescription>;
export type NameRow = z.infer<typeof row>;
export type SpellingRow = z.infer<typeof spelling>;
export type FamilyInput = z.infer<typeof input>;
export type FamilyCall = z.infer<typeof call>;
