#include "quant/float_onnx.h"

#include <unordered_map>
#include <utility>

namespace faq {
namespace {

// A value of the pass, in ONNX.
struct Value {
  std::string name;
  bool is_rows = false;  // N,C; else N,C,H,W
};

// Writes the nodes of each unit after it has run.
class Writer final : public UnitObserver {
 public:
  Writer(Model& model, const Preprocessing& images) : images_(images), units_(unit_names(model)) {
    for (const Named<Var>& parameter : parameters(model))
      names_[parameter.value.value().raw()] = parameter.name;
    for (const Named<Tensor>& statistic : running_statistics(model))
      names_[statistic.value.raw()] = statistic.name;
    onnx.input = {"input", OnnxType::f32, {images.channels, images.height, images.width}};
    onnx.output.name = "output";
  }

  OnnxModel onnx;

  void saw(Unit& unit, Inputs inputs, const Var& y) override {
    // An id is unique only while its value lives, so all values are kept.
    kept_.insert(kept_.end(), inputs.begin(), inputs.end());
    kept_.push_back(y);
    if (y.same_node(inputs[0])) return;  // dropout, and what else has nothing to do
    const auto known = units_.find(&unit);
    unit_ = known == units_.end() ? "a unit without a name" : known->second;
    if (const auto* input = dynamic_cast<const Input*>(&unit)) {
      images_.mean = input->mean();
      images_.std = input->std();
      values_[y.id()] = {onnx.input.name};
      return;
    }
    std::vector<Value> x;
    for (const Var& input : inputs) {
      const auto made = values_.find(input.id());
      check(made != values_.end(), ErrorKind::usage, "ONNX: '", unit_,
            "' reads a value that no unit has made");
      x.push_back(made->second);
    }
    values_[y.id()] = write(unit, x, inputs[0].shape(), y.shape());
  }

  void finish(const Var& logits) {
    const auto made = values_.find(logits.id());
    check(made != values_.end() && made->second.is_rows && logits.shape().rank() == 2, ErrorKind::usage,
          "ONNX: the logits are not made by a unit");
    onnx.output.shape = {logits.shape()[1]};
    onnx.metadata = onnx_metadata(
        images_, "the resized and cropped image: f32, N,C,H,W, (pixel/255 - mean)/std of the preprocessing");
    onnx.add("Identity", onnx.output.name, {made->second.name});
  }

 private:
  Value write(Unit& unit, const std::vector<Value>& x, const Shape& x_shape, const Shape& y_shape) {
    if (auto* conv = dynamic_cast<ConvUnit*>(&unit)) return write(*conv, x, x_shape, y_shape);
    if (auto* norm = dynamic_cast<NormAct*>(&unit))
      return {onnx.add("Relu", part("Relu"), {normalized(x[0].name, norm->norm())})};
    if (auto* linear = dynamic_cast<Linear*>(&unit))
      return {gemm(rows(x[0]), linear->weight().value(), &linear->bias().value()), true};
    if (const auto* pool = dynamic_cast<const MaxPool*>(&unit))
      return {onnx.max_pool(part("MaxPool"), x[0].name, pool->options())};
    if (const auto* pool = dynamic_cast<const AvgPool*>(&unit))
      return {onnx.avg_pool(part("AveragePool"), x[0].name, x_shape, pool->options())};
    if (dynamic_cast<const GlobalAvgPool*>(&unit))
      return {onnx.add("GlobalAveragePool", part("GlobalAveragePool"), {x[0].name})};
    if (const auto* shortcut = dynamic_cast<const Shortcut*>(&unit)) {
      if (shortcut->is_identity()) return x[0];
      return {onnx.shortcut(part("Pad"), x[0].name, x_shape, shortcut->stride(), shortcut->out_channels())};
    }
    if (dynamic_cast<const Concat*>(&unit)) {
      std::vector<std::string> parts;
      for (const Value& value : x) parts.push_back(value.name);
      return {onnx.add("Concat", part("Concat"), std::move(parts), {{"axis", std::int64_t{1}}})};
    }
    fail(ErrorKind::usage, "ONNX: '", unit_, "' is a unit of a kind that has no place in ONNX");
  }

