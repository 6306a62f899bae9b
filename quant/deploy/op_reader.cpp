// Reads ops from files that anybody may have written, so everything is checked.
#include <algorithm>
#include <cmath>

#include "core/division.h"
#include "core/json.h"
#include "core/kernels/elementwise.h"
#include "core/text.h"
#include "quant/deploy/integer_format.h"
#include "quant/deploy/weight_codes.h"

namespace faq {
namespace {

using nlohmann::json;

int number(const json& value, const char* key, int low, int high) {
  return static_cast<int>(parse_integer(value, key, low, high));
}

// A denormal scale is refused: its inverse may be infinite.
float parse_scale(const json& j, const char* key) {
  check(j.at(key).is_number(), ErrorKind::bad_data, key, " ", shortened(j.at(key).dump(), 40),
        ": expected a number");
  const auto scale = j.at(key).get<float>();
  check(std::isnormal(scale) && scale > 0, ErrorKind::bad_data, key, " ", scale);
  return scale;
}

FixedPoint parse_format(const json& j) {
  return {parse_scale(j, "scale"), number(j.at("bits"), "bits", 2, 8), j.at("signed").get<bool>()};
}

// --- shared by several kinds

struct Reader {
  const json& j;
  const NamedTensors& tensors;
  std::set<std::string>& used;
  std::string name;

  const Tensor& tensor(const std::string& suffix, DType dtype) const {
    const Tensor* found = tensors.find(name + "." + suffix);
    used.insert(name + "." + suffix);
    check(found != nullptr, ErrorKind::bad_data, "missing tensor ", name, ".", suffix);
    check(found->dtype() == dtype, ErrorKind::bad_data, "tensor ", name, ".", suffix, ": expected ", dtype,
          ", found ", found->dtype());
    return *found;
  }

  Tensor finite(const std::string& suffix, std::int64_t count) const {
    const Tensor& t = tensor(suffix, DType::f32);
    check(t.rank() == 1 && t.numel() == count, ErrorKind::bad_data, "tensor ", name, ".", suffix,
          ": expected [", count, "], found ", t.shape());
    check(std::ranges::all_of(t.span<float>(), [](float v) { return std::isfinite(v); }), ErrorKind::bad_data,
          "tensor ", name, ".", suffix, ": a value is not finite");
    return t;
  }

  int integer(const char* key, int low, int high) const { return number(j.at(key), key, low, high); }
  /// Less than the kernel at each side: more would only add windows that see no pixel of the image, and cost
  /// memory.
  Padding padding(const Shape& kernel) const {
    const json& sides = j.at("padding");
    check(sides.is_array() && sides.size() == 4, ErrorKind::bad_data, "padding ", sides.dump(),
          ": expected [top, left, bottom, right]");
    const auto side = [&](std::size_t i) { return number(sides[i], "padding", 0, 64); };
    const Padding result{side(0), side(1), side(2), side(3)};
    check(std::max(result.top, result.bottom) < kernel[2] && std::max(result.left, result.right) < kernel[3],
          ErrorKind::bad_data, "padding ", result, " of a kernel ", kernel);
    return result;
  }

  /// The range of real numbers whose integers are from `low` to `high`; open where the format ends.
  Activation activation(const FixedPoint& format) const {
    const int low = integer("low", format.min(), format.max());
    const int high = integer("high", low, format.max());
    Activation result;
    const auto end = [&](int level) {
      const float value = static_cast<float>(level) * format.scale;
      check(std::isfinite(value), ErrorKind::bad_data, "scale ", format.scale, ": integers from ", low,
            " to ", high, " are no numbers");
      return value;
    };
    if (low != format.min() || !format.is_signed) result.low = end(low);
    if (high != format.max()) result.high = end(high);
    return result;
  }

  kernels::Requantize requantize(std::int64_t channels) const {
    const FixedPoint format = parse_format(j.at("format"));
    return {.multiplier = finite("multiplier", channels),
            .bias = finite("bias", channels),
            .activation = activation(format),
            .format = format};
  }

  QuantizedWeights weights(int rank) const {
    const Shape shape = weight_shape(rank);
    QuantizedWeights result;
    result.bits = integer("weight_bits", 2, 8);
    result.code = weight_code(result.bits);
    const Tensor codes = stored_codes(shape, result.bits, result.code);
    switch (result.code) {
      case WeightCode::fixed_point:
        result.values = codes;
        break;
      case WeightCode::odd:
        result.values = from_odd_codes(codes, result.bits);
        break;
      case WeightCode::clusters:
        result.clusters = clusters(codes, (1 << (result.bits - 1)) - 1);
        result.values = cluster_values(result.clusters);
        break;
    }
    const bool as_coded = result.code == WeightCode::fixed_point;
    result.values.set_fixed_point(
        {.scale = parse_scale(j, "weight_scale"), .bits = as_coded ? result.bits : 8, .is_signed = true});
    return result;
  }

