#include "quant/deploy/c_program.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/text.h"
#include "quant/deploy/c_places.h"
#include "quant/deploy/c_text.h"
#include "quant/deploy/integer_requantize.h"
#include "quant/deploy/weight_codes.h"

namespace faq {
namespace {

std::string layout(const TensorInfo& info) {
  std::string text;
  for (int axis = 1; axis < info.shape.rank(); ++axis) text += concat(axis > 1 ? "x" : "", info.shape[axis]);
  if (info.format)
    text += concat(", ", info.format->is_signed ? "signed" : "unsigned", " ", info.format->bits, " bits");
  return text;
}

std::span<const std::uint8_t> bytes_of(const Tensor& t) {
  return {static_cast<const std::uint8_t*>(t.raw()), static_cast<std::size_t>(t.numel())};
}

int largest(const FixedPoint& format) { return std::max(format.max(), -format.min()); }

// Writes tables and calls node by node.
class ProgramWriter final : public OpVisitor {
 public:
  ProgramWriter(const IntegerNetwork& network, const std::string& table_mark)
      : network_(network), places_(c_places(network)), tables_(table_mark) {
    for (node_ = 0; node_ < network.nodes().size(); ++node_) op().accept(*this);
    program_.tables = tables_.text();
    program_.has_literals = tables_.has_literals();
    program_.constant_bytes = tables_.array_bytes();
    program_.arena_bytes = places_.bytes;
  }

  const CProgram& program() const { return program_; }

  void visit(const InputOp& op) override {
    const Shape& y = result().shape;
    const std::string own = structure({{"table", array("table", bytes_of(op.table))},
                                       {"channels", number(y[3])},
                                       {"pixels", count(y[1] * y[2])}});
    call("input", {own, "image", place()});
  }

  void visit(const ConvOp& op) override {
    const Shape &x = argument(0).shape, &y = result().shape;
    const ConvGeometry geometry = op.geometry.of(op.weights.values.shape());
    check(geometry.dilation == Extent(1), ErrorKind::usage, where(), ": ", geometry, " has no place in C");
    const bool has_residual = arguments() > 1;
    const std::string own =
        structure({{"weights", weights(op.weights, geometry.kernel)},
                   {"requantize", requantize(op.requantize, largest_sums(op.weights.values),
                                             has_residual ? largest(*argument(1).format) : 0)},
                   {"height", number(x[1])},
                   {"width", number(x[2])},
                   {"out_height", number(y[1])},
                   {"out_width", number(y[2])},
                   {"kernel_height", number(geometry.kernel.height)},
                   {"kernel_width", number(geometry.kernel.width)},
                   {"stride", number(geometry.stride)},
                   {"top", number(geometry.padding.top)},
                   {"left", number(geometry.padding.left)},
                   {"groups", number(geometry.groups)},
                   {"is_signed", is_signed(0)},
                   {"residual_is_signed", has_residual ? is_signed(1) : "0"}});
    call("conv", {own, place(0), has_residual ? place(1) : "NULL", scratch("int8_t", 0), place()});
  }

  void visit(const NormActOp& op) override {
    const Shape& x = argument(0).shape;
    const std::int64_t channels = x[x.rank() - 1];
    const std::vector<std::int64_t> sums(static_cast<std::size_t>(channels), largest(*argument(0).format));
    const std::string own = structure({{"requantize", requantize(op.requantize, sums, 0)},
                                       {"pixels", count(x.numel() / channels)},
                                       {"channels", number(channels)},
                                       {"is_signed", is_signed(0)}});
    call("norm_act", {own, place(0), place()});
  }

  void visit(const ShortcutOp& op) override {
    const Shape &x = argument(0).shape, &y = result().shape;
    const std::string own = structure({{"width", number(x[2])},
                                       {"channels", number(x[3])},
                                       {"out_height", number(y[1])},
                                       {"out_width", number(y[2])},
                                       {"out_channels", number(y[3])},
                                       {"stride", number(op.stride)},
                                       {"before", number((y[3] - x[3]) / 2)}});
    call("shortcut", {own, place(0), place()});
  }

