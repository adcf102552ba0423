// The rotation of convrot: every row, in groups of g columns, times a symmetric orthogonal matrix that is its own inverse.

/**
 * Rotates `rows` rows of `columns` values in place; doing it twice gives the values back. The matrix is the Kronecker power of
 * [[1,1,1,-1],[1,1,-1,1],[1,-1,1,1],[-1,1,1,1]] / 2 with g rows, so a group takes log4(g) passes of 4-point sums. Sums in f64, one rounding.
 */
export function rotateRows(values: Float32Array, rows: number, columns: number, group: number): void {
  const work = new Float64Array(group);
  const factor = 1 / Math.sqrt(group);
  for (let start = 0; start < rows * columns; start += group) {
    for (let i = 0; i < group; i += 1) work[i] = values[start + i] as number;
    for (let stride = 1; stride < group; stride *= 4) {
      for (let block = 0; block < group; block += stride * 4) {
        for (let i = block; i < block + stride; i += 1) {
          const a = work[i] as number;
          const b = work[i + stride] as number;
          const c = work[i + 2 * stride] as number;
          const d = work[i + 3 * stride] as number;
          work[i] = a + b + c - d;
          work[i + stride] = a + b - c + d;
          work[i + 2 * stride] = a - b + c + d;
          work[i + 3 * stride] = b + c + d - a;
        }
      }
    }
    for (let i = 0; i < group; i += 1) values[start + i] = (work[i] as number) * factor;
  }
}
