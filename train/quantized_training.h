// The Method of a quantized run: calibration, adapters, phases, and the integer network it deploys.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "train/method.h"
#include "train/options.h"

namespace faq {

/// Makes the method that the recipe asks for: quantized training, or plain training with Scheme::none. Throws
/// as number_formats() does.
std::unique_ptr<Method> make_method(const TrainOptions& options);

/// Returns the number format of a checkpoint of that run: the format of its phase.
NumberFormat format_of_checkpoint(const TrainOptions& options,
                                  const std::map<std::string, std::string>& metadata,
                                  const std::string& source);

/// Throws bad_data if the weights that a run starts from, or its teacher, are an integer network.
void refuse_integer_weights(const TrainOptions& options);

}  // namespace faq
