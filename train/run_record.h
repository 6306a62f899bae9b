// The facts about a run in its checkpoints, besides its progress.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "data/dataset.h"
#include "quant/deploy/preprocessing.h"
#include "train/image_sample.h"
#include "train/options.h"

namespace faq {

struct RunRecord {
  nlohmann::json config;   ///< every option
  nlohmann::json classes;  ///< names of the classes
  nlohmann::json data;     ///< number of images, checksums of their paths and labels, and of some of them
  nlohmann::json machine;  ///< threads and instruction set

  /// The fields as metadata of a checkpoint, each under its name.
  std::map<std::string, std::string> metadata() const;
};
RunRecord record_of_run(const TrainOptions& options, const Dataset& train, const Dataset& val,
                        const ImageSample& of_train, const ImageSample& of_val);
/// Reads the facts from a checkpoint; empty objects where a checkpoint of an earlier version has none. Throws
/// bad_data.
RunRecord record_in(const std::map<std::string, std::string>& checkpoint, const std::string& source);

/// Every option of a run as it was written down in a record, or by another rank. An option that did not exist
/// yet had its default, whatever the run's preset is today. Throws bad_data.
TrainOptions recorded_options(nlohmann::json config, const std::string& source);
/// True for an option that changes no bit of the result.
bool may_change(const std::string& option);

/// Throws bad_data when the resumed run differs from that of the checkpoint `source`: in an option that
/// changes a bit of the result, in the classes, or in the images. Only what the checkpoint has is compared:
/// those of earlier versions have no pixels and no paths. Other epochs are allowed where a
/// run of `phases` phases does the same until then, whatever its length (why_of_that_length); then returns
/// true.
bool check_same_run(const RunRecord& now, const RunRecord& before, const std::string& source, int phases);
/// Describes how the machine differs from that of the checkpoint, so that sums may be added in another order.
/// Returns a line for the log; empty: no difference.
std::string machine_difference(const RunRecord& now, const RunRecord& before);

/// Tells the checkpoints of runs and epochs apart: 8 hex digits, of a checkpoint's progress, history and
/// speeds included.
std::string checkpoint_id(const std::map<std::string, std::string>& checkpoint);
/// The metadata of the integer network of a run: the name of its model, the number of finished epochs, the
/// id of its checkpoint, and which faq wrote it.
std::map<std::string, std::string> integer_network_record(const std::string& model, std::int64_t epoch,
                                                          const std::string& id);
/// The preprocessing of validation images with those options. The model adds mean and standard deviation.
Preprocessing preprocessing_of(const TrainOptions& options, std::vector<std::string> class_names);

/// True if a file with that metadata was written by faq-train.
bool is_checkpoint(const std::map<std::string, std::string>& metadata);
/// Returns the options of the run that wrote a checkpoint. Throws bad_data.
TrainOptions options_of_checkpoint(const std::map<std::string, std::string>& checkpoint,
                                   const std::string& source);

}  // namespace faq