  Value write(ConvUnit& unit, const std::vector<Value>& x, const Shape& x_shape, const Shape& y_shape) {
    NormState& norm = unit.norm();
    const Tensor& weight = unit.weight().value();
    const Tensor* bias = norm.conv_bias ? &norm.conv_bias.value()
                         : names_.contains(norm.beta.value().raw()) && !unit.has_batch_norm()
                             ? &norm.beta.value()
                             : nullptr;
    Value y{.name = {}, .is_rows = weight.rank() == 2};
    if (y.is_rows) {
      const ConvGeometry geometry = unit.geometry(x_shape);
      check(y_shape[1] == 1 && y_shape[2] == 1 && geometry.padding == Padding(0), ErrorKind::usage, "ONNX: '",
            unit_, "': a matrix for images of ", x_shape);
      y.name = gemm(rows(x[0]), weight, bias);
    } else {
      std::vector<std::string> inputs{x[0].name, tensor(weight)};
      if (bias) inputs.push_back(tensor(*bias));
      y.name = onnx.conv(part("Conv"), std::move(inputs), unit.geometry(x_shape));
    }
    if (unit.has_batch_norm()) y.name = normalized(y.name, norm);
    if (x.size() > 1) y.name = onnx.add("Add", part("Add"), {y.name, x[1].name});
    y.name = activated(y.name, unit.activation());
    return y;
  }

  std::string normalized(const std::string& x, NormState& norm) {
    return onnx.add("BatchNormalization", part("BatchNormalization"),
                    {x, tensor(norm.gamma.value()), tensor(norm.beta.value()), tensor(norm.running_mean),
                     tensor(norm.running_variance)},
                    {{"epsilon", norm.eps}});
  }

  std::string activated(const std::string& x, const Activation& activation) {
    if (activation == Activation::identity) return x;
    if (activation == Activation::relu) return onnx.add("Relu", part("Relu"), {x});
    return onnx.add(
        "Clip", part("Clip"),
        {x, onnx.scalar(part("low"), activation.low), onnx.scalar(part("high"), activation.high)});
  }

  std::string gemm(const std::string& x, const Tensor& weight, const Tensor* bias) {
    std::vector<std::string> inputs{x, tensor(weight)};
    if (bias) inputs.push_back(tensor(*bias));
    return onnx.add("Gemm", part("Gemm"), std::move(inputs), {{"transB", std::int64_t{1}}});
  }

  std::string rows(const Value& x) {
    return x.is_rows ? x.name : onnx.add("Flatten", part("Flatten"), {x.name}, {{"axis", std::int64_t{1}}});
  }

  // A tensor under its name in checkpoints.
  std::string tensor(const Tensor& values) {
    const auto name = names_.find(values.raw());
    check(name != names_.end(), ErrorKind::usage, "ONNX: '", unit_, "' has a tensor without a name");
    std::vector<std::int64_t> shape;
    for (int axis = 0; axis < values.rank(); ++axis) shape.push_back(values.dim(axis));
    return onnx.floats(name->second, std::move(shape), values.span<float>());
  }

  std::string part(const char* what) const { return concat(unit_, "/", what); }

  Preprocessing images_;
  std::map<const Unit*, std::string> units_;
  std::unordered_map<const void*, std::string> names_;  // of tensors, by their storage
  std::unordered_map<const void*, Value> values_;       // by the id of the Var
  std::vector<Var> kept_;
  std::string unit_;
};

}  // namespace

OnnxModel float_onnx_model(Model& model, const Preprocessing& images) {
  check_preprocessing(images);
  Writer writer(model, images);
  const NoGrad no_grad;
  const Var pixels(Tensor::zeros({1, images.height, images.width, images.channels}, DType::u8));
  writer.finish(model.forward({.observer = &writer}, pixels));
  return std::move(writer.onnx);
}

}  // namespace faq
