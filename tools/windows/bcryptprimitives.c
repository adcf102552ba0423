// Wine 8 lacks this library of Windows; programs built with newer Rust (vitest's bundler) load it for one function. Test tool only: nothing of the product uses it.
typedef int BOOL;
typedef unsigned char BYTE;
typedef unsigned long long SIZE;
__declspec(dllimport) BYTE __stdcall SystemFunction036(void* data, unsigned long size);

__declspec(dllexport) BOOL __stdcall ProcessPrng(BYTE* data, SIZE size) {
  while (size > 0) {
    unsigned long part = size > 0x10000000ULL ? 0x10000000UL : (unsigned long)size;
    if (!SystemFunction036(data, part)) return 0;
    data += part;
    size -= part;
  }
  return 1;
}
