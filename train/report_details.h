// What a page about a run shows and no other of its files has: the network that came of it, looked at once
// more.
#pragma once

#include <nlohmann/json.hpp>

#include "train/options.h"
#include "train/run_listener.h"
#include "train/stop_token.h"

namespace faq {

/// The bounds of what is gathered, and so of the page: below 2 MB.
namespace report_limits {
inline constexpr std::size_t images = 48;              ///< wrongly classified ones that are shown
inline constexpr int image_side = 96;                  ///< of these; larger ones are reduced
inline constexpr std::size_t image_bytes = 512 << 10;  ///< of all of them, as JPEG
inline constexpr std::size_t layers = 400;   ///< with histograms; others have their row of the table
inline constexpr std::size_t bars = 64;      ///< of a histogram
inline constexpr std::size_t classes = 100;  ///< with a matrix; of more, the pairs that are confused most
inline constexpr std::size_t named_classes = 5000;  ///< of more, nothing is said by class
inline constexpr std::size_t cells = 400;           ///< of these
inline constexpr std::size_t name_bytes = 80;       ///< of a class or an image
inline constexpr std::int64_t sample = 64;          ///< validation images whose activations are counted
}  // namespace report_limits

/// Takes the best network of a finished run through the validation images once more, and the weights that a
/// quantized run started from, in floating point. `options`: those of the run, completed. `result`: its
/// figures. The object that it returns is what report.json holds:
/// - "stages": the network before quantizing, calibrated, fine-tuned: accuracy, loss, images/s, bytes;
/// - "layers": rows of to_json(LayerReport), each with "weights" and "activations" (histograms of the
///   integers), the clipped shares in percent, "cosine", "by_channel" and "error_ratio";
/// - "confusion": the classes, and cells [label, predicted, images];
/// - "mistakes": the wrong predictions with the largest probability, as JPEG in base64;
/// - "notes": what is missing, and why.
/// What cannot be had (files that are gone, a stop) is missing, and noted; nothing of it is the run's result.
nlohmann::json report_details(const TrainOptions& options, const TrainResult& result, RunListener& listener,
                              const StopToken& stop = {});

}  // namespace faq
