// The registers of AMX: eight of 16 rows of 64 bytes. Included by core/kernels/*_amx.cpp only.
#pragma once

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

#define FAQ_AMX __attribute__((target("amx-tile,amx-int8,amx-bf16,avx512f")))

namespace faq::kernels::amx {

inline constexpr std::int64_t rows = 16;       ///< of a register
inline constexpr std::int64_t row_bytes = 64;  ///< of each

/// True if the CPU has them (and AVX-512, with which FAQ_AMX is compiled) and the system lets this process
/// use them. Linux gives a process the registers when it asks for them (and from then on wants larger stacks
/// for signals).
inline bool may_use_registers() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  constexpr unsigned needed = 1u << 22 | 1u << 24 | 1u << 25;  // bf16, tiles, int8
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  if ((edx & needed) != needed || __builtin_cpu_supports("avx512f") == 0) return false;
  constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

/// What LDTILECFG reads.
struct alignas(64) Config {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t bytes_of_row[16] = {};
  std::uint8_t rows_of[16] = {};
};

/// All eight registers are whole.
inline constexpr Config whole = [] {
  Config config;
  for (int i = 0; i < 8; ++i) config.bytes_of_row[i] = row_bytes, config.rows_of[i] = rows;
  return config;
}();

/// A thread calls them before and after it uses the registers.
FAQ_AMX inline void enter() { _tile_loadconfig(&whole); }
FAQ_AMX inline void leave() { _tile_release(); }

// By hand, as GCC's intrinsics take no constants of templates. (Compilers use none of these registers.)
template <int number>
FAQ_AMX inline void load(const void* from, std::int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(number) : "memory");
}
template <int number>
FAQ_AMX inline void store(void* to, std::int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(number) : "memory");
}
/// The registers 0 to count − 1.
template <int count>
FAQ_AMX inline void clear_first() {
  if constexpr (count > 0) {
    clear_first<count - 1>();
    asm volatile("tilezero %%tmm%c0" : : "i"(count - 1));
  }
}

}  // namespace faq::kernels::amx
