// Slices and groups of a batch: core/kernels/unit.h.
#include <algorithm>
#include <mutex>
#include <vector>

#include "core/kernels/unit.h"
#include "core/parallel.h"
#include "tests/catch.h"

using namespace faq;
using kernels::Slice;

TEST_CASE("slices have each image once, and a multiple of so many", "[kernels]") {
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    for (const std::int64_t images : {1, 2, 3, 5, 7, 16, 33}) {
      for (const std::int64_t bytes : {0, 1 << 10, 200 << 10, 4 << 20}) {
        for (const std::int64_t together : {1, 2, 4}) {
          INFO(threads << " threads, " << images << " images of " << bytes << " bytes, " << together);
          std::mutex mutex;
          std::vector<Slice> slices;
          kernels::for_each_slice(
              images, bytes, 0,
              [&](const Slice& slice) {
                const std::lock_guard lock(mutex);
                slices.push_back(slice);
              },
              together);
          std::ranges::sort(slices, {}, &Slice::first);
          std::int64_t next = 0;
          for (std::size_t i = 0; i < slices.size(); ++i) {
            CHECK(slices[i].first == next);
            CHECK(slices[i].last > next);
            const bool is_last = i + 1 == slices.size() || slices[i + 1].share != slices[i].share;
            if (!is_last) CHECK((slices[i].last - next) % together == 0);
            next = slices[i].last;
          }
          CHECK(next == images);
          // Images that fill the cache alone are alone, unless they go together.
          if (threads == 1 && bytes == 4 << 20)
            CHECK(slices.size() == static_cast<std::size_t>((images + together - 1) / together));
        }
      }
    }
  }
  set_num_threads(0);
}
