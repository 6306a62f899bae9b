#include "quant/deploy/c_export.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <limits>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/atomic_file.h"
#include "core/kernels/elementwise.h"
#include "core/rng.h"
#include "core/text.h"
#include "quant/deploy/c_ops.h"  // made from quant/deploy/c by CMake
#include "quant/deploy/integer_requantize.h"
#include "quant/deploy/weight_codes.h"

namespace faq {
namespace {

// What an op is made of, in the order in which C wants to see it.
const std::vector<std::pair<std::string, std::vector<std::string>>> parts_of_ops{
    {"weights", {"conv", "linear"}},
    {"dot", {"conv", "linear"}},
    {"value", {"conv", "norm_act", "max_pool", "avg_pool", "global_avg_pool"}},
    {"requantize", {"conv", "norm_act"}},
    {"quantize", {"sums"}},  // a classifier that reads sums
    {"input", {"input"}},
    {"conv", {"conv"}},
    {"norm_act", {"norm_act"}},
    {"shortcut", {"shortcut"}},
    {"max_pool", {"max_pool"}},
    {"avg_pool", {"avg_pool"}},
    {"concat", {"concat"}},
    {"global_avg_pool", {"global_avg_pool"}},
    {"linear", {"linear"}}};

bool is_identifier(const std::string& name) {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  const auto is_part = [&](char c) { return is_letter(c) || (c >= '0' && c <= '9'); };
  return !name.empty() && name.size() <= 40 && is_letter(name[0]) && std::ranges::all_of(name, is_part);
}

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

// Text that may stand in a comment of C.
std::string commented(const std::string& text) {
  std::string result;
  for (const char c : text) result += (c >= ' ' && c <= '~' && c != '*') ? c : '.';
  return result;
}

// Adds a byte as it stands in a string literal: itself, or three octal digits, which no digit behind them can
// extend.
void append_escaped(unsigned char byte, std::string& text) {
  static constexpr char octal[] = "01234567";
  // A question mark is escaped because two of them may begin a trigraph.
  if (byte >= ' ' && byte < 127 && byte != '"' && byte != '\\' && byte != '?')
    text += static_cast<char>(byte);
  else
    text += {'\\', octal[byte >> 6], octal[byte >> 3 & 7], octal[byte & 7]};
}

std::string string_literal(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) append_escaped(static_cast<unsigned char>(c), result);
  return result + '"';
}

// An f32 as C99 writes it without loss.
std::string exact_float(float value) {
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%af", static_cast<double>(value));
  return text.data();
}

std::string layout(const TensorInfo& info) {
  std::string text;
  for (int axis = 1; axis < info.shape.rank(); ++axis) text += concat(axis > 1 ? "x" : "", info.shape[axis]);
  if (info.format)
    text += concat(", ", info.format->is_signed ? "signed" : "unsigned", " ", info.format->bits, " bits");
  return text;
}

// Where the values of one image lie, and what ops need beside them.
struct Places {
  std::vector<std::int64_t> values;   ///< of each node, but the last one, whose result goes to the caller
  std::vector<std::int64_t> scratch;  ///< of each node: one filter, or nothing
  std::int64_t bytes = 0;
};

// A filter, unpacked. A classifier that reads sums has their integers behind it.
std::int64_t scratch_bytes(const IntegerNetwork::Node& node, std::span<const TensorInfo> results) {
  const QuantizedWeights* weights = weights_of(*node.op);
  if (!weights) return 0;
  const std::int64_t filter = weights->values.numel() / weights->values.dim(0);
  const int input = node.inputs[0];
  const bool reads_sums = input > 0 && results[static_cast<std::size_t>(input) - 1].dtype == DType::s32;
  return reads_sums ? 2 * filter : filter;
}

Places places_of(const IntegerNetwork& network) {
  constexpr std::int64_t word = 4;
  const std::vector<IntegerNetwork::Node>& nodes = network.nodes();
  const auto count = nodes.size();
  std::vector<Lifetime> lifetimes;
  for (std::size_t i = 0; i < count; ++i) {
    const int at = static_cast<int>(i);
    const bool is_last = i + 1 == count;
    lifetimes.push_back({is_last ? 0 : network.results()[i].bytes(), at, at});
    for (const int input : nodes[i].inputs)
      if (input > 0) lifetimes[static_cast<std::size_t>(input) - 1].last = at;
  }
  for (std::size_t i = 0; i < count; ++i)
    lifetimes.push_back(
        {scratch_bytes(nodes[i], network.results()), static_cast<int>(i), static_cast<int>(i)});
  const MemoryPlan plan = plan_memory(lifetimes, word);
  Places places;
  const auto split = plan.offsets.begin() + static_cast<std::ptrdiff_t>(count);
  places.values.assign(plan.offsets.begin(), split);
  places.scratch.assign(split, plan.offsets.end());
  places.bytes = (plan.bytes + word - 1) / word * word;
  return places;
}

using Fields = std::vector<std::pair<const char*, std::string>>;

// Writes the tables of the ops and the calls of their functions, node by node.
class Writer final : public OpVisitor {
 public:
  /// `name`: of the network in C, in capitals.
  Writer(const IntegerNetwork& network, std::string name)
      : network_(network), name_(std::move(name)), places_(places_of(network)) {
    for (node_ = 0; node_ < network.nodes().size(); ++node_) op().accept(*this);
  }

