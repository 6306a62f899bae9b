// Training in integers: the tape of a quantized model, its gradients, and that it learns.
#include <cmath>
#include <map>

#include "core/allocator.h"
#include "core/cpu.h"
#include "core/kernels/quantization_error.h"
#include "nn/load_weights.h"
#include "quant/adapters.h"
#include "quant/calibration.h"
#include "quant/compile.h"
#include "quant/faq_scheme.h"
#include "quant/quantize.h"
#include "quant/recorded_op.h"
#include "tests/testing.h"
#include "train/option_table.h"
#include "train/sgd.h"

using namespace faq;
using namespace faq::testing;

namespace {

struct Setup {
  int bits = 8;
  Engine engine = Engine::integer;
  GradFormat grad_format = GradFormat::f32;
  std::uint64_t seed = 1;
  int threads = 1;
  Scheme scheme = Scheme::faq;
  WeightScale weight_scale = WeightScale::mse;
};

constexpr int count = 12, size = 16;

Tensor batch() {
  Tensor images = Tensor::empty({count, size, size, 3}, DType::u8);
  std::uint8_t* out = images.mutable_data<std::uint8_t>();
  for (int i = 0; i < count; ++i)
    out = std::ranges::copy(pattern(i % 3, size, static_cast<std::uint64_t>(i)).pixels, out).out;
  return images;
}

std::vector<std::int32_t> labels() {
  std::vector<std::int32_t> all;
  for (int i = 0; i < count; ++i) all.push_back(i % 3);
  return all;
}

std::unique_ptr<Model> make(const Setup& setup) {
  auto model = make_model("resnet20", {.num_classes = 3, .in_channels = 3});
  initialize(*model, setup.seed);
  // Statistics of the data, as a pretrained network has them: calibration runs in evaluation mode.
  for (int i = 0; i < 30; ++i) forward_in_training(*model, batch());
  const CalibrationResult seen = calibrate(*model, [left = 1]() mutable -> std::optional<Tensor> {
    if (left-- == 0) return {};
    return batch();
  });
  NumberFormat options;
  options.scheme = setup.scheme;
  options.weight_bits = setup.bits;
  options.act_bits = setup.scheme == Scheme::dfp ? 8 : setup.bits;
  options.engine = setup.engine;
  options.grad_format = setup.grad_format;
  options.weight_scale = setup.weight_scale;
  quantize(*model, options, &seen);
  return model;
}

struct Result {
  std::vector<double> losses;
  std::vector<Named<Tensor>> grads;    ///< of the first step
  std::vector<Named<Tensor>> weights;  ///< after the last one
};

Result train(const Setup& setup, int steps) {
  set_num_threads(1);
  const auto model = make(setup);
  set_num_threads(setup.threads);
  Sgd sgd(parameters(*model), {.momentum = 0.9, .weight_decay = 1e-4, .clip_grad_norm = 0});
  Result result;
  for (int step = 0; step < steps; ++step) {
    const Var loss = cross_entropy(forward_in_training(*model, batch()), labels());
    result.losses.push_back(loss.value().item());
    backward(loss);
    if (step == 0)
      for (const auto& [name, parameter] : parameters(*model))
        result.grads.push_back({name, parameter.grad().clone()});
    sgd.step(0.02, 1.0);
  }
  for (const auto& [name, parameter] : parameters(*model))
    result.weights.push_back({name, parameter.value()});
  set_num_threads(0);
  return result;
}

void check_same(const std::vector<Named<Tensor>>& a, const std::vector<Named<Tensor>>& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    INFO(a[i].name);
    CHECK(reference::same_bytes(a[i].value, b[i].value));
  }
}

double cosine(const std::vector<double>& a, const std::vector<double>& b) {
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ab += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  return ab / std::sqrt(aa * bb);
}

// A fully connected layer as a convolution, as VGG has them: its filter is a view of the weights.
class MatrixModel final : public Model {
 public:
  void visit(Visitor& v) override {
    v.child("input", input_);
    v.child("conv", conv_);
    v.child("fc", fc_);
  }
  Var forward(const Pass& pass, const Var& images) override {
    return fc_(pass, conv_(pass, input_(pass, images)));
  }

 private:
  Input input_{{0.5f, 0.5f, 0.5f}, {0.2f, 0.2f, 0.2f}};
  ConvAct conv_{3, 32, size, {.as_matrix = true}};
  Linear fc_{32, 3};
};

}  // namespace

