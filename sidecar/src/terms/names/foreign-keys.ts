// Keys of an adapter file that are not for the engine, and why.

const textEncoders = [
  "lora_te_",
  "lora_te1_",
  "lora_te2_",
  "lora_te3_",
  "lora_prior_te_",
  "text_encoder.",
  "text_encoder_2.",
  "text_encoder_3.",
  "text_encoders.",
  "te_",
  "te1_",
  "te2_",
  "te3_",
  "base_model.model.text_encoder.",
  "base_model.model.text_encoder_2.",
  "base_model.model.text_model.",
  "lycoris_text_model_",
  "text_model.",
];

/** Beginnings of everything below. One test spares the thousands of keys that are meant for the denoiser all the others. */
const suspicious =
  /^(lora_te|lora_prior_te_|lora_vae|text_|te[_123]|base_model\.model\.text_|lycoris_text_model_|bundle_emb\.|vae|first_stage_model|optimizer|lr_scheduler|state|ema)/;

/** How the reasons begin of keys that belong to another part of the UI. */
export const notForTheEngine = "not for the engine";

/** Reason for a key that no denoiser parameter can take; null for keys that might be meant for one. */
export function foreignKey(key: string): string | null {
  if (!suspicious.test(key)) return null;
  if (textEncoders.some((prefix) => key.startsWith(prefix))) return `${notForTheEngine}: text encoder`;
  if (key.startsWith("bundle_emb.")) return `${notForTheEngine}: embedding`;
  if (/^(vae|first_stage_model|lora_vae)[._]/.test(key)) return `${notForTheEngine}: VAE`;
  if (/^(optimizer|lr_scheduler|state|ema)[._]/.test(key)) return "not an adapter tensor: training state";
  return null;
}
