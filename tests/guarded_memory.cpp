#include "tests/guarded_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <mutex>

#include "tests/own_malloc.h"

namespace faq::testing {
namespace {

std::atomic<Guard> guard = Guard::none;

}  // namespace

void guard_aligned_memory(Guard wanted) { guard = wanted; }
bool can_guard_memory() { return FAQ_OWN_MALLOC; }

}  // namespace faq::testing

#if FAQ_OWN_MALLOC
namespace {

using faq::testing::Guard;

constexpr auto unwritten = std::byte{0xFF};

struct Block {
  std::byte* begin = nullptr;
  std::byte* end = nullptr;   ///< as it was asked for
  std::byte* past = nullptr;  ///< the end of memory that may be read
  void* mapping = nullptr;
  std::size_t mapped = 0;

  bool is_whole() const {
    return std::all_of(end, past, [](std::byte b) { return b == unwritten; });
  }
};

// Blocks that have a page of their own. In a fixed array, as nothing here may ask for memory.
class Blocks {
 public:
  // Returns null if there is no memory, or no place for one more.
  void* add(std::size_t alignment, std::size_t bytes, Guard guard) {
    const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t granule = alignment < 64 ? 64 : alignment;
    const std::size_t body = (bytes + granule - 1) / granule * granule + granule;  // and what may be read
    const std::size_t pages = (body + page - 1) / page * page;
    const std::lock_guard lock(mutex_);
    if (count_ == blocks_.size()) return nullptr;
    void* mapping = ::mmap(nullptr, pages + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) return nullptr;
    auto* first = static_cast<std::byte*>(mapping);
    std::byte* forbidden = guard == Guard::before ? first : first + pages;
    ::mprotect(forbidden, page, PROT_NONE);
    std::byte* usable = guard == Guard::before ? first + page : first;
    std::fill_n(usable, pages, unwritten);
    std::byte* begin = guard == Guard::before ? usable : usable + pages - body;
    blocks_[count_++] = {begin, begin + bytes, usable + pages, mapping, pages + page};
    return begin;
  }

  // Returns false if it is no block of these.
  bool remove(void* begin) {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = count_; i-- > 0;)
      if (blocks_[i].begin == begin) {
        if (!blocks_[i].is_whole()) std::abort();
        ::munmap(blocks_[i].mapping, blocks_[i].mapped);
        blocks_[i] = blocks_[--count_];
        return true;
      }
    return false;
  }

 private:
  std::mutex mutex_;
  std::array<Block, 16384> blocks_;
  std::size_t count_ = 0;
};

constinit Blocks blocks;

}  // namespace

extern "C" {
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);

void* memalign(std::size_t alignment, std::size_t bytes) {
  const Guard guard = faq::testing::guard;
  const bool guarded = guard != Guard::none && bytes > 0 && alignment <= 4096;
  return guarded ? blocks.add(alignment, bytes, guard) : __libc_memalign(alignment, bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) { return memalign(alignment, bytes); }
int posix_memalign(void** block, std::size_t alignment, std::size_t bytes) {
  *block = memalign(alignment, bytes);
  return *block ? 0 : ENOMEM;
}
void free(void* block) {
  if (faq::testing::guard != Guard::none && block && blocks.remove(block)) return;
  __libc_free(block);
}
}
#endif