TEST_CASE("the training forward hands on integers within their bits", "[quant_training][isa]") {
  const OneThread one_thread;
  for (const int bits : {8, 4, 2}) {
    INFO("bits " << bits);
    const auto model = make({.bits = bits});
    int quantized = 0;
    const Var logits = forward_in_training(*model, batch());
    for (const Var& var : topological_order(logits)) {
      const std::string op = var.op();
      const Tensor& value = var.value();
      if (op == "conv_norm_act_integer") {
        ++quantized;
        REQUIRE(value.dtype() == DType::u8);
        const FixedPoint format = value.fixed_point();
        CHECK_FALSE(format.is_signed);
        CHECK((format.bits == bits || format.bits == 8));  // 8: what feeds the classifier
        CHECK(std::exp2(std::round(std::log2(format.scale))) == format.scale);
        int largest = 0;
        for (const int q : value.span<std::uint8_t>()) largest = std::max(largest, q);
        CHECK(largest <= format.max());
        CHECK(largest > format.max() / 4);
      }
    }
    CHECK(quantized == 19);
    CHECK(logits.value().dtype() == DType::f32);
  }
}

TEST_CASE("both engines give the same loss and gradients", "[quant_training][isa]") {
  for (const int bits : {8, 4}) {
    INFO("bits " << bits);
    const Result integer = train({.bits = bits}, 2);
    const Result simulated = train({.bits = bits, .engine = Engine::simulated}, 2);
    CHECK(integer.losses == simulated.losses);
    check_same(integer.grads, simulated.grads);
    check_same(integer.weights, simulated.weights);
    for (const auto& [name, grad] : integer.grads) {
      INFO(name);
      CHECK(kernels::sum_of_squares(grad) > 0);
    }
  }
}

TEST_CASE("a batch can be learnt by heart in integers", "[quant_training]") {
  for (const int bits : {8, 4}) {
    INFO("bits " << bits);
    const Result result = train({.bits = bits}, 25);
    INFO("loss " << result.losses.front() << " to " << result.losses.back());
    CHECK(result.losses.front() > 0.5);
    CHECK(result.losses.back() < 0.3 * result.losses.front());
  }
}

TEST_CASE("the optimizer tells quantizers what it sees of weights", "[quant_training]") {
  const OneThread one_thread;
  const auto check_seen = [](Model& model, bool is_chosen, void (*change)(Model&) = nullptr) {
    Sgd sgd(model, {});
    if (change) change(model);
    int layers = 0;
    for (int step = 0; step < 3; ++step) {
      backward(cross_entropy(forward_in_training(model, batch()), labels()));
      sgd.step(0.02, 1.0);
      for_each_unit(model, [&](const std::string& name, Unit& unit) {
        QuantizedUnit* quantized = quantizer_of(unit);
        if (!quantized || !quantized->master_weights()) return;
        INFO(name);
        const auto [seen, bits, how] = quantized->watched_weights();
        CHECK((seen != nullptr) == (is_chosen || bits == 8));
        if (!seen) return;
        ++layers;
        const Tensor weights = quantized->master_weights().value();
        CHECK(seen->version == weights.version());
        CHECK(seen->max_magnitude == kernels::max_magnitude(weights));
        CHECK(seen->formats.size() == (step == 0 || how == WeightScale::max ? 0 : 6));
        CHECK(seen->errors == kernels::quantization_errors(weights, seen->formats));
        CHECK(choose_weight_format(weights, bits, how, seen.get()) ==
              choose_weight_format(weights, bits, how));
      });
    }
    return layers / 3;
  };
  CHECK(check_seen(*make({.bits = 4}), true) == 20);
  CHECK(check_seen(*make({.bits = 4, .weight_scale = WeightScale::max}), true) == 20);
  CHECK(check_seen(*make({.bits = 3, .scheme = Scheme::dorefa}), false) == 2);  // the first and the last
  const auto held = make({.bits = 8});
  hold_weight_scales(*held);
  // A checkpoint sets the quantizers when the optimizer is there already.
  CHECK(check_seen(*held, true, [](Model& model) {
          for_each_unit(model, [](const std::string&, Unit& unit) {
            if (QuantizedUnit* quantized = quantizer_of(unit)) {
              QuantizerState state = quantized->state();
              state.weight_scale = 0;
              quantized->set_state(state);
            }
          });
        }) == 20);
  CHECK(check_seen(*make({.bits = 4}), false, hold_weight_scales) == 0);

  MatrixModel matrix;
  initialize(matrix, 1);
  const CalibrationResult calibrated = calibrate(matrix, [left = 1]() mutable -> std::optional<Tensor> {
    if (left-- == 0) return {};
    return batch();
  });
  NumberFormat options;
  options.scheme = Scheme::faq;
  quantize(matrix, options, &calibrated);
  CHECK(check_seen(matrix, true) == 2);
}

