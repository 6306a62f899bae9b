#include "train/run_record.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <filesystem>

#include "core/cpu.h"
#include "core/json.h"
#include "core/parallel.h"
#include "core/text.h"
#include "core/version.h"
#include "train/class_match.h"
#include "train/option_table.h"
#include "train/run_length.h"

namespace faq {
namespace {

// All other options must agree between a checkpoint and the run that resumes it, because they change bits of
// the result. These may differ: where things are, how often they are reported, and the number of threads,
// which may have to change with the machine.
constexpr const char* free_to_change[] = {
    "output-dir", "resume",           "data-path",    "workers",  "checkpoint-interval", "checkpoint-hist",
    "threads",    "print-freq",       "weights",      "skip-bad", "ignore-extra",        "preset",
    "teacher",    "grad-accum-steps", "rank-timeout", "report",   "tensorboard"};

enum class NameOf { path, last_component };

// A folder may move, so names count from it on. Data sets whose samples have no names count by their pixels
// alone. Checkpoints of earlier versions know their last components only.
std::uint32_t checksum_of_names(const Dataset& dataset, NameOf names = NameOf::path) {
  uLong sum = ::crc32(0, nullptr, 0);
  const auto add = [&](const void* bytes, std::size_t size) {
    sum = ::crc32_z(sum, static_cast<const Bytef*>(bytes), size);
  };
  for (std::int64_t i = 0; i < dataset.size(); ++i) {
    const std::int32_t label = dataset.label(i);
    add(&label, sizeof label);
    const std::string name = dataset.relative_name(i);
    if (names == NameOf::path) {
      add(name.c_str(), name.size() + 1);
      continue;
    }
    const std::size_t last = name.rfind('/') + 1;  // npos + 1: 0
    add(name.data() + last, name.size() - last);
  }
  return static_cast<std::uint32_t>(sum);
}

// By what images look like, not by their names. Checkpoints of earlier versions have one number for all.
constexpr const char* pixels_for_training = "pixels of images for training";
constexpr const char* pixels_for_validation = "pixels of images for validation";

nlohmann::json pixels_of(const ImageSample& sample) {
  nlohmann::json sums = nlohmann::json::array();
  for (const auto& sum : sample.checksums) sums.push_back(sum ? nlohmann::json(*sum) : nlohmann::json());
  return sums;
}

// What cannot be decoded, then or now, is the business of --skip-bad.
bool same_pixels(const nlohmann::json& before, const nlohmann::json& now) {
  return before.is_array() && before.size() == now.size() &&
         std::equal(before.begin(), before.end(), now.begin(), [](const auto& then, const auto& today) {
           return then == today || then.is_null() || today.is_null();
         });
}

// Returns an object of a checkpoint's metadata; an empty one if a checkpoint of an earlier version lacks it.
nlohmann::json object_in(const std::map<std::string, std::string>& checkpoint, const std::string& key,
                         const std::string& source) {
  const auto found = checkpoint.find(key);
  if (found == checkpoint.end()) return nlohmann::json::object();
  const std::string what = concat("checkpoint ", source, ": its record \"", key, "\"");
  nlohmann::json object = parse_json(found->second, what);
  check(object.is_object(), ErrorKind::bad_data, what, ": expected an object, found ", object.type_name());
  return object;
}

// "class 3 was 'cat', is now 'dog'".
std::string first_difference(const nlohmann::json& before, const nlohmann::json& now) {
  const auto [old_name, new_name] = std::mismatch(before.begin(), before.end(), now.begin(), now.end());
  const auto text = [](const nlohmann::json& names, const auto& name) {
    return name == names.end() ? "missing" : name->dump();
  };
  return concat("class ", old_name - before.begin(), " was ", text(before, old_name), ", is now ",
                text(now, new_name));
}

// Numbers and names are the same classes: the names of a data set may be those of its folder.
bool are_same(const nlohmann::json& before, const nlohmann::json& now) {
  const auto is_text = [](const nlohmann::json& name) { return name.is_string(); };
  return std::ranges::all_of(before, is_text) &&
         match_classes(before.get<std::vector<std::string>>(), now.get<std::vector<std::string>>()).kind ==
             ClassMatch::same;
}

}  // namespace

TrainOptions recorded_options(nlohmann::json config, const std::string& source) {
  try {
    nlohmann::json preset;
    if (config.is_object() && config.contains("preset")) {
      preset = config["preset"];
      config.erase("preset");
    }
    TrainOptions options = assemble(config, {}, source);
    if (preset.is_string()) options.preset = preset.get<std::string>();
    if (options.shards == 0)
      options.shards = options.grad_accum_steps;  // before ranks, there was one process
    return options;
  } catch (const Error& error) {  // not a usage error: the user did not write this
    fail(ErrorKind::bad_data, shortened(error.what(), 400));
  }
}

bool may_change(const std::string& option) {
  return std::ranges::find(free_to_change, option) != std::end(free_to_change);
}

std::map<std::string, std::string> RunRecord::metadata() const {
  return {{"config", json_text(config)},   {"classes", json_text(classes)}, {"data", json_text(data)},
          {"machine", json_text(machine)}, {"version", version()},          {"revision", revision()}};
}

RunRecord record_of_run(const TrainOptions& options, const Dataset& train, const Dataset& val,
                        const ImageSample& of_train, const ImageSample& of_val) {
  return {.config = to_json(options),
          .classes = val.class_names(),
          .data = {{"images for training", train.size()},
                   {"images for validation", val.size()},
                   {"names and labels for training", checksum_of_names(train, NameOf::last_component)},
                   {"names and labels for validation", checksum_of_names(val, NameOf::last_component)},
                   {"paths and labels for training", checksum_of_names(train)},
                   {"paths and labels for validation", checksum_of_names(val)},
                   {pixels_for_training, pixels_of(of_train)},
                   {pixels_for_validation, pixels_of(of_val)}},
          .machine = {{"threads", num_threads()}, {"isa", isa_name()}}};
}

RunRecord record_in(const std::map<std::string, std::string>& checkpoint, const std::string& source) {
  const auto classes = checkpoint.find("classes");
  return {.config = object_in(checkpoint, "config", source),
          .classes = classes == checkpoint.end()
                         ? nlohmann::json()
                         : parse_json(classes->second, concat("checkpoint ", source, ": its classes")),
          .data = object_in(checkpoint, "data", source),
          .machine = object_in(checkpoint, "machine", source)};
}

bool check_same_run(const RunRecord& now, const RunRecord& before, const std::string& source, int phases) {
  // Under the names of today, with the defaults of options that did not exist yet.
  const TrainOptions options_before = recorded_options(before.config, source);
  const nlohmann::json config = to_json(options_before);
  const auto said = [](const nlohmann::json& of_run) {
    return concat(of_run.at("epochs").dump(), of_run.at("phase-epochs").dump());
  };
  const bool other_length = said(now.config) != said(config);
  if (other_length) {
    const std::string why = why_of_that_length(recorded_options(now.config, source), options_before, phases);
    check(why.empty(), ErrorKind::bad_data, "checkpoint ", source, " is of another run: epochs was ",
          config.at("epochs").dump(), ", is now ", now.config.at("epochs").dump(), ", but ", why,
          "; to train its network on, begin a run in another folder with `weights` ",
          std::filesystem::path(source).replace_filename("best.safetensors").string());
  }
  for (const auto& [name, value] : now.config.items()) {
    if (may_change(name) || name == "epochs" || name == "phase-epochs") continue;
    const nlohmann::json& old = config.at(name);
    check(old == value, ErrorKind::bad_data, "checkpoint ", source, " is of another run: ", name, " was ",
          shortened(json_text(old), 120), ", is now ", shortened(json_text(value), 120));
  }
  const nlohmann::json& classes = now.classes;
  check(!before.classes.is_array() || before.classes == classes || are_same(before.classes, classes),
        ErrorKind::bad_data, "checkpoint ", source, " is of a run with other classes than those of ",
        now.config.at("data-path").get<std::string>(), ": ", first_difference(before.classes, classes));
  for (const auto& [name, value] : now.data.items()) {
    if (!before.data.contains(name)) continue;
    const bool of_pixels = name == pixels_for_training || name == pixels_for_validation;
    const nlohmann::json& then = before.data[name];
    const std::string difference =
        of_pixels ? " differ" : concat(" was ", shortened(json_text(then), 120), ", is now ", value.dump());
    check(of_pixels ? same_pixels(then, value) : then == value, ErrorKind::bad_data, "checkpoint ", source,
          " is of a run on other images than those of ", now.config.at("data-path").get<std::string>(), ": ",
          name, difference);
  }
  return other_length;
}

std::string machine_difference(const RunRecord& now, const RunRecord& before) {
  std::string difference;
  for (const auto& [name, value] : now.machine.items())
    if (before.machine.contains(name) && before.machine[name] != value)
      difference +=
          concat(difference.empty() ? "" : ", ", name, " ", shortened(json_text(before.machine[name]), 120),
                 " before and ", value.dump(), " now");
  return difference;
}

std::string checkpoint_id(const std::map<std::string, std::string>& checkpoint) {
  const std::string& progress = checkpoint.at("progress");
  const uLong sum = ::crc32_z(0, reinterpret_cast<const Bytef*>(progress.data()), progress.size());
  return fmt::format("{:08x}", sum);
}

std::map<std::string, std::string> integer_network_record(const std::string& model, std::int64_t epoch,
                                                          const std::string& id) {
  return {{"model", model},
          {"epoch", std::to_string(epoch)},
          {"checkpoint", id},
          {"version", version()},
          {"revision", revision()}};
}

Preprocessing preprocessing_of(const TrainOptions& options, std::vector<std::string> class_names) {
  return {.height = options.val_crop_size,
          .width = options.val_crop_size,
          .channels = options.in_channels,
          .resize = options.val_resize_size,
          .interpolation = options.interpolation.value_or(Interpolation::bilinear),
          .class_names = std::move(class_names)};
}

bool is_checkpoint(const std::map<std::string, std::string>& metadata) {
  return metadata.contains("config") && metadata.contains("progress");
}

TrainOptions options_of_checkpoint(const std::map<std::string, std::string>& checkpoint,
                                   const std::string& source) {
  check(is_checkpoint(checkpoint), ErrorKind::bad_data, "checkpoint ", source, ": not written by faq-train");
  const std::string what = concat("checkpoint ", source, ": its configuration");
  const nlohmann::json config = parse_json(checkpoint.at("config"), what);
  return recorded_options(config, what);
}

}  // namespace faq
