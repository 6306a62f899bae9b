#include "train/lost_results.h"

#include <map>

#include "core/safetensors.h"
#include "core/text.h"
#include "train/checkpoint.h"
#include "train/epoch_record.h"
#include "train/run_record.h"

namespace faq {
namespace {

namespace fs = std::filesystem;
using Metadata = std::map<std::string, std::string>;

// `what_is_wrong` with the metadata of a file that can be read.
template <class WhatIsWrong>
std::string lost(const fs::path& file, std::int64_t epoch, const WhatIsWrong& what_is_wrong) {
  std::string what;
  try {
    what = what_is_wrong(read_safetensors(file).metadata);
  } catch (const Error& error) {
    what = concat("cannot be read any more: ", error.what());
  }
  return what.empty() ? ""
                      : concat("the best network of this run, of epoch ", epoch, ", was saved as ",
                               file.string(), ", which ", what);
}

}  // namespace

std::string lost_results(const fs::path& folder, const Progress& progress, bool has_integer) {
  const fs::path best = folder / "best.safetensors", integer = folder / integer_network_file;
  std::string id;
  std::string text = lost(best, progress.best_epoch, [&](const Metadata& metadata) -> std::string {
    const Progress then = progress_in(metadata, best.string());
    if (then.epoch != progress.best_epoch) return "is of another epoch";
    // No other run has the same losses.
    if (!may_be_of_one_run(then.history, progress.history)) return "is of another run";
    id = checkpoint_id(metadata);
    return "";
  });
  if (!text.empty()) return text + "; last.safetensors has the network of the last epoch";
  if (!has_integer) return "";
  text = lost(integer, progress.best_epoch, [&](const Metadata& metadata) -> std::string {
    const auto entry = [&](const char* key, const std::string& otherwise) {
      const auto found = metadata.find(key);
      return found == metadata.end() ? otherwise : found->second;
    };
    if (entry("epoch", "none") != std::to_string(progress.best_epoch)) return "is of another epoch";
    return entry("checkpoint", id) == id ? "" : "is of another run";  // earlier versions wrote no id
  });
  if (text.empty()) return "";
  return text + "; it can be exported again from best.safetensors";
}

}  // namespace faq
