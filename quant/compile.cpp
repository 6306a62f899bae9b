#include "quant/compile.h"

#include <unordered_map>

#include "quant/recorded_op.h"

namespace faq {
namespace {

// Fills in the mean and the standard deviation the model was made with. Every model has one Input; a model
// with several would need the same values in all of them.
Preprocessing with_pixels_of(Model& model, const Preprocessing& images) {
  Preprocessing result = images;
  for_each_unit(model, [&](const std::string& name, Unit& unit) {
    const auto* input = dynamic_cast<const Input*>(&unit);
    if (input == nullptr) return;
    const auto same = [](const std::vector<float>& given, const std::vector<float>& own) {
      return given.empty() || given == own;
    };
    check(same(result.mean, input->mean()) && same(result.std, input->std()), ErrorKind::usage, "compile: '",
          name, "': the images have another mean or standard deviation than the model");
    result.mean = input->mean();
    result.std = input->std();
  });
  return result;
}

}  // namespace

IntegerNetwork compile(Model& model, const Preprocessing& images) {
  check_preprocessing(images);
  const EnableGrad recorded;  // the ops are read from the tape
  const Var pixels(Tensor::zeros({1, images.height, images.width, images.channels}, DType::u8));
  const Var logits = model.forward({}, pixels);
  std::vector<IntegerNetwork::Node> nodes;
  std::unordered_map<const void*, int> value_of{{pixels.id(), 0}};
  for (const Var& var : topological_order(logits)) {
    if (var.same_node(pixels)) continue;
    IntegerNetwork::Node node{integer_op_of(var), {}};
    check(node.op != nullptr, "compile: '", var.op(), "' is not an integer op: the model is not quantized");
    for (const Var& input : var.inputs()) node.inputs.push_back(value_of.at(input.id()));
    nodes.push_back(std::move(node));
    value_of.emplace(var.id(), static_cast<int>(nodes.size()));
  }
  return {std::move(nodes), with_pixels_of(model, images)};
}

IntegerNetwork compile(Model& model, std::int64_t height, std::int64_t width, std::int64_t channels) {
  return compile(model, {.height = static_cast<int>(height),
                         .width = static_cast<int>(width),
                         .channels = static_cast<int>(channels)});
}

}  // namespace faq
