// Tokens: 128 random bits each, one for reading and one for control, made anew at every start. Compared in constant time, never printed.

import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import type { Role } from "@refit-sidecar/protocol";

export interface Tokens {
  readonly control: string;
  readonly read: string;
}

/** 128 bits, 22 characters of base64url. */
export function randomSecret(): string {
  return randomBytes(16).toString("base64url");
}

export function createTokens(): Tokens {
  return { control: randomSecret(), read: randomSecret() };
}

/** Equal-length digests are compared, so that neither content nor length of the secret shows in the time it takes. */
export function sameSecret(given: string, secret: string): boolean {
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(given), digest(secret));
}

/** The role of a token; both secrets are always compared. */
export function roleOfToken(given: string, tokens: Tokens): Role | null {
  const control = sameSecret(given, tokens.control);
  const read = sameSecret(given, tokens.read);
  return control ? "control" : read ? "read" : null;
}

/** The token of an `Authorization: Bearer` header. */
export function bearerToken(header: string | undefined): string | null {
  return /^Bearer ([A-Za-z0-9._~+/=-]{1,256})$/i.exec(header ?? "")?.[1] ?? null;
}
