// A deterministic mutator of headers for the differential runs: bytes flipped, cut, repeated and spliced, and words of the grammar put in.

const words = [
  '"',
  "{",
  "}",
  "[",
  "]",
  ",",
  ":",
  "\\",
  "\\u",
  "\\ud800",
  "\\udc00",
  "-",
  "0",
  "00",
  "1e3",
  "1.5",
  "null",
  "true",
  "F16",
  "F8_E5M2",
  "dtype",
  '"shape":[1],',
  '"data_offsets":[0,4]',
  "__metadata__",
  "9007199254740992",
  "18446744073709551615",
  " ",
  "\n",
  "\0",
  "\x7f",
  "é",
  "\xff",
].map((word) => Buffer.from(word, word === "\xff" ? "latin1" : "utf8"));

/** mulberry32, as integers below `limit`. @param {number} seed */
export function randomIntegers(seed) {
  let state = seed >>> 0;
  return (/** @type {number} */ limit) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % limit;
  };
}

/** One to four changes. @param {Buffer} header @param {(limit: number) => number} random @param {Buffer} other */
export function mutate(header, random, other) {
  let bytes = Buffer.from(header);
  for (let change = random(4); change >= 0; change--) {
    const at = random(bytes.length + 1);
    const length = random(12);
    switch (random(7)) {
      case 0:
        if (at < bytes.length) bytes[at] ^= 1 << random(8);
        break;
      case 1:
        if (at < bytes.length) bytes[at] = random(256);
        break;
      case 2:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
        break;
      case 3:
        bytes = Buffer.concat([
          bytes.subarray(0, at),
          bytes.subarray(random(bytes.length + 1)).subarray(0, length * 4),
          bytes.subarray(at),
        ]);
        break;
      case 4:
        bytes = Buffer.concat([bytes.subarray(0, at), other.subarray(random(other.length + 1))]);
        break;
      case 5:
        bytes = bytes.subarray(0, at);
        break;
      default: {
        const word = words[random(words.length)] ?? Buffer.alloc(0);
        bytes = Buffer.concat([bytes.subarray(0, at), word, bytes.subarray(random(2) === 0 ? at : at + word.length)]);
      }
    }
  }
  return bytes;
}