TEST_CASE("memory does not grow over steps", "[quant_training]") {
  const OneThread one_thread;
  const auto model = make({.bits = 4});
  Sgd sgd(parameters(*model), {});
  const auto step = [&] {
    const Var loss = cross_entropy(forward_in_training(*model, batch()), labels());
    backward(loss);
    sgd.step(0.02, 1.0);
  };
  for (int i = 0; i < 3; ++i) step();
  const MemoryStats before = memory_stats();
  for (int i = 0; i < 60; ++i) step();
  const MemoryStats after = memory_stats();
  CHECK(after.in_use == before.in_use);
  CHECK(after.reserved == before.reserved);
}

TEST_CASE("bf16 gradients point where f32 gradients do", "[quant_training]") {
  if (!has_native_bf16()) {
    WARN("no native bf16 on this CPU (" << isa_name() << "): not tested");
    return;
  }
  for (const int bits : {8, 4}) {
    const Result f32 = train({.bits = bits}, 1);
    const Result bf16 = train({.bits = bits, .grad_format = GradFormat::bf16}, 1);
    CHECK(f32.losses == bf16.losses);
    std::vector<double> all_f32, all_bf16;
    for (std::size_t i = 0; i < f32.grads.size(); ++i) {
      INFO(bits << " bits, " << f32.grads[i].name);
      const auto a = reference::numbers(f32.grads[i].value), b = reference::numbers(bf16.grads[i].value);
      CHECK(bf16.grads[i].value.dtype() == DType::f32);  // of weights: always
      CHECK(cosine(a, b) > 0.99);
      all_f32.insert(all_f32.end(), a.begin(), a.end());
      all_bf16.insert(all_bf16.end(), b.begin(), b.end());
    }
    CHECK(cosine(all_f32, all_bf16) > 0.999);
    CHECK_FALSE(all_f32 == all_bf16);
  }
}

TEST_CASE("8-bit gradients point where f32 gradients do", "[quant_training][isa]") {
  for (const int bits : {8, 4}) {
    for (const GradFormat& format : {GradFormat::s8, GradFormat::s8_data}) {
      const Result f32 = train({.bits = bits}, 1);
      const Result s8 = train({.bits = bits, .grad_format = format}, 1);
      CHECK(f32.losses == s8.losses);
      std::vector<double> all_f32, all_s8;
      for (std::size_t i = 0; i < f32.grads.size(); ++i) {
        INFO(bits << " bits, gradients " << format << ", " << f32.grads[i].name);
        const auto a = reference::numbers(f32.grads[i].value), b = reference::numbers(s8.grads[i].value);
        CHECK(s8.grads[i].value.dtype() == DType::f32);
        CHECK(cosine(a, b) > 0.97);
        all_f32.insert(all_f32.end(), a.begin(), a.end());
        all_s8.insert(all_s8.end(), b.begin(), b.end());
      }
      CHECK(cosine(all_f32, all_s8) > 0.995);
      CHECK_FALSE(all_f32 == all_s8);
    }
  }
}

TEST_CASE("with 8-bit gradients a step has the same bits on any number of threads", "[quant_training]") {
  const Result one = train({.bits = 4, .grad_format = GradFormat::s8, .threads = 1}, 2);
  for (const int threads : {2, 4}) {
    INFO(threads << " threads");
    const Result several = train({.bits = 4, .grad_format = GradFormat::s8, .threads = threads}, 2);
    CHECK(several.losses == one.losses);
    check_same(several.grads, one.grads);
    check_same(several.weights, one.weights);
  }
}