  std::string tables, calls;
  std::set<std::string> kinds;
  std::int64_t constant_bytes = 0;
  float scale_of_logits = 0;
  bool has_literals = false;  ///< tables that are string literals
  std::int64_t arena_bytes() const { return places_.bytes; }

  void visit(const InputOp& op) override {
    const Shape& y = result().shape;
    const std::string own = structure({{"table", bytes("table", bytes_of(op.table))},
                                       {"channels", number(y[3])},
                                       {"pixels", count(y[1] * y[2])}});
    call("input", {own, "image", place()});
  }

  void visit(const ConvOp& op) override {
    const Shape &x = argument(0).shape, &y = result().shape;
    const ConvGeometry geometry = op.geometry.of(op.weights.values.shape());
    check(geometry.dilation == Extent(1) && geometry.groups == 1, ErrorKind::usage, where(), ": ", geometry,
          " has no place in C");
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
    Fields fields = windows(op.options.kernel, op.options.stride, op.options.padding);
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
    scale_of_logits = logit_scale(op);
    const std::string bias = array("float", "bias", op.bias.span<float>(), exact_float);
    const std::string own = structure({{"weights", weights(op.weights, 1)},
                                       {"bias", bias},
                                       {"scale", exact_float(scale_of_logits)},
                                       {"is_signed", op.input.is_signed ? "1" : "0"}});
    std::string read = place(0);
    if (x.dtype == DType::s32) {
      read = scratch("uint8_t", channels);
      kinds.insert("sums");
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

  static int largest(const FixedPoint& format) { return std::max(format.max(), -format.min()); }

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

  Fields windows(int kernel, int stride, int padding) const {
    const Shape &x = argument(0).shape, &y = result().shape;
    return {{"height", number(x[1])},     {"width", number(x[2])},      {"channels", number(x[3])},
            {"out_height", number(y[1])}, {"out_width", number(y[2])},  {"kernel", number(kernel)},
            {"stride", number(stride)},   {"padding", number(padding)}, {"is_signed", is_signed(0)}};
  }

  std::string weights(const QuantizedWeights& w, const Extent& kernel) {
    const bool has_scales = w.code == WeightCode::clusters;
    const Shape& shape = w.values.shape();
    const std::string codes = bytes("codes", bytes_of(stored_codes(w)));
    const std::string scales = has_scales ? bytes("scales", bytes_of(w.clusters.scales)) : "NULL";
    return braces({{"bytes", codes},
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
    const std::string multiplier = array("int32_t", "multiplier", r.multiplier);
    const std::string bias =
        array("int64_t", "bias", r.bias, [](std::int64_t v) { return concat("INT64_C(", v, ")"); });
    const std::string shift = array("uint8_t", "shift", r.shift);
    return braces({{"multiplier", multiplier},
                   {"bias", bias},
                   {"shift", shift},
                   {"residual", std::to_string(r.residual)},
                   {"residual_shift", concat(static_cast<int>(r.residual_shift))},
                   {"low", std::to_string(r.low)},
                   {"high", std::to_string(r.high)}});
  }

  // kernels::quantize rises with the sum: for each level the least sum that reaches it, by bisection of all
  // at once.
  std::string thresholds(const LinearOp& linear, const TensorInfo& sums) {
    const int levels = linear.input.max() - linear.input.min();
    std::vector<std::int64_t> below(static_cast<std::size_t>(levels),
                                    std::numeric_limits<std::int32_t>::min()),
        reached(below.size(), std::numeric_limits<std::int32_t>::max());
    Tensor tried = Tensor::empty({1, levels}, DType::s32);
    tried.set_fixed_point(*sums.format);
    for (int bit = 0; bit < 33; ++bit) {
      const auto middle = [&](std::size_t i) { return below[i] + (reached[i] - below[i]) / 2; };
      for (std::size_t i = 0; i < below.size(); ++i)
        tried.mutable_data<std::int32_t>()[i] = static_cast<std::int32_t>(middle(i));
      const std::vector<int> q = integers_of(kernels::quantize(tried, linear.input));
      for (std::size_t i = 0; i < below.size(); ++i)
        (q[i] > linear.input.min() + static_cast<int>(i) ? reached : below)[i] = middle(i);
    }
    const std::string table =
        array("int32_t", "thresholds", std::vector<std::int32_t>(reached.begin(), reached.end()));
    return structure(
        "quantize",
        {{"thresholds", table}, {"levels", number(levels)}, {"low", std::to_string(linear.input.min())}});
  }

  static std::vector<int> integers_of(const Tensor& t) {
    if (t.dtype() == DType::u8) return {t.span<std::uint8_t>().begin(), t.span<std::uint8_t>().end()};
    return {t.span<std::int8_t>().begin(), t.span<std::int8_t>().end()};
  }

  static std::span<const std::uint8_t> bytes_of(const Tensor& t) {
    return {static_cast<const std::uint8_t*>(t.raw()), static_cast<std::size_t>(t.numel())};
  }

  // Adds an array and returns its name.
  template <class Values>
  std::string array(const char* type, const char* what, const Values& values) {
    return array(type, what, values, [](auto value) { return std::to_string(value); });
  }
  template <class Values, class Text>
  std::string array(const char* type, const char* what, const Values& values, Text text_of) {
    const std::string name = begin_array(type, what, values.size());
    tables += " {";
    std::size_t length = longest_line;
    for (const auto& value : values) {
      const std::string text = text_of(value);
      if (length + text.size() > longest_line) tables += "\n    ", length = 0;
      tables += text;
      tables += ',';
      length += text.size() + 1;
    }
    tables += "\n};\n";
    constant_bytes += static_cast<std::int64_t>(values.size() * sizeof(*values.begin()));
    return name;
  }

  std::string bytes(const char* what, std::span<const std::uint8_t> values) {
    if (values.size() <= most_numbers) return array("uint8_t", what, values);
    // One more: the zero that ends a literal.
    const std::string name = begin_array("uint8_t", what, values.size() + 1);
    has_literals = true;
    tables += "\n    \"";
    std::size_t line = tables.size();
    for (const std::uint8_t value : values) {
      if (tables.size() - line >= longest_line) {
        tables += "\"\n    \"";
        line = tables.size();
      }
      append_escaped(value, tables);
    }
    tables += "\";\n";
    constant_bytes += std::ssize(values) + 1;
    return name;
  }

  std::string begin_array(const char* type, const char* what, std::size_t size) {
    const std::string name = concat(what, "_", node_);
    tables += concat("static ", name_, "_TABLE const ", type, " ", name, "[", size, "] =");
    return name;
  }

  static std::string braces(const Fields& fields) {
    std::string text = "{";
    for (const auto& [name, value] : fields)
      text += concat(text.size() > 1 ? ", " : "", ".", name, " = ", value);
    return text + "}";
  }
  std::string structure(const Fields& fields) { return structure(op().kind(), fields); }
  std::string structure(const std::string& type, const Fields& fields) {
    const std::string name = concat(type, "_", node_);
    tables += concat("static const struct ", type, " ", name, " = ", braces(fields), ";\n\n");
    return "&" + name;
  }

  void call(const char* function, const std::vector<std::string>& with) {
    kinds.insert(op().kind());
    std::string text = concat("    ", function, "(", join(with), "); DONE(", function, ");");
    text.resize(std::max<std::size_t>(text.size(), 90), ' ');
    calls += concat(text, " /* ", commented(op().name), ": ", layout(result()), " */\n");
  }

  static constexpr std::size_t longest_line = 110;
  // A longer table is a string literal. C99 promises 4095 bytes of one only, but compilers need little for
  // it: GCC 12 a twentieth of the time and a fifth of the memory of as many numbers, 2 GB for a hundred
  // megabytes.
  static constexpr std::size_t most_numbers = 1 << 16;

  const IntegerNetwork& network_;
  const std::string name_;
  const Places places_;
  std::size_t node_ = 0;
};

std::string with_name(std::string text, const std::string& name) {
  for (const auto& [mark, value] :
       {std::pair{std::string("@NAME@"), upper(name)}, {std::string("@name@"), name}})
    for (std::size_t at = 0; (at = text.find(mark, at)) != std::string::npos; at += value.size())
      text.replace(at, mark.size(), value);
  return text;
}

std::string header_text(const IntegerNetwork& network, const Writer& written) {
  const Preprocessing& p = network.preprocessing();
  const bool is_grey = p.channels == 1;
  std::string text = concat(
      "/* An integer network, made by faq.\n"
      " *\n"
      " * An image has ",
      p.height, " rows of ", p.width, " pixels of ", is_grey ? "1 byte" : "3 bytes (red, green, blue)",
      ",\n * one after the other: image[", is_grey ? "" : "(", "row * @NAME@_WIDTH + column",
      is_grey ? "" : ") * @NAME@_CHANNELS + channel", "].\n");
  if (p.resize > 0)
    text += concat(" * Its shorter side was resized to ", p.resize, " before the middle was cut out.\n");
  text +=
      " * Mean and deviation are in the network's first table.\n"
      " *\n"
      " * A logit is an integer times @NAME@_LOGIT_SCALE plus a bias, in float. The class is that of the\n"
      " * largest one.\n"
      " *\n"
      " * Nothing is allocated, and nothing but the arena is written to. One call runs at a time, in less\n"
      " * than 1 kB of stack.\n"
      " *\n"
      " * @name@.c may be compiled with\n"
      " *   @NAME@_TABLE    what weights and other tables are declared with, e.g. "
      "__attribute__((section(\".flash\")))\n"
      " *   @NAME@_ARENA    the same of the arena, e.g. __attribute__((section(\".dtcm\")))\n"
      " *   @NAME@_PROFILE  defined: @name@_op_done() is called after each op\n"
      " */\n"
      "#ifndef @NAME@_H\n#define @NAME@_H\n\n#include <stdint.h>\n\n";
  std::array<char, 40> scale{};
  std::snprintf(scale.data(), scale.size(), "%.8ef", static_cast<double>(written.scale_of_logits));
  text += concat("#define @NAME@_HEIGHT ", p.height, "\n#define @NAME@_WIDTH ", p.width,
                 "\n#define @NAME@_CHANNELS ", p.channels, "\n#define @NAME@_CLASSES ", network.num_classes(),
                 "\n#define @NAME@_LOGIT_SCALE ", scale.data(),
                 "\n/* What is written to: RAM. */\n#define @NAME@_ARENA_BYTES ", written.arena_bytes(),
                 "\n/* What is only read, beside the code: flash. */\n#define @NAME@_CONSTANT_BYTES ",
                 written.constant_bytes, "\n\n");
  text +=
      "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n"
      "/* Writes @NAME@_CLASSES logits for an image. */\n"
      "void @name@_run(const uint8_t *image, float *logits);\n\n"
      "/* The class of the largest logit, of equal ones the first. */\n"
      "int @name@_argmax(const float *logits);\n";
  if (!p.class_names.empty()) text += "\nextern const char *const @name@_class_names[@NAME@_CLASSES];\n";
  return text +
         "\n#ifdef @NAME@_PROFILE\n"
         "/* Yours: it may read a timer. Gets the name of the op that is done. */\n"
         "void @name@_op_done(const char *op);\n"
         "#endif\n"
         "\n#ifdef __cplusplus\n}\n#endif\n\n#endif\n";
}

// The source before and after the tables, which may be long.
std::pair<std::string, std::string> source_text(const IntegerNetwork& network, const Writer& written) {
  std::string before =
      "/* An integer network, made by faq: C99, no library, no allocation. What it computes are the bits of "
      "faq-eval.\n * @name@.h says how it is used. */\n";
  if (written.has_literals)
    before +=
        "#ifdef __GNUC__\n#pragma GCC diagnostic ignored \"-Woverlength-strings\" /* of tables */\n#endif\n";
  before += c_op("begin") + "\n";
  for (const auto& [part, ops] : parts_of_ops)
    if (std::ranges::any_of(ops, [&](const std::string& kind) { return written.kinds.contains(kind); }))
      before += c_op(part) + "\n";
  before += c_op("argmax") + "\n";
  before += "/* --- the network's tables, in the order of its ops */\n\n";
  std::string after =
      "/* --- the network */\n\nstatic @NAME@_ARENA int32_t arena[@NAME@_ARENA_BYTES / 4];\n\n"
      "void @name@_run(const uint8_t *image, float *logits)\n{\n    uint8_t *const bytes = (uint8_t "
      "*)arena;\n" +
      written.calls + "}\n";
  const std::vector<std::string>& names = network.preprocessing().class_names;
  if (!names.empty()) {
    after += "\nconst char *const @name@_class_names[@NAME@_CLASSES] = {\n";
    for (const std::string& name : names) after += concat("    ", string_literal(name), ",\n");
    after += "};\n";
  }
  return {before, after};
}

// Random pixels, and in every second image the same in blocks, which are more like pictures.
Tensor random_images(const IntegerNetwork& network, const CExportOptions& options) {
  constexpr std::int64_t block = 5;
  const std::int64_t height = network.height(), width = network.width(), channels = network.channels();
  Tensor images = Tensor::empty({options.test_images, height, width, channels}, DType::u8);
  auto* pixel = images.mutable_data<std::uint8_t>();
  for (std::int64_t n = 0; n < images.dim(0); ++n) {
    const std::int64_t side = n % 2 == 0 ? 1 : block;
    for (std::int64_t y = 0; y < height; ++y)
      for (std::int64_t x = 0; x < width; ++x)
        for (std::int64_t c = 0; c < channels; ++c) {
          const std::int64_t place = (y / side * width + x / side) * channels + c;
          Random random(options.seed, RandomStream::test, static_cast<std::uint64_t>(n),
                        static_cast<std::uint64_t>(place));
          *pixel++ = static_cast<std::uint8_t>(random.below(256));
        }
  }
  return images;
}

std::string test_text(const IntegerNetwork& network, const CExportOptions& options) {
  const Tensor images = random_images(network, options);
  const Tensor logits = network.forward(images);
  std::string text =
      "/* Runs the network of @name@.c on images that faq has run it on, and compares the bits of the "
      "logits. */\n"
      "#include <stdio.h>\n#include <string.h>\n#include <time.h>\n\n#include \"@name@.h\"\n\n";
  const auto rows = [&](const char* type, const char* name, const std::string& extent, const auto& values,
                        auto text_of) {
    text += concat("static const ", type, " ", name, "[", options.test_images, "][", extent, "] = {\n");
    const std::size_t length = values.size() / static_cast<std::size_t>(options.test_images);
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (i % length == 0) text += "    {";
      text += text_of(values[i]);
      text += i % length + 1 == length ? "},\n" : i % 24 == 23 ? ",\n     " : ",";
    }
    text += "};\n\n";
  };
  rows("uint8_t", "images", "@NAME@_HEIGHT * @NAME@_WIDTH * @NAME@_CHANNELS", images.span<std::uint8_t>(),
       [](std::uint8_t v) { return std::to_string(v); });
  rows("float", "expected", "@NAME@_CLASSES", logits.span<float>(), exact_float);
  return text + c_op("test");
}

void write(const std::filesystem::path& file, std::initializer_list<std::string_view> texts) {
  AtomicFile atomic(file);
  for (const std::string_view text : texts) atomic.write(text);
  atomic.commit();
}

}  // namespace

CExport export_c(const IntegerNetwork& network, const std::filesystem::path& folder,
                 const CExportOptions& options) {
  check(is_identifier(options.name), ErrorKind::usage, "'", options.name,
        "' is no identifier of C: expected letters, digits and _, at most 40");
  check(options.test_images >= 0 && options.test_images <= 1000, ErrorKind::usage, options.test_images,
        " images to test with: expected 0 to 1000");
  const Writer written(network, upper(options.name));
  const auto named = [&](const std::string& text) { return with_name(text, options.name); };
  const std::string header = named(header_text(network, written));
  const auto [before, after] = source_text(network, written);
  const std::string test = options.test_images > 0 ? named(test_text(network, options)) : "";

  std::error_code error;
  std::filesystem::create_directories(folder, error);
  check(!error, ErrorKind::io, folder, ": cannot be made: ", error.message());
  CExport result{.source = folder / (options.name + ".c"),
                 .header = folder / (options.name + ".h"),
                 .test = {},
                 .constant_bytes = written.constant_bytes,
                 .arena_bytes = written.arena_bytes()};
  write(result.header, {header});
  write(result.source, {named(before), written.tables, named(after)});
  if (!test.empty()) {
    result.test = folder / (options.name + "_test.c");
    write(result.test, {test});
  }
  return result;
}

}  // namespace faq