  void visit(const MaxPoolOp& op) override {
    call("max_pool",
         {structure(windows(op.options.kernel, op.options.stride, op.options.padding)), place(0), place()});
  }

  void visit(const AvgPoolOp& op) override {
    CFields fields = windows(op.options.kernel, op.options.stride, op.options.padding);
    fields.emplace_back("output", number(op.options.output));
    call("avg_pool", {structure(fields), place(0), place()});
  }

  void visit(const ConcatOp&) override {
    const Shape& y = result().shape;
    std::int64_t first = 0;
    for (std::size_t i = 0; i < arguments(); ++i) {
      const Shape& x = argument(i).shape;
      call("concat", {place(i), count(x.numel() / x[3]), number(x[3]), number(first), number(y[3]), place()});
      first += x[3];
    }
  }

  void visit(const GlobalAvgPoolOp&) override {
    const Shape& x = argument(0).shape;
    call("global_avg_pool", {place(0), is_signed(0), count(x[1] * x[2]), number(x[3]), place()});
  }

  void visit(const LinearOp& op) override {
    const TensorInfo& x = argument(0);
    const std::int64_t channels = op.weights.values.dim(1);
    program_.scale_of_logits = logit_scale(op);
    const std::string bias = array("bias", op.bias.span<float>());
    const std::string own = structure({{"weights", weights(op.weights, 1)},
                                       {"bias", bias},
                                       {"scale", c_float(program_.scale_of_logits)},
                                       {"is_signed", op.input.is_signed ? "1" : "0"}});
    std::string read = place(0);
    if (x.dtype == DType::s32) {
      read = scratch("uint8_t", channels);
      program_.kinds.insert("sums");
      call("quantize", {thresholds(op, x), place(0), number(channels), read});
    }
    call("linear", {own, read, scratch("int8_t", 0), "logits"});
  }

 private:
  const IntegerOp& op() const { return *network_.nodes()[node_].op; }
  std::size_t arguments() const { return network_.nodes()[node_].inputs.size(); }
  std::size_t value_of(std::size_t i) const {
    return static_cast<std::size_t>(network_.nodes()[node_].inputs[i]) - 1;
  }
  const TensorInfo& argument(std::size_t i) const { return network_.results()[value_of(i)]; }
  const TensorInfo& result() const { return network_.results()[node_]; }
  std::string where() const { return concat(op().kind(), " '", op().name, "'"); }
  std::string is_signed(std::size_t i) const { return argument(i).format->is_signed ? "1" : "0"; }

  std::string place_of(std::size_t value) const {
    const std::int64_t offset = places_.values[value];
    return network_.results()[value].dtype == DType::s32 ? concat("arena + ", offset / 4)
                                                         : concat("bytes + ", offset);
  }
  std::string place(std::size_t i) const { return place_of(value_of(i)); }
  std::string place() const { return place_of(node_); }
  std::string scratch(const char* type, std::int64_t offset) const {
    const std::string at = concat("bytes + ", places_.scratch[node_] + offset);
    return type == std::string("uint8_t") ? at : concat("(", type, " *)(", at, ")");
  }

  // The structures of quant/deploy/c have 16 bits for extents, and 32 for counts of pixels.
  std::string number(std::int64_t value) const {
    return placed(value, std::numeric_limits<std::uint16_t>::max());
  }
  std::string count(std::int64_t value) const {
    return placed(value, std::numeric_limits<std::uint32_t>::max());
  }
  std::string placed(std::int64_t value, std::int64_t most) const {
    check(value >= 0 && value <= most, ErrorKind::usage, where(), ": ", value, " has no place in C, at most ",
          most);
    return std::to_string(value);
  }

  // Of each filter: no sum of its products is larger, whatever the image.
  std::vector<std::int64_t> largest_sums(const Tensor& filters) const {
    const std::int64_t count = filters.dim(0), length = filters.numel() / count;
    const std::span<const std::int8_t> values = filters.span<std::int8_t>();
    std::vector<std::int64_t> sums;
    for (std::int64_t f = 0; f < count; ++f) {
      std::int64_t sum = 0;
      for (std::int64_t i = f * length; i < (f + 1) * length; ++i)
        sum += std::abs(static_cast<int>(values[static_cast<std::size_t>(i)]));
      sums.push_back(sum * largest(*argument(0).format));
      check(sums.back() <= std::numeric_limits<std::int32_t>::max(), ErrorKind::usage, where(), ": filter ",
            f, " has sums up to ", sums.back(), ", which need more than 32 bits");
    }
    return sums;
  }

