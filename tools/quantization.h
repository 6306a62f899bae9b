// The quantization a run's options ask for: where train's Method meets quant.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "quant/options.h"
#include "train/method.h"
#include "train/options.h"

namespace faq {

/// Of the last phase, whose network is deployed. Throws usage for values out of range and for combinations
/// that make no sense.
QuantOptions quant_options(const TrainOptions& options);
/// Of every phase of the run: --stages and --bits-schedule.
std::vector<QuantOptions> quant_phases(const TrainOptions& options);
/// Of the phase a checkpoint of that run is in, see model_from_checkpoint.
QuantOptions quant_options_at(const TrainOptions& options, const std::map<std::string, std::string>& metadata,
                              const std::string& source);
Scheme parse_scheme(const std::string& text);
Engine parse_engine(const std::string& text);

/// Calibration, adapters and the integer network, or nothing at all with --scheme none.
std::unique_ptr<Method> make_method(const TrainOptions& options);

/// Throws bad_data when the weights a run is to start from, or its teacher, are an integer network.
void refuse_integer_weights(const TrainOptions& options);

}  // namespace faq
