#include "train/same_on_ranks.h"

#include "core/cpu.h"
#include "core/json.h"
#include "core/parallel.h"
#include "core/version.h"
#include "train/option_table.h"
#include "train/run_record.h"

namespace faq {
void check_same_on_ranks(Communicator& ranks, const nlohmann::json& facts) {
  if (ranks.size() == 1) return;
  const std::vector<std::string> texts = ranks.gather(json_text(facts));
  const nlohmann::json first = parse_json(texts.front(), ranks.name_of(0));
  for (std::size_t rank = 1; rank < texts.size(); ++rank) {
    if (texts[rank] == texts.front()) continue;
    const std::string name = ranks.name_of(static_cast<int>(rank));
    const nlohmann::json other = parse_json(texts[rank], name);
    for (const auto& [kind, values] : first.items())
      for (const auto& [key, value] : values.items()) {
        const nlohmann::json its = other.value(kind, nlohmann::json::object()).value(key, nlohmann::json());
        check_agreed(its == value, ErrorKind::usage, "the ranks differ: ", kind, " ", key, " is ",
                     value.dump(), " on ", ranks.name_of(0), ", ", its.dump(), " on ", name);
      }
    check_agreed(false, ErrorKind::usage, "the ranks differ: ", name, " has other facts than ",
                 ranks.name_of(0));
  }
}

nlohmann::json facts_before_run(const TrainOptions& options) {
  nlohmann::json changing = nlohmann::json::object();
  const nlohmann::json all = to_json(options);
  for (const auto& [name, value] : all.items())
    // A rank with a short timeout would not wait for the rare heartbeats of one with a long timeout.
    if (!may_change(name) || name == "rank-timeout") changing[name] = value;
  return {{"option", changing},
          {"the",
           {{"version", concat(version(), ", revision ", revision())},
            {"instruction set", isa_name()},
            {"number of threads", num_threads()}}}};
}

void check_same_weights(Communicator& ranks, Learner& learner, std::int64_t step) {
  if (ranks.size() == 1) return;
  Communicator::Integers sums(static_cast<std::size_t>(ranks.size()), 0);
  sums[static_cast<std::size_t>(ranks.rank())] = learner.checksum();
  sums = ranks.start_sum(std::move(sums)).get();
  for (std::size_t rank = 1; rank < sums.size(); ++rank)
    check_agreed(sums[rank] == sums[0], ErrorKind::internal, ranks.name_of(static_cast<int>(rank)),
                 " has other weights than ", ranks.name_of(0), " at step ", step,
                 ": do they have the same CPUs and libraries?");
}

}  // namespace faq
