#include "train/checkpoint.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>

#include "core/atomic_file.h"
#include "core/json.h"
#include "train/epoch_record.h"

namespace faq {
namespace {

constexpr const char* prefix = "checkpoint-";
constexpr const char* suffix = ".safetensors";
constexpr const char* last_file = "last.safetensors";
constexpr const char* best_file = "best.safetensors";

// Returns the step of "checkpoint-N.safetensors"; nothing for any other name.
std::optional<std::int64_t> step_of(const std::filesystem::path& file) {
  const std::string name = file.filename().string();
  if (!name.starts_with(prefix) || !name.ends_with(suffix)) return {};
  const char* begin = name.data() + std::strlen(prefix);
  const char* end = name.data() + name.size() - std::strlen(suffix);
  std::int64_t step = 0;
  const auto [stop, error] = std::from_chars(begin, end, step);
  if (error != std::errc() || stop != end) return {};
  return step;
}

// Newest first.
std::vector<std::pair<std::int64_t, std::filesystem::path>> step_checkpoints(
    const std::filesystem::path& folder) {
  std::vector<std::pair<std::int64_t, std::filesystem::path>> found;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error);
       !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    if (const auto step = step_of(entry->path())) found.emplace_back(*step, entry->path());
  }
  check(!error, ErrorKind::io, "output folder ", folder.string(), ": cannot be listed: ", error.message());
  std::ranges::sort(found, std::greater{});
  return found;
}

// A file that cannot be examined is there, too.
bool may_exist(const std::filesystem::path& file) {
  std::error_code error;
  return std::filesystem::exists(file, error) || error;
}

std::vector<std::filesystem::path> checkpoint_files(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  std::error_code error;
  const bool is_folder = std::filesystem::is_directory(folder, error);
  const bool missing = error == std::errc::no_such_file_or_directory || error == std::errc::not_a_directory;
  check(!error || missing, ErrorKind::io, "output folder ", folder.string(),
        ": cannot be examined: ", error.message());
  if (!is_folder) return files;
  for (const auto& [step, file] : step_checkpoints(folder)) files.push_back(file);
  if (may_exist(folder / last_file)) files.push_back(folder / last_file);
  return files;
}

// Throws if there are checkpoints (none of which could be read): a run never starts over unasked. When the
// disk does not give them, they may be whole.
void check_none(const std::filesystem::path& folder) {
  const auto unreadable = checkpoint_files(folder);
  ErrorKind kind = ErrorKind::bad_data;
  for (const auto& file : unreadable) {
    try {
      read_safetensors_metadata(file);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::bad_data) kind = ErrorKind::io;
    }
  }
  check(unreadable.empty(), kind, "resuming from ", folder, ": none of ", unreadable.size(),
        " checkpoints can be read");
}

// True if the tensor of that name is a quantizer's settings.
bool is_quantizer(const std::string& name) { return name.ends_with(".quantizer"); }

// True if a quantizer has learned the tensor of that name.
bool is_learned_scale(const std::string& name) {
  return name.ends_with(".weight_scale") || name.ends_with(".activation_scale");
}

void pass_over(const Warn& warn, const Error& error) {
  warn(concat("ignoring an unreadable checkpoint: ", error.what()));
}

}  // namespace

nlohmann::json to_json(const Progress& p) {
  return {{"epoch", p.epoch},         {"step_in_epoch", p.step_in_epoch},
          {"step", p.step},           {"phase", p.phase},
          {"best_top1", p.best_top1}, {"best_epoch", p.best_epoch},
          {"loss_sum", p.loss_sum},   {"divergence_sum", p.divergence_sum},
          {"correct", p.correct},     {"images", p.images},
          {"history", p.history}};
}