  CFields windows(int kernel, int stride, int padding) const {
    const Shape &x = argument(0).shape, &y = result().shape;
    return {{"height", number(x[1])},     {"width", number(x[2])},      {"channels", number(x[3])},
            {"out_height", number(y[1])}, {"out_width", number(y[2])},  {"kernel", number(kernel)},
            {"stride", number(stride)},   {"padding", number(padding)}, {"is_signed", is_signed(0)}};
  }

  std::string weights(const QuantizedWeights& w, const Extent& kernel) {
    const bool has_scales = w.code == WeightCode::clusters;
    const Shape& shape = w.values.shape();
    const Tensor codes = stored_codes(w);
    const std::string stored = array("codes", bytes_of(codes));
    const std::string scales = has_scales ? array("scales", bytes_of(w.clusters.scales)) : "NULL";
    return c_braces({{"bytes", stored},
                     {"scales", scales},
                     {"filters", number(shape[0])},
                     {"channels", number(shape[1])},
                     {"taps", number(static_cast<std::int64_t>(kernel.height) * kernel.width)},
                     {"group", has_scales ? number(w.clusters.size) : "1"},
                     {"packing", number(std::countr_zero(static_cast<unsigned>(codes_per_byte(w.bits))))},
                     {"bits", w.code == WeightCode::odd ? number(w.bits) : "0"}});
  }

  std::string requantize(const kernels::Requantize& params, const std::vector<std::int64_t>& sums,
                         int residual) {
    const IntegerRequantize r = integer_requantize(params, sums, residual, where());
    const std::string multiplier = array("multiplier", std::span<const std::int32_t>(r.multiplier));
    const std::string bias = array("bias", std::span<const std::int64_t>(r.bias));
    const std::string shift = array("shift", std::span<const std::uint8_t>(r.shift));
    return c_braces({{"multiplier", multiplier},
                     {"bias", bias},
                     {"shift", shift},
                     {"residual", std::to_string(r.residual)},
                     {"residual_shift", concat(static_cast<int>(r.residual_shift))},
                     {"low", std::to_string(r.low)},
                     {"high", std::to_string(r.high)}});
  }

  std::string thresholds(const LinearOp& linear, const TensorInfo& sums) {
    const std::vector<std::int32_t> least = integer_thresholds(*sums.format, linear.input);
    const std::string table = array("thresholds", std::span<const std::int32_t>(least));
    return structure("quantize", {{"thresholds", table},
                                  {"levels", number(std::ssize(least))},
                                  {"low", std::to_string(linear.input.min())}});
  }

  // Constants are called after what they are and the node they belong to.
  template <class Value>
  std::string array(const char* what, std::span<const Value> values) {
    return tables_.array(own_name(what), values);
  }
  std::string structure(const CFields& fields) { return structure(op().kind(), fields); }
  std::string structure(const std::string& type, const CFields& fields) {
    return tables_.structure(type, own_name(type), fields);
  }
  std::string own_name(const std::string& what) const { return concat(what, "_", node_); }

  void call(const char* function, const std::vector<std::string>& with) {
    program_.kinds.insert(op().kind());
    std::string text = concat("    ", function, "(", join(with), "); DONE(", function, ");");
    text.resize(std::max<std::size_t>(text.size(), 90), ' ');
    program_.calls += concat(text, " /* ", c_comment(op().name), ": ", layout(result()), " */\n");
  }

  const IntegerNetwork& network_;
  const CPlaces places_;
  CTables tables_;
  CProgram program_;
  std::size_t node_ = 0;
};

}  // namespace

CProgram c_program(const IntegerNetwork& network, const std::string& table_mark) {
  return ProgramWriter(network, table_mark).program();
}

}  // namespace faq
