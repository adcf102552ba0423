"""How a kernel of this folder writes a row: as values, or as the codes of the next product."""

from __future__ import annotations

import triton
import triton.language as tl

from ..quant import fp8, int8
from ..quant.product_triton import nearest

# What `put` writes.
KINDS = {None: 0, fp8.CODE: 1, int8.CODE: 2}


@triton.jit
def put(value, out, scales, row, at, inside, cols, CODES: tl.constexpr):
    """A row of `out`: fp8 (1) or int8 (2) codes with their scale, or values (0). Lanes outside the row hold zeros."""
    if CODES == 1:
        # 448: the largest code; the smallest scale is the smallest normal f32.
        peak = tl.maximum(tl.max(tl.abs(value), axis=0), 5.2665e-36)
        code = tl.minimum(tl.maximum(value * (448.0 / peak), -448.0), 448.0)
        tl.store(out + row * cols + at, code.to(tl.float8e4nv), mask=inside)
        tl.store(scales + row, peak / 448.0)
    elif CODES == 2:
        peak = tl.maximum(tl.max(tl.abs(value), axis=0), 1.493e-36)
        code = tl.minimum(tl.maximum(value * (127.0 / peak), -127.0), 127.0)
        tl.store(out + row * cols + at, nearest(code).to(tl.int8), mask=inside)
        tl.store(scales + row, peak / 127.0)
    else:
        tl.store(out + row * cols + at, value.to(out.dtype.element_ty), mask=inside)