#if defined(__x86_64__)
// In a process of its own for each instruction set (contract_AVX2, …), and on whatever CPU runs the tests.
// The sums are of the weights after three steps on a CPU with AVX-512 and BF16. Those of emulated CPUs
// without AVX are the same (qemu-x86_64 -cpu Nehalem).
TEST_CASE("with 8-bit gradients a step has the same bits on every CPU", "[quant_training][isa]") {
  struct Row {
    Scheme scheme;
    int bits;
    unsigned long expected;
  };
  const Row rows[] = {{Scheme::faq, 8, 0xa08e622c},
                      {Scheme::faq, 4, 0xf38eda25},
                      {Scheme::dfp, 2, 0x229c6acc},
                      {Scheme::lsq, 4, 0x8144b3b0},
                      {Scheme::dorefa, 4, 0xed7f7350}};
  INFO(isa_name());
  for (const Row& row : rows) {
    INFO(to_text(row.scheme) << ", " << row.bits << " bits");
    const Result result =
        train({.bits = row.bits, .grad_format = GradFormat::s8, .threads = 2, .scheme = row.scheme}, 3);
    unsigned long sum = 0;
    for (const auto& [name, weights] : result.weights)
      sum = ::crc32(sum, static_cast<const Bytef*>(weights.raw()), static_cast<uInt>(weights.bytes()));
    CHECK(sum == row.expected);
  }
}
#endif

TEST_CASE("same seed, same threads: same bits", "[quant_training]") {
  for (const int threads : {1, 2}) {
    INFO(threads << " threads");
    const Setup setup{
        .bits = 4, .grad_format = has_native_bf16() ? GradFormat::bf16 : GradFormat::f32, .threads = threads};
    const Result first = train(setup, 2), second = train(setup, 2);
    CHECK(first.losses == second.losses);
    check_same(first.grads, second.grads);
    check_same(first.weights, second.weights);
  }
  CHECK(train({.seed = 1}, 1).losses != train({.seed = 2}, 1).losses);
}

TEST_CASE("the step of weights follows them; that of activations stays", "[quant_training]") {
  const OneThread one_thread;
  const auto model = make({.bits = 4});
  // Batch-norm takes a factor of the weights out again: if their step follows them, nothing else changes.
  const auto activations = [&] {
    std::vector<std::vector<std::uint8_t>> all;
    const Var logits = forward_in_training(*model, batch());
    for (const Var& var : topological_order(logits)) {
      if (std::string(var.op()) != "conv_norm_act_integer") continue;
      const auto values = var.value().span<std::uint8_t>();
      all.emplace_back(values.begin(), values.end());
    }
    return all;
  };
  // Of the weights as they are deployed now.
  const auto weight_scales = [&] {
    std::map<std::string, float> steps;
    const Var logits = model->forward({}, Var(batch()));
    for (const Var& var : topological_order(logits))
      if (const auto* op = dynamic_cast<const ConvOp*>(integer_op_of(var).get()))
        steps[op->name] = op->weights.values.fixed_point().scale;
    return steps;
  };
  const auto before = activations();
  const auto steps = weight_scales();
  const std::vector<LayerPlan> plan = layer_plan(*model);
  for_each_unit(*model, [](const std::string&, Unit& unit) {
    auto* conv = dynamic_cast<ConvNormAct*>(&unit);
    if (conv) kernels::scale_in_place(conv->weight().mutable_value(), 4.0f);
  });
  const auto after = activations();
  const auto steps_after = weight_scales();
  REQUIRE(steps.size() == 19);
  for (const auto& [name, step] : steps) CHECK(steps_after.at(name) == 4 * step);
  REQUIRE(before.size() == 19);
  REQUIRE(after.size() == 19);
  for (std::size_t i = 0; i < 4; ++i) {  // further down single levels, changed by batch-norm's ε, add up
    std::size_t changed = 0;
    for (std::size_t k = 0; k < before[i].size(); ++k) changed += before[i][k] != after[i][k];
    CHECK(changed < before[i].size() / 100);
  }
  const std::vector<LayerPlan> plan_after = layer_plan(*model);
  for (std::size_t i = 0; i < plan.size(); ++i) CHECK(plan[i].activation == plan_after[i].activation);

  // Evaluation sees new weights, too: its cached ops are made again.
  const Tensor first = model->forward({}, Var(batch())).value();
  CHECK(reference::same_bytes(first, model->forward({}, Var(batch())).value()));
  for (auto& [name, parameter] : parameters(*model))
    if (name == "layer1.0.conv1.weight") kernels::scale_in_place(parameter.mutable_value(), -1.0f);
  CHECK_FALSE(reference::same_bytes(first, model->forward({}, Var(batch())).value()));
  // Also when another tensor takes their place that was written to as often.
  for (auto& [name, parameter] : parameters(*model)) {
    if (name != "layer1.0.conv1.weight") continue;
    Tensor& weights = parameter.mutable_value();
    Tensor turned = weights.clone();
    kernels::scale_in_place(turned, -1.0f);
    while (turned.version() < weights.version()) turned.mutable_raw();
    weights = turned;
  }
  CHECK(reference::same_bytes(first, model->forward({}, Var(batch())).value()));
}

