// Bugs planted in a copy of the tensorrt adapter. Each must make the conformance suite fail.

export interface Mutant {
  readonly name: string;
  /** File below sidecar/hosts/python. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  /** Options of the host that this one needs to be reached. */
  readonly args?: readonly string[];
}

const sink = "refit_tensorrt/sink.py";
const weights = "refit_tensorrt/weights.py";

export const mutants: readonly Mutant[] = [
  {
    name: "the last weight of a refit is skipped",
    file: sink,
    find: "            for slot in slots:\n                names += self._set(slot, memory, location.DEVICE",
    replace: "            for slot in slots[:-1]:\n                names += self._set(slot, memory, location.DEVICE",
  },
  {
    name: "weights are handed over in another dtype",
    file: sink,
    find: "weights = trt.Weights(self._binding.dtype(slot.dtype), address",
    replace: "weights = trt.Weights(self._binding.dtype(torch.float16), address",
  },
  {
    name: "every slice of a fused parameter starts at its first row",
    file: sink,
    find: "slot.offset + start * slot.cols * slot.dtype.itemsize",
    replace: "slot.offset",
  },
  {
    name: "halves that the graph exchanges are not exchanged",
    file: "refit_tensorrt/making.py",
    find: "swapped=frozenset(row.parameter for row in bundle.rows if row.swap_halves)",
    replace: "swapped=frozenset()",
  },
  {
    name: "matrices are handed over transposed",
    file: weights,
    find: "            run_step(step, scratch, scratch)\n",
    replace:
      "            run_step(step, scratch, scratch)\n            for s in group:\n                here = self.placed.slots[s.index].physical(scratch)\n                here.copy_(here.clone().view(-1, here.shape[0]).T.reshape(here.shape)) if here.dim() == 2 else None\n",
  },
  {
    name: "memory of the host is handed over as the device's",
    file: weights,
    find: "        memory = torch.empty(offset, dtype=torch.uint8, device=self.device)",
    replace: "        memory = torch.empty(offset, dtype=torch.uint8)",
  },
  {
    name: "a base in host memory is handed over as if on the device",
    file: sink,
    find: "location.DEVICE if on_device else location.HOST",
    replace: "location.DEVICE",
    args: ["--base", "pinned"],
  },
  {
    name: "parameters that only the old stack touched stay as they are",
    file: weights,
    find: "            changing = [self.placed.slots[slot.index] for slot in group if slot.name not in self.sink.fixed]",
    replace:
      "            new = {index for image, _ in self._stack for index in image.every}\n            changing = [self.placed.slots[slot.index] for slot in group if slot.index in new]",
  },
  {
    name: "a refit adds to what the engine holds instead of starting from the base",
    file: weights,
    find: "        self._stack = prepared.stack\n        for group",
    replace: "        self._stack = (*self._stack, *prepared.stack)\n        for group",
  },
  {
    name: "what the engine stores combined is not written with it",
    file: sink,
    find: "while missing := self._refitter.get_missing_weights():",
    replace: "while missing := []:",
  },
  {
    name: "weights stay set after their memory is gone",
    file: sink,
    find: "                self._refitter.unset_named_weights(name)",
    replace: "                pass",
  },
  {
    name: "a stack given at load is not applied",
    file: weights,
    find: "            if touched:\n                slots, values",
    replace: "            if False:\n                slots, values",
  },
  {
    name: "engines are built for another compute capability",
    file: "refit_tensorrt/binding.py",
    find: 'f"SM{capability[0]}{capability[1]}"',
    replace: '"SM75"',
  },
  {
    name: "a second step of the same size keeps the inputs of the first",
    file: "refit_tensorrt/runtime.py",
    find: "            if shapes != self._shapes:\n                self._arrange(shapes)\n            for name, value in inputs.items():",
    replace:
      "            again = shapes == self._shapes\n            if not again:\n                self._arrange(shapes)\n            for name, value in () if again else inputs.items():",
  },
  {
    name: "scratch memory is that of the first size",
    file: "refit_tensorrt/runtime.py",
    find: "        if have < nbytes or have > nbytes * KEEP_FACTOR:",
    replace: "        if have == 0:",
  },
  {
    name: "numbers that are not finite are let through",
    file: "refit_host/weights/refit.py",
    find: "if not torch.isfinite(peak(here.physical(scratch))):",
    replace: "if False:",
  },
];
