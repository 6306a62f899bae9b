// What the processor can do natively, as far as oneDNN may use it (ONEDNN_MAX_CPU_ISA).
#pragma once

namespace faq {

/// True if u8·s8 products are summed in 32 bits (AVX-512 VNNI, AVX-VNNI). Without it oneDNN sums pairs in
/// saturating 16 bits.
bool has_vnni();
/// True if AVX-512 VNNI is available.
bool has_avx512_vnni();
/// True if AVX2 is available.
bool has_avx2();
/// True if there are bf16 dot products.
bool has_native_bf16();
/// True if there are products of matrices, of bf16 and of 8-bit integers (AMX).
bool has_amx();
/// The name of the instruction set in use, e.g. "AVX512_CORE_BF16".
const char* isa_name();
/// Bytes of the widest vectors that the project's own loops may use: 64 (AVX-512), 32 (AVX2) or 16. Not
/// limited by ONEDNN_MAX_CPU_ISA.
int simd_bytes();

}  // namespace faq
