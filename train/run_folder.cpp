#include "train/run_folder.h"

#include <fstream>

#include "core/atomic_file.h"
#include "core/json.h"
#include "core/version.h"

namespace faq {
namespace {

bool is_in_output_folder(const TrainOptions& options) {
  if (options.resume == "auto") return true;
  std::error_code ignored;
  return !options.resume.empty() &&
         std::filesystem::equivalent(std::filesystem::path(options.resume).parent_path() / ".",
                                     options.output_dir, ignored);
}

// What the kernel calls this CPU, for the people who read about the run; empty: not known.
std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (!line.starts_with("model name")) continue;
    const auto begin = line.find_first_not_of(" \t", line.find(':') + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return {};
}

// Checked before the folder is created.
const TrainOptions& with_epochs_left(const TrainOptions& options) {
  if (const std::string& file = options.resume; !file.empty() && !is_in_output_folder(options))
    check(progress_in(read_safetensors_metadata(file), file).epoch < options.epochs, ErrorKind::usage,
          "checkpoint ", file, " is of a finished run: nothing is left to train in another folder");
  return options;
}

}  // namespace

RunFolder::RunFolder(const TrainOptions& options, const RunRecord& record, RunListener& listener,
                     Communicator& ranks)
    : options_(options), record_(record), listener_(listener), ranks_(ranks), path_(options.output_dir) {
  const std::string here = ranks_.once([&] {
    const bool in_folder = is_in_output_folder(with_epochs_left(options));
    checkpoints_.emplace(path_, options.checkpoint_hist);
    check(in_folder || !checkpoints_->holds_run(), ErrorKind::usage, "output folder ", path_,
          " holds an earlier run: ",
          options.resume.empty() ? "continue it with `resume` auto, or choose another folder"
                                 : "choose another folder for what comes of " + options.resume);
    return std::string(in_folder ? "yes" : "no");
  });
  goes_on_here_ = here == "yes";
}

std::optional<CheckpointFolder::Found> RunFolder::find_checkpoint() const {
  if (options_.resume.empty()) return {};
  std::optional<CheckpointFolder::Found> found;
  const std::string file = ranks_.once([&]() -> std::string {
    if (options_.resume == "auto") {
      const auto warn = [this](const std::string& text) { listener_.warning(text); };
      found = checkpoints_->newest(warn);
      if (found) return found->file.string();
      // A run of other options or data is another run.
      if (const auto begun = checkpoints_->check_begins_anew(warn))
        check_same_run(record_, record_in(begun->metadata, begun->file.string()), begun->file.string(),
                       /*phases=*/1);
    } else {
      found = CheckpointFolder::Found{options_.resume, read_safetensors(options_.resume)};
    }
    return found ? found->file.string() : "";
  });
  if (!found && !file.empty()) found = CheckpointFolder::Found{file, read_safetensors(file)};
  return found;
}

void RunFolder::write_config(const std::string& command) const {
  if (!checkpoints_) return;
  const auto write = [this](const char* name, const nlohmann::json& json) {
    AtomicFile file(path() / name);
    file.write(json_text(json, 2) + "\n");
    file.commit();
  };
  nlohmann::json config = record_.config;
  config.erase("resume");
  write("config.json", config);
  nlohmann::json about = record_.machine;
  about.update(
      {{"command", command}, {"version", version()}, {"revision", revision()}, {"ranks", ranks_.size()}});
  if (const std::string name = cpu_name(); !name.empty()) about["cpu"] = name;
  write("run.json", about);
}

NamedTensors RunFolder::about_run(const Progress& progress) const {
  NamedTensors contents;
  contents.metadata = record_.metadata();
  contents.metadata["progress"] = to_json(progress).dump();
  return contents;
}

void RunFolder::save_last(const NamedTensors& contents, std::int64_t step) const {
  if (checkpoints_) listener_.saved({Saved::Kind::last, checkpoints_->save_last(contents), step});
}

void RunFolder::save_best(const NamedTensors& contents, std::int64_t step) const {
  if (checkpoints_) listener_.saved({Saved::Kind::best, checkpoints_->save_best(contents), step});
}

void RunFolder::save_step(const NamedTensors& contents, std::int64_t step) const {
  if (checkpoints_) listener_.saved({Saved::Kind::step, checkpoints_->save_step(contents, step), step});
}

std::string RunFolder::last_good() const {
  if (!checkpoints_) return "see rank 0";
  const auto found = checkpoints_in(path(), [](const std::string&) {});
  return found.empty() ? "none" : found.front().file.string();
}

}  // namespace faq