  /// Files have them for the layers that have a scale per output channel.
  Tensor channel_scales(std::int64_t channels) const {
    if (!tensors.find(name + ".channel_scales")) return {};
    const Tensor scales = finite("channel_scales", channels);
    check(std::ranges::all_of(scales.span<float>(), [](float s) { return std::isnormal(s) && s > 0; }),
          ErrorKind::bad_data, "tensor ", name, ".channel_scales: a value is not a scale");
    return scales;
  }

  Shape weight_shape(int rank) const {
    const json& extents = j.at("weight_shape");
    check(extents.is_array() && static_cast<int>(extents.size()) == rank, ErrorKind::bad_data,
          "weight_shape ", extents.dump(), ": expected ", rank, " extents");
    std::vector<std::int64_t> sizes;
    std::int64_t count = 1;
    for (const json& extent : extents) {
      check(extent.is_number_integer() && extent >= 1 && extent <= (1 << 20) &&
                count <= (std::int64_t{1} << 32),
            ErrorKind::bad_data, "weight_shape ", extents.dump());
      sizes.push_back(extent.get<std::int64_t>());
      count *= sizes.back();
    }
    return Shape(sizes);
  }

  // Returns the unpacked codes. Each is checked to be within its bits.
  Tensor stored_codes(const Shape& shape, int bits, WeightCode code) const {
    const bool odd = code == WeightCode::odd;
    const Tensor& stored = tensor("weight", stored_as(bits, code));
    const int per_byte = codes_per_byte(bits);
    const std::int64_t expected = divided_up(shape.numel(), per_byte);
    check(stored.numel() == expected, ErrorKind::bad_data, "tensor ", name, ".weight: expected ", expected,
          " bytes, found ", stored.shape());
    Tensor codes = stored.dtype() == DType::s8 ? stored.reshaped(shape).clone()
                                               : unpack_codes(stored, per_byte, shape, !odd);
    const int low = odd ? 0 : -((1 << (bits - 1)) - 1);
    const int high = odd ? (1 << bits) - 1 : -low;
    check(std::ranges::all_of(codes.span<std::int8_t>(), [&](int w) { return w >= low && w <= high; }),
          ErrorKind::bad_data, "tensor ", name, ".weight: a value is outside ", bits, " bits");
    return codes;
  }

  WeightCode weight_code(int bits) const {
    const WeightCode code = parse_weight_code(j.at("weight_code").get<std::string>());
    check(code != WeightCode::odd || bits < 8, ErrorKind::bad_data, "odd weights of ", bits, " bits");
    return code;
  }

