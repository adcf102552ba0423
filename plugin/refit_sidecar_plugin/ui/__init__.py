"""One folder per user interface, where alone its own modules may be imported; `denoising` is what they share. A host never imports another."""
