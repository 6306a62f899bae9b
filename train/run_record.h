// What a checkpoint says of the run it is from, besides where that run stands.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "data/dataset.h"
#include "quant/deploy/preprocessing.h"
#include "train/options.h"

namespace faq {

struct RunRecord {
  nlohmann::json config;   ///< every option
  nlohmann::json classes;  ///< their names
  nlohmann::json data;     ///< how many images, and a checksum of their names and labels
  nlohmann::json machine;  ///< threads and instruction set

  /// As the metadata of a checkpoint, each under its name.
  std::map<std::string, std::string> metadata() const;
};
RunRecord record_of_run(const TrainOptions& options, const Dataset& train, const Dataset& val);
/// That of a checkpoint; empty objects where one of an earlier version has none. Throws bad_data.
RunRecord record_in(const std::map<std::string, std::string>& checkpoint, const std::string& source);

/// Throws bad_data when the run that is to go on has an option that changes a bit of the result, or images,
/// other than that of the checkpoint `source`.
void check_same_run(const RunRecord& now, const RunRecord& before, const std::string& source);
/// In what the machine that is to go on differs, so that sums may be added in another order: a line for the
/// log; empty: in nothing.
std::string machine_difference(const RunRecord& now, const RunRecord& before);

/// The metadata of the integer network of a run: the model's name, and how many epochs were finished.
std::map<std::string, std::string> integer_network_record(const std::string& model, std::int64_t epoch);
/// How images are validated with those options; the model knows their mean and standard deviation.
Preprocessing preprocessing_of(const TrainOptions& options, std::vector<std::string> class_names);

/// Whether a file with that metadata was written by faq-train.
bool is_checkpoint(const std::map<std::string, std::string>& metadata);
/// The options of the run a checkpoint is from. Throws bad_data.
TrainOptions options_of_checkpoint(const std::map<std::string, std::string>& checkpoint,
                                   const std::string& source);

}  // namespace faq