Progress progress_from_json(const nlohmann::json& json, const std::string& source) {
  try {
    Progress p;
    constexpr std::int64_t most = std::int64_t{1} << 53;
    const auto count = [&](const char* key, std::int64_t least = 0) {
      return parse_integer(json.at(key), concat("checkpoint ", source, ": progress record: ", key), least,
                           most);
    };
    p.epoch = count("epoch");
    p.step_in_epoch = count("step_in_epoch");
    p.step = count("step");
    // Runs of earlier versions had one phase and no such entry.
    p.phase =
        json.contains("phase") ? static_cast<int>(std::min<std::int64_t>(count("phase", -1), INT32_MAX)) : 0;
    json.at("best_top1").get_to(p.best_top1);
    p.best_epoch = count("best_epoch", -1);
    json.at("loss_sum").get_to(p.loss_sum);
    p.divergence_sum = json.value("divergence_sum", 0.0);  // earlier versions had no such entry
    p.correct = count("correct");
    p.images = count("images");
    json.at("history").get_to(p.history);
    check_history(p.history, concat("checkpoint ", source, ": history"));
    check(p.correct <= p.images && std::isfinite(p.loss_sum) && std::isfinite(p.divergence_sum) &&
              p.best_top1 >= -1 && p.best_top1 <= 100,
          ErrorKind::bad_data, "checkpoint ", source, ": progress record: ", p.correct, " of ", p.images,
          " images correct, loss ", p.loss_sum, ", best top-1 ", p.best_top1, " in epoch ", p.best_epoch,
          " make no sense");
    return p;
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorKind::bad_data, "checkpoint ", source, ": progress record: ", cause_of(error));
  }
}

Progress progress_in(const std::map<std::string, std::string>& metadata, const std::string& source) {
  const auto found = metadata.find("progress");
  check(found != metadata.end(), ErrorKind::bad_data, "checkpoint ", source, ": no progress record");
  return progress_from_json(parse_json(found->second, "checkpoint " + source + ": progress record"), source);
}

NamedTensors network_in(const NamedTensors& checkpoint) {
  NamedTensors network;
  network.metadata = checkpoint.metadata;
  network.unusable = checkpoint.unusable;
  for (const auto& entry : checkpoint.tensors) {
    const auto begins_with = [&](const char* state) { return entry.first.starts_with(state); };
    if (std::ranges::none_of(state_prefix::all, begins_with)) network.tensors.push_back(entry);
  }
  return network;
}

NamedTensors average_in(const NamedTensors& checkpoint, const std::string& source) {
  NamedTensors network = network_in(checkpoint);
  const auto is_average = [](const auto& entry) { return entry.first.starts_with(state_prefix::average); };
  check(std::ranges::any_of(checkpoint.tensors, is_average), ErrorKind::usage, "checkpoint ", source,
        ": no moving average; runs with `model_ema` keep one in last.safetensors and checkpoint-N.safetensors"
        " (their best.safetensors is one)");
  for (auto& [name, tensor] : network.tensors) {
    if (is_quantizer(name)) continue;
    const Tensor* average = checkpoint.find(state_prefix::average + name);
    check(average != nullptr, ErrorKind::bad_data, "checkpoint ", source, ": missing ", state_prefix::average,
          name);
    tensor = *average;
  }
  return network;
}

void copy_state(const NamedTensors& checkpoint, const std::string& source, const std::string& name,
                Tensor& to) {
  const Tensor* saved = checkpoint.find(name);
  check(saved != nullptr, ErrorKind::bad_data, "checkpoint ", source, ": missing ", name);
  check(saved->shape() == to.shape() && saved->dtype() == DType::f32, ErrorKind::bad_data, "checkpoint ",
        source, ": ", name, " expected f32 ", to.shape(), ", found ", saved->dtype(), " ", saved->shape());
  const auto values = saved->span<float>();
  const bool is_variance = name.ends_with("running_var");
  const auto bad = std::ranges::find_if(
      values, [is_variance](float x) { return !std::isfinite(x) || (is_variance && x < 0); });
  check(bad == values.end(), ErrorKind::bad_data, "checkpoint ", source, ": ", name, ": element ",
        bad - values.begin(), " is ", bad == values.end() ? 0 : *bad,
        is_variance ? ", expected a variance" : "");
  std::ranges::copy(values, to.mutable_data<float>());
}

NamedTensors weights_in(const NamedTensors& checkpoint) {
  NamedTensors weights = network_in(checkpoint);
  std::erase_if(weights.tensors,
                [](const auto& entry) { return is_quantizer(entry.first) || is_learned_scale(entry.first); });
  return weights;
}

