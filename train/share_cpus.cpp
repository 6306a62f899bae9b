#include "train/share_cpus.h"

#include <utility>

#include "core/parallel.h"
#include "train/ranks/local_ranks.h"
#include "train/run_listener.h"
#include "train/threads_text.h"

namespace faq {

CpuShare share_cpus(Communicator& ranks, int asked) {
  CpuShare share;
  if (ranks.size() == 1) {
    check(asked <= most_threads, ErrorKind::usage, "`threads` ", asked, ": expected at most ", most_threads);
    set_num_threads(asked);
    share.lines = threads_text(asked, num_threads());
  } else {
    std::vector<RankPlace> places;
    for (const std::string& text : ranks.gather(to_text(place_of_process(asked))))
      places.push_back(rank_place(text));
    share.lines.push_back(describe(places));
    for (const std::string& text : warnings_of_ranks(places)) share.lines.push_back(warning_prefix + text);
    const int threads = threads_of_ranks(places)[static_cast<std::size_t>(ranks.rank())];
    set_num_threads(threads);
    if (std::string fewer = fewer_threads_text(threads, num_threads()); !fewer.empty())
      share.lines.push_back(std::move(fewer));
  }
  return share;
}

}  // namespace faq
