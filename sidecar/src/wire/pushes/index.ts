// pushes: adapters that arrive as tensors instead of files. In: checked tensors from a control session. Out: safetensors files, named by content, for the backend.
// It must never keep tensors in memory between calls, nor merge or judge them.

export { createPushStore, type PushCall, type PushLimits, type PushOwner, type PushReply, type PushStore } from "./store.ts";
export { encodeHeader } from "./safetensors.ts";