  Clusters clusters(const Tensor& codes, int max_code) const {
    Clusters result{integer("cluster_size", 1, static_cast<int>(codes.dim(1))), codes,
                    tensor("scales", DType::u8)};
    const Shape expected{codes.dim(0), divided_up(codes.dim(1), result.size)};
    check(result.scales.shape() == expected, ErrorKind::bad_data, "tensor ", name, ".scales: expected ",
          expected, ", found ", result.scales.shape());
    check(std::ranges::all_of(result.scales.span<std::uint8_t>(),
                              [&](int scale) { return scale * max_code <= 127; }),
          ErrorKind::bad_data, "tensor ", name, ".scales: a weight is outside 8 bits");
    return result;
  }
};

// --- one function per kind

std::shared_ptr<IntegerOp> read_input(const Reader& r) {
  auto op = std::make_shared<InputOp>();
  const FixedPoint format = parse_format(r.j.at("format"));
  const Tensor& table = r.tensor("table", format.is_signed ? DType::s8 : DType::u8);
  check(table.rank() == 2 && (table.dim(0) == 1 || table.dim(0) == 3) && table.dim(1) == 256,
        ErrorKind::bad_data, "tensor ", r.name, ".table: expected [1 or 3, 256], found ", table.shape());
  const Tensor integers = kernels::convert_unscaled(table, DType::f32);
  check(std::ranges::all_of(integers.span<float>(),
                            [&](float v) { return v >= format.min() && v <= format.max(); }),
        ErrorKind::bad_data, "tensor ", r.name, ".table: a value is outside ", format);
  op->table = table;
  op->table.set_fixed_point(format);
  return op;
}

std::shared_ptr<IntegerOp> read_conv(const Reader& r) {
  auto op = std::make_shared<ConvOp>();
  op->weights = r.weights(4);
  op->weights.channel_scales = r.channel_scales(op->weights.values.dim(0));
  const Shape& kernel = op->weights.values.shape();
  const int groups = r.integer("groups", 1, 1 << 20);
  check(kernel[0] % groups == 0, ErrorKind::bad_data, "groups ", groups, " of ", kernel[0], " filters");
  op->geometry =
      ConvGeometry{.stride = r.integer("stride", 1, 64), .padding = r.padding(kernel), .groups = groups}.of(
          kernel);
  op->requantize = r.requantize(op->weights.values.dim(0));
  op->requantize.residual_multiplier = r.j.at("residual_multiplier").get<float>();
  check(std::isfinite(op->requantize.residual_multiplier) && op->requantize.residual_multiplier >= 0,
        ErrorKind::bad_data, "residual_multiplier ", op->requantize.residual_multiplier,
        ": expected a quotient of scales");
  return op;
}

std::shared_ptr<IntegerOp> read_norm_act(const Reader& r) {
  auto op = std::make_shared<NormActOp>();
  op->requantize = r.requantize(r.integer("channels", 1, 1 << 16));
  return op;
}

std::shared_ptr<IntegerOp> read_shortcut(const Reader& r) {
  auto op = std::make_shared<ShortcutOp>();
  op->stride = r.integer("stride", 1, 64);
  op->out_channels = r.integer("out_channels", 1, 1 << 16);
  return op;
}

std::shared_ptr<IntegerOp> read_max_pool(const Reader& r) {
  auto op = std::make_shared<MaxPoolOp>();
  op->options = {r.integer("kernel", 1, 64), r.integer("stride", 1, 64), r.integer("padding", 0, 32)};
  return op;
}

std::shared_ptr<IntegerOp> read_avg_pool(const Reader& r) {
  auto op = std::make_shared<AvgPoolOp>();
  op->options = {r.integer("kernel", 1, 64), r.integer("stride", 1, 64), r.integer("padding", 0, 32),
                 r.integer("output", 0, 64)};
  return op;
}

std::shared_ptr<IntegerOp> read_concat(const Reader&) { return std::make_shared<ConcatOp>(); }

std::shared_ptr<IntegerOp> read_global_avg_pool(const Reader&) { return std::make_shared<GlobalAvgPoolOp>(); }

std::shared_ptr<IntegerOp> read_linear(const Reader& r) {
  auto op = std::make_shared<LinearOp>();
  op->weights = r.weights(2);
  op->input = parse_format(r.j.at("input"));
  op->multiplier = r.finite("multiplier", op->weights.values.dim(0));
  op->bias = r.finite("bias", op->weights.values.dim(0));
  const float scale = logit_scale(*op);
  check(std::ranges::all_of(op->multiplier.span<float>(), [&](float m) { return m == scale; }),
        ErrorKind::bad_data, "tensor ", r.name, ".multiplier: a value is not ", scale,
        ", the scales' product");
  return op;
}

struct Kind {
  const char* name;
  std::shared_ptr<IntegerOp> (*read)(const Reader&);
};

const Kind kinds[] = {
    {"input", read_input},       {"conv", read_conv},
    {"norm_act", read_norm_act}, {"shortcut", read_shortcut},
    {"max_pool", read_max_pool}, {"avg_pool", read_avg_pool},
    {"concat", read_concat},     {"global_avg_pool", read_global_avg_pool},
    {"linear", read_linear},
};

const Kind& kind_of(const std::string& name) {
  const auto found = std::ranges::find(kinds, name, &Kind::name);
  check(found != std::end(kinds), ErrorKind::bad_data, "unknown op kind '", name, "'");
  return *found;
}

}  // namespace

std::shared_ptr<const IntegerOp> parse_op(const json& description, const NamedTensors& tensors,
                                          std::set<std::string>& used) {
  try {
    const std::string name = description.at("name").get<std::string>();
    const std::string kind = description.at("kind").get<std::string>();
    auto op = kind_of(kind).read({description, tensors, used, name});
    op->name = name;
    return op;
  } catch (const json::exception& error) {
    fail(ErrorKind::bad_data, cause_of(error));
  }
}

}  // namespace faq
