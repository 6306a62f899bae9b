#include "tests/guarded_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

#include "core/allocator.h"

namespace faq {
namespace {

std::atomic<testing::Guard> guard = testing::Guard::behind;

constexpr std::size_t alignment = 64;
constexpr std::size_t read_beyond = 64;
constexpr auto unwritten = std::byte{0xFF};

std::size_t rounded_up(std::size_t bytes, std::size_t granule) {
  return (bytes + granule - 1) / granule * granule;
}

}  // namespace

void testing::set_guard(Guard wanted) { guard = wanted; }

std::shared_ptr<std::byte> allocate(std::size_t bytes) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t size = rounded_up(std::max<std::size_t>(bytes, 1), alignment) + read_beyond;
  const std::size_t usable = rounded_up(size, page), mapped = usable + page;
  void* mapping = ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) throw std::bad_alloc();
  const bool is_before = guard == testing::Guard::before;
  auto* first = static_cast<std::byte*>(mapping);
  if (is_before) first += page;
  std::fill_n(first, usable, unwritten);
  ::mprotect(is_before ? mapping : first + usable, page, PROT_NONE);
  std::byte* begin = is_before ? first : first + usable - size;
  return {begin, [=](std::byte*) {
            if (!std::all_of(begin + bytes, first + usable, [](std::byte b) { return b == unwritten; }))
              std::abort();
            ::munmap(mapping, mapped);
          }};
}

MemoryStats memory_stats() { return {}; }
void reset_peak_memory() {}
void release_cached_memory() {}

}  // namespace faq