CheckpointFolder::CheckpointFolder(std::filesystem::path folder, int keep)
    : folder_(std::move(folder)), keep_(keep) {
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  check(!error, ErrorKind::io, "creating the output folder ", folder_, ": ", error.message());
  const auto file = folder_ / ".lock";
  lock_ = ::open(file.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644);
  check(lock_ >= 0, ErrorKind::io, "opening ", file, ": ", std::strerror(errno));
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    const int cause = errno;
    ::close(lock_);
    check(cause != EWOULDBLOCK, ErrorKind::usage, "output folder ", folder_,
          ": another run is writing to it");
    fail(ErrorKind::io, "locking ", file, ": ", std::strerror(cause));
  }
  remove_temporary_files(folder_);
}

CheckpointFolder::~CheckpointFolder() { ::close(lock_); }

std::filesystem::path CheckpointFolder::save_last(const NamedTensors& contents) const {
  const auto file = folder_ / last_file;
  write_safetensors(file, contents);
  return file;
}

std::filesystem::path CheckpointFolder::save_best(const NamedTensors& contents) const {
  const auto file = folder_ / best_file;
  write_safetensors(file, contents);
  return file;
}

std::filesystem::path CheckpointFolder::save_step(const NamedTensors& contents, std::int64_t step) const {
  if (keep_ == 0) return save_last(contents);
  const auto file = folder_ / (prefix + std::to_string(step) + suffix);
  write_safetensors(file, contents);
  auto found = step_checkpoints(folder_);
  // Later checkpoints come from before this run fell back, or cannot be read. They do not count as the
  // newest.
  std::erase_if(found, [step](const auto& entry) { return entry.first > step; });
  for (std::size_t i = static_cast<std::size_t>(keep_); i < found.size(); ++i) {
    std::error_code ignored;  // a file that cannot be removed costs space, not results
    std::filesystem::remove(found[i].second, ignored);
  }
  return file;
}

std::vector<CheckpointHeader> checkpoints_in(const std::filesystem::path& folder, const Warn& warn) {
  std::vector<CheckpointHeader> found;
  for (const auto& file : checkpoint_files(folder)) {
    try {
      auto metadata = read_safetensors_metadata(file);
      const std::int64_t step = progress_in(metadata, file.string()).step;
      found.push_back({file, std::move(metadata), step});
    } catch (const Error& error) {
      pass_over(warn, error);
    }
  }
  std::ranges::stable_sort(found, std::greater{}, &CheckpointHeader::step);
  return found;
}

std::optional<CheckpointHeader> furthest_checkpoint(const std::filesystem::path& folder) {
  const auto found = checkpoints_in(folder, [](const std::string&) {});
  if (!found.empty()) return found.front();
  check_none(folder);
  return {};
}

bool CheckpointFolder::holds_run() const {
  return !checkpoint_files(folder_).empty() || may_exist(folder_ / best_file) ||
         may_exist(folder_ / integer_network_file);
}

std::optional<CheckpointHeader> CheckpointFolder::check_begins_anew(const Warn& warn) const {
  const auto best = folder_ / best_file;
  if (!may_exist(best)) {
    check(!may_exist(folder_ / integer_network_file), ErrorKind::bad_data, "resuming from ", folder_,
          ": it has the ", integer_network_file, " of a run, and no checkpoint: begin in another folder");
    return {};
  }
  // The best of the first epoch is saved before the first checkpoint is.
  CheckpointHeader header{best, {}, 0};
  std::int64_t epoch = -1;
  try {
    header.metadata = read_safetensors_metadata(best);
    epoch = progress_in(header.metadata, best.string()).epoch;
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::missing_input) fail(ErrorKind::io, error.what());
    if (error.kind() != ErrorKind::bad_data) throw;
  }
  check(epoch == 0 || epoch == 1, ErrorKind::bad_data, "resuming from ", folder_, ": ", best_file,
        " is of a run that went on, and there is no ", last_file,
        ": begin in another folder, with `weights` ", best.string());
  warn(
      concat(folder_.string(), " has the network of the first epoch and no checkpoint: the run begins anew"));
  return header;
}

std::optional<CheckpointFolder::Found> CheckpointFolder::newest(const Warn& warn) const {
  for (const CheckpointHeader& checkpoint : checkpoints_in(folder_, warn)) {
    try {
      Found found{checkpoint.file, read_safetensors(checkpoint.file)};
      check_has_checksums(found.contents, "checkpoint " + found.file.string());
      return found;
    } catch (const Error& error) {
      pass_over(warn, error);
    }
  }
  check_none(folder_);
  return {};
}

}  // namespace faq