TEST_CASE("steps that are held stay, whatever becomes of the weights", "[quant_training]") {
  const OneThread one_thread;
  const auto model = make({.bits = 4});
  const auto scale_weights = [&](float factor) {
    for_each_unit(*model, [&](const std::string&, Unit& unit) {
      if (auto* conv = dynamic_cast<ConvUnit*>(&unit))
        kernels::scale_in_place(conv->weight().mutable_value(), factor);
      if (auto* linear = dynamic_cast<Linear*>(&unit))
        kernels::scale_in_place(linear->weight().mutable_value(), factor);
    });
  };
  const auto deployed = [&] {
    const IntegerNetwork network = faq::compile(*model, size, size, 3);
    const Tensor images = batch();
    CHECK(reference::same_bytes(network.forward(images), model->forward({}, Var(images)).value()));
    std::map<std::string, Tensor> weights;
    for (const IntegerNetwork::Node& node : network.nodes()) {
      if (const auto* conv = dynamic_cast<const ConvOp*>(node.op.get()))
        weights[conv->name] = conv->weights.values;
      if (const auto* linear = dynamic_cast<const LinearOp*>(node.op.get()))
        weights[linear->name] = linear->weights.values;
    }
    return weights;
  };
  const auto loss = [&] {
    return cross_entropy(forward_in_training(*model, batch()), labels()).value().item();
  };

  const auto chosen = deployed();
  const double loss_chosen = loss();
  REQUIRE(chosen.size() == 20);
  hold_weight_scales(*model);
  CHECK(loss() == loss_chosen);
  for (const auto& [name, weights] : deployed()) CHECK(reference::same_bytes(weights, chosen.at(name)));

  scale_weights(0.7f);  // a power of two in between: all that follow change their step
  hold_weight_scales(*model);
  const auto held = deployed();
  const double loss_held = loss();
  for (const auto& [name, weights] : held) {
    INFO(name);
    CHECK(weights.fixed_point() == chosen.at(name).fixed_point());
    CHECK_FALSE(reference::same_bytes(weights, chosen.at(name)));
  }
  // They are part of what is saved: weights alone would choose others.
  NamedTensors saved;
  export_weights(*model, saved);
  const auto loaded = make_model("resnet20", {.num_classes = 3, .in_channels = 3});
  quantize(*loaded, {.scheme = Scheme::faq, .weight_bits = 4, .act_bits = 4}, nullptr);
  load_weights(*loaded, saved, {.source = "saved"});
  CHECK(reference::same_bytes(loaded->forward({}, Var(batch())).value(),
                              model->forward({}, Var(batch())).value()));
  // Training multiplies by the same integers: weights that are those numbers already make no difference.
  for_each_unit(*model, [&](const std::string& name, Unit& unit) {
    const auto found = held.find(name);
    if (found == held.end()) return;
    Var& weight = dynamic_cast<ConvUnit*>(&unit) ? dynamic_cast<ConvUnit*>(&unit)->weight()
                                                 : dynamic_cast<Linear*>(&unit)->weight();
    const Tensor numbers = kernels::convert(found->second, DType::f32);
    std::ranges::copy(numbers.span<float>(), weight.mutable_value().mutable_data<float>());
  });
  CHECK(loss() == loss_held);

  // A phase with as many bits goes on with them, one with fewer chooses its own.
  const CalibrationResult seen = calibrate(*model, [left = 1]() mutable -> std::optional<Tensor> {
    if (left-- == 0) return {};
    return batch();
  });
  const auto requantize = [&](int bits) {
    quantize(*model,
             {.scheme = Scheme::faq, .weight_bits = bits, .act_bits = 4, .grad_format = GradFormat::f32},
             &seen);
  };
  scale_weights(0.3f);
  requantize(4);
  for (const auto& [name, weights] : deployed()) CHECK(weights.fixed_point() == held.at(name).fixed_point());
  requantize(3);
  for (const auto& [name, weights] : deployed()) {
    INFO(name);
    const bool keeps = name == "conv1" || name == "fc";  // 8 bits all the time
    CHECK(weights.fixed_point().bits == (keeps ? 8 : 3));
    CHECK((weights.fixed_point().scale < held.at(name).fixed_point().scale) == !keeps);
  }
  // Another scheme chooses its own, and so does who quantizes anew what was never set.
  const auto chooses_anew = [&] {
    for (const auto& [name, weights] : deployed()) {
      INFO(name);
      CHECK(weights.fixed_point().scale < held.at(name).fixed_point().scale);
    }
  };
  quantize(*model, {.scheme = Scheme::dfp, .weight_bits = 4, .act_bits = 4}, &seen);
  chooses_anew();
  quantize(*model, {.scheme = Scheme::faq}, nullptr);
  requantize(4);
  chooses_anew();
}

