// Times what ranks tell each other, under mpirun or srun:  mpirun -n 2 --bind-to none
// build/faq-exchange-bench [MB] Medians, on rank 0: an agreement of all ranks, and sums of gradients of that
// size (default 33.6 MB).
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <vector>

#include "tools/cli.h"

namespace {

using namespace faq;

template <class Work>
double median_seconds(int repeats, Communicator& ranks, const Work& work) {
  std::vector<double> seconds;
  for (int i = 0; i < repeats; ++i) {
    ranks.barrier();
    const auto begin = std::chrono::steady_clock::now();
    work();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  std::ranges::sort(seconds);
  return seconds[seconds.size() / 2];
}

double sum_seconds(std::int64_t elements, Allreduce how, Communicator& ranks) {
  const Tensor gradient = Tensor::full({elements}, 1e-3f * static_cast<float>(ranks.rank() + 1));
  return median_seconds(15, ranks, [&] {
    ranks
        .start_sum({.shards = ranks.size(),
                    .present = ranks.size(),
                    .parts = {gradient},
                    .result = gradient,
                    .ends = {}},
                   how)
        .get();
  });
}

int body(int argc, char** argv, Communicator& ranks) {
  const double megabytes = argc > 1 ? std::atof(argv[1]) : 33.6;
  check(megabytes > 0 && megabytes <= 2000, ErrorKind::usage, "expected 0 to 2000 MB");
  const auto elements = std::max<std::int64_t>(static_cast<std::int64_t>(megabytes * 1e6 / 4), 1);
  const double agreement = median_seconds(300, ranks, [&] { ranks.any(false); });
  std::string text =
      fmt::format("{} ranks, agreement {:.0f} us; {} MB by", ranks.size(), 1e6 * agreement, megabytes);
  for (const auto& [name, how] : {std::pair("tree", Allreduce::tree), std::pair("mpi", Allreduce::mpi),
                                  std::pair("s16", Allreduce::s16)})
    text += fmt::format(" {} {:.1f} ms", name, 1e3 * sum_seconds(elements, how, ranks));
  cli::print_result(text + "\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return faq::cli::run_on_ranks("faq-exchange-bench",
                                [&](faq::Communicator& ranks) { return body(argc, argv, ranks); });
}
