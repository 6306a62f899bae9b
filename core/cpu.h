// What the processor (as far as oneDNN is allowed to use it: ONEDNN_MAX_CPU_ISA) can do natively.
#pragma once

namespace faq {

/// u8·s8 products are summed in 32 bits (AVX-512 VNNI, AVX-VNNI). Without it oneDNN sums pairs in saturating
/// 16 bits.
bool has_vnni();
/// The same in AVX-512.
bool has_avx512_vnni();
/// bf16 dot products.
bool has_native_bf16();
/// Products of bf16 matrices (AMX).
bool has_bf16_matrices();
/// The name of the instruction set in use, e.g. "AVX512_CORE_BF16".
const char* isa_name();
/// Bytes of the widest vectors the project's own loops may use here, 64 (AVX-512), 32 (AVX2) or 16; not
/// limited by ONEDNN_MAX_CPU_ISA.
int simd_bytes();

}  // namespace faq