TEST_CASE("of other schemes the fixed-point layers hold their steps", "[quant_training]") {
  const OneThread one_thread;
  for (const Scheme scheme : {Scheme::dfp, Scheme::dorefa}) {
    const auto model = make({});
    const CalibrationResult seen = calibrate(*model, [left = 1]() mutable -> std::optional<Tensor> {
      if (left-- == 0) return {};
      return batch();
    });
    quantize(*model, {.scheme = scheme, .weight_bits = 2}, &seen);
    hold_weight_scales(*model);
    int held = 0;
    for_each_unit(*model, [&](const std::string& name, Unit& unit) {
      const auto* quantized = dynamic_cast<const QuantizedUnit*>(unit.adapter());
      if (!quantized) return;
      INFO(name);
      const bool fixed_point = name == "conv1" || name == "fc";
      CHECK((quantized->state().weight_scale > 0) == fixed_point);
      held += fixed_point;
    });
    CHECK(held == 2);
  }
}

TEST_CASE("quantizer state that makes no sense is refused", "[quant_training]") {
  const OneThread one_thread;
  const auto model = make({});
  struct {
    const char* what;
    int place;
    float value;
  } const rows[] = {{"step 0", 0, 0},
                    {"step -1", 0, -1},
                    {"step inf", 0, INFINITY},
                    {"step nan", 0, NAN},
                    {"bits 1", 1, 1},
                    {"bits 9", 1, 9},
                    {"bits nan", 1, NAN},
                    {"bits 1e30", 1, 1e30f},
                    {"bits 4.5", 1, 4.5f},
                    {"sign nan", 2, NAN},
                    {"weights 1", 3, 1},
                    {"weights 9", 3, 9},
                    {"weights -2", 3, -2},
                    {"weight step -1", 4, -1},
                    {"weight step inf", 4, INFINITY},
                    {"weight step nan", 4, NAN},
                    {"weight step 1e-39", 4, 1e-39f}};
  for (auto& [name, buffer] : buffers(*model)) {
    if (name != "layer1.0.conv1.quantizer") continue;
    for (const auto& row : rows) {
      INFO(row.what);
      const float saved = buffer.data<float>()[row.place];
      buffer.mutable_data<float>()[row.place] = row.value;
      const auto run = [&] { model->forward({}, Var(batch())); };
      check_error(ErrorKind::bad_data, "make no sense", run);
      check_error(ErrorKind::bad_data, "'layer1.0.conv1'", run);
      buffer.mutable_data<float>()[row.place] = saved;
    }
    CHECK_NOTHROW(model->forward({}, Var(batch())));
    float& weight_bits = buffer.mutable_data<float>()[3];
    const float saved = std::exchange(weight_bits, 0.0f);
    check_error(ErrorKind::bad_data, "0 weight bits for a layer with weights",
                [&] { model->forward({}, Var(batch())); });
    weight_bits = saved;
  }
}

TEST_CASE("a quantizer that nothing has set is refused", "[quant_training]") {
  const OneThread one_thread;
  const auto model = make_model("resnet20", {});
  initialize(*model, 1);
  quantize(*model, {.scheme = Scheme::faq}, nullptr);
  check_error(ErrorKind::bad_data, "quantizer of 'input': not set",
              [&] { model->forward({}, Var(batch())); });
}
