// Networks with random weights, random statistics and calibrated steps, and how their results are compared.
#pragma once

#include <memory>
#include <ostream>
#include <vector>

#include "quant/calibration.h"
#include "quant/compile.h"
#include "quant/quantize.h"
#include "tests/testing.h"

namespace faq::testing {

enum class Norms {
  random,
  ties  ///< multipliers are powers of two: accumulators land on rounding ties all the time
};

struct Case {
  const char* model = "resnet20";
  int size = 32;
  int channels = 3;
  int classes = 10;
  int weight_bits = 8;
  int act_bits = 8;
  int first_last_bits = 8;
  int residual_bits = 0;
  std::vector<LayerBits> layer_bits = {};
  Norms norms = Norms::random;
  WeightScale weight_scale = WeightScale::mse;
  int images = 1;
  Scheme scheme = Scheme::faq;
  std::int64_t cluster_size = 4;
  ScaleSharing scale_sharing = ScaleSharing::layer;
};

std::ostream& operator<<(std::ostream& out, const Case& c);

Tensor images_for(const Case& c, int count, std::uint64_t salt = 100);

void randomize_norms(Model& model, Norms norms);

/// A model in eval mode with random weights and statistics, and what calibration sees in it.
struct Calibrated {
  std::unique_ptr<Model> model;
  CalibrationResult seen;
};
Calibrated calibrated_model(const Case& c);

/// With the bits of the case.
void quantize_as(const Case& c, Engine engine, Model& model, const CalibrationResult& seen);
std::unique_ptr<Model> quantized_model(const Case& c, Engine engine = Engine::integer);
IntegerNetwork compile(Model& model, const Case& c);

/// Bytes and steps.
bool same_result(const Tensor& a, const Tensor& b);
/// The results of a model's eval-mode forward, in the order of its tape.
std::vector<Tensor> tape_values(Model& model, const Tensor& images);
void check_same_results(const char* what, const IntegerNetwork& network, const std::vector<Tensor>& actual,
                        const std::vector<Tensor>& expected);

}  // namespace faq::testing
