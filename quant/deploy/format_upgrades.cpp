// Upgrades files of older formats to the present one, one version at a time.
#include <algorithm>
#include <cmath>
#include <iterator>

#include "core/json.h"
#include "quant/deploy/integer_format.h"
#include "quant/deploy/weight_codes.h"

namespace faq {
namespace {

using nlohmann::json;

void rename(json& object, const char* from, const char* to) {
  check(object.contains(from), ErrorKind::bad_data, "missing \"", from, "\" in ", object.dump());
  object[to] = object.at(from);
  object.erase(from);
}

Tensor* find(NamedTensors& contents, const std::string& name) {
  const auto found = std::ranges::find(contents.tensors, name, [](const auto& entry) { return entry.first; });
  return found == contents.tensors.end() ? nullptr : &found->second;
}

// Format 1 had one padding for both directions.
void from_1_to_2(IntegerDocument& document) {
  for (json& op : document.network.at("ops"))
    if (op.at("kind") == "conv") op["padding"] = json::array({op.at("padding"), op.at("padding")});
}

// Format 2 stored two weights in a byte even where they have 2 bits. For an odd number of weights, the unused
// half of the last byte reads as a weight of 0, and the new packing stores it as 0 too.
Tensor packed_by_four(const std::string& name, const Tensor& stored) {
  check(stored.dtype() == DType::u8 && stored.rank() == 1, ErrorKind::bad_data, "tensor ", name,
        ": expected packed weights, found ", stored.dtype(), " ", stored.shape());
  const Tensor codes = unpack_codes(stored, 2, Shape{stored.numel() * 2}, /*is_signed=*/true);
  const auto values = codes.span<std::int8_t>();
  check(std::ranges::all_of(values, [](int code) { return code >= -1 && code <= 1; }), ErrorKind::bad_data,
        "tensor ", name, ": a value is outside 2 bits");
  return pack_codes(values, 4);
}

// In format 2 all weights are their own codes.
void from_2_to_3(IntegerDocument& document) {
  for (json& op : document.network.at("ops")) {
    if (!op.contains("weight_bits")) continue;
    op["weight_code"] = "fixed_point";
    if (op["weight_bits"] != 2) continue;
    const std::string name = op.at("name").get<std::string>() + ".weight";
    if (Tensor* stored = find(document.contents, name)) *stored = packed_by_four(name, *stored);
  }
}

// Early files do not store the scale of the weights. For a classifier it can be found from the multipliers,
// which are input.scale·weights.scale. For a convolution it is lost, but nothing that is computed depends on
// it.
float scale_of_weights(const json& op, NamedTensors& contents) {
  if (op.at("kind") != "linear") return 1;
  const Tensor* multiplier = find(contents, op.at("name").get<std::string>() + ".multiplier");
  check(multiplier != nullptr && multiplier->dtype() == DType::f32 && multiplier->numel() > 0,
        ErrorKind::bad_data, "linear ", op.at("name").dump(), ": no multipliers");
  const float product = multiplier->span<float>()[0], input = op.at("input").at("scale").get<float>();
  const float quotient = product / input;
  for (const float candidate : {quotient, std::nextafter(quotient, 0.0f), std::nextafter(quotient, INFINITY)})
    if (input * candidate == product) return candidate;
  return quotient;
}

json parsed_or_empty(NamedTensors& contents, const char* key) {
  const auto entry = contents.metadata.extract(key);
  if (entry.empty()) return json::array();
  json value = parse_json(entry.mapped(), key);
  return value.is_array() ? value : json::array();
}

// Format 3 wrote "step" for the scale of a quantizer. It stored the size of the images with the ops, and the
// rest of the preprocessing, if at all, as text that nobody checked.
void from_3_to_4(IntegerDocument& document) {
  json classes = json::array();
  std::size_t outputs = 0;
  for (json& op : document.network.at("ops")) {
    for (const char* format : {"format", "input"})
      if (op.contains(format)) rename(op[format], "step", "scale");
    if (!op.contains("weight_bits")) continue;
    if (op.contains("weight_step"))
      rename(op, "weight_step", "weight_scale");
    else
      op["weight_scale"] = scale_of_weights(op, document.contents);
    const json& shape = op.at("weight_shape");
    outputs =
        shape.is_array() && !shape.empty() && shape[0].is_number_unsigned() ? shape[0].get<std::size_t>() : 0;
  }
  for (const json& name : parsed_or_empty(document.contents, "classes"))
    classes.push_back(name.is_string() ? name : json(name.dump()));
  if (classes.size() != outputs) classes = json::array();

  json& images = document.preprocessing = json::object();
  for (const char* extent : {"height", "width", "channels"}) {
    images[extent] = document.network.at(extent);
    document.network.erase(extent);
  }
  const auto resize = document.contents.metadata.extract("resize");
  images["resize"] = resize.empty() ? json(0) : parse_json(resize.mapped(), "resize");
  images["mean"] = parsed_or_empty(document.contents, "mean");
  images["std"] = parsed_or_empty(document.contents, "std");
  images["classes"] = std::move(classes);
}

// Format 4 had one padding for opposite sides, no groups, ReLU or nothing, and one way to resize.
void from_4_to_5(IntegerDocument& document) {
  for (json& op : document.network.at("ops")) {
    const bool is_conv = op.at("kind") == "conv";
    if (!is_conv && op.at("kind") != "norm_act") continue;
    if (is_conv) {
      const json padding = op.at("padding");
      check(padding.is_array() && padding.size() == 2, ErrorKind::bad_data, "padding ", padding.dump(),
            ": expected [height, width]");
      op["padding"] = {padding[0], padding[1], padding[0], padding[1]};
      op["groups"] = 1;
    }
    const json& format = op.at("format");
    const auto bits = parse_integer(format.at("bits"), "bits", 2, 8);
    const bool is_signed = format.at("signed").get<bool>();
    const int high = (1 << (is_signed ? bits - 1 : bits)) - 1;
    op["low"] = op.at("relu").get<bool>() || !is_signed ? 0 : -high;
    op["high"] = high;
    op.erase("relu");
  }
  document.preprocessing["interpolation"] = name_of(Interpolation::bilinear);
}

using Upgrade = void (*)(IntegerDocument&);
constexpr Upgrade upgrades[] = {from_1_to_2, from_2_to_3, from_3_to_4, from_4_to_5};
static_assert(std::size(upgrades) + 1 == integer_format_version);

}  // namespace

void upgrade(IntegerDocument& document, int version) {
  for (int from = version; from < integer_format_version; ++from) upgrades[from - 1](document);
}

}  // namespace faq
