// Writes the preprocessing of an integer network as JSON, and parses it with every field checked.
#include <algorithm>
#include <iterator>

#include "core/json.h"
#include "quant/deploy/integer_format.h"

namespace faq {
namespace {

using nlohmann::json;

constexpr const char* keys[] = {"height",        "width", "channels", "resize",
                                "interpolation", "mean",  "std",      "classes"};

Interpolation parse_interpolation(const json& value) {
  for (const Interpolation one : {Interpolation::bilinear, Interpolation::bicubic})
    if (value == name_of(one)) return one;
  fail(ErrorKind::bad_data, "preprocessing: interpolation ", json_text(value),
       ": expected bilinear or bicubic");
}

std::vector<float> parse_numbers(const json& values, const char* key) {
  check(values.is_array(), ErrorKind::bad_data, "preprocessing: ", key, ": expected a list, found ",
        values.type_name());
  std::vector<float> numbers;
  for (const json& value : values) {
    check(value.is_number(), ErrorKind::bad_data, "preprocessing: ", key, ": expected numbers, found ",
          value.type_name());
    numbers.push_back(value.get<float>());
  }
  return numbers;
}

std::vector<std::string> parse_names(const json& values) {
  check(values.is_array(), ErrorKind::bad_data, "preprocessing: classes: expected a list, found ",
        values.type_name());
  std::vector<std::string> names;
  for (const json& value : values) {
    check(value.is_string(), ErrorKind::bad_data, "preprocessing: classes: expected names, found ",
          value.type_name());
    names.push_back(value.get<std::string>());
  }
  return names;
}

}  // namespace

json describe(const Preprocessing& p) {
  return {{"height", p.height},       {"width", p.width},
          {"channels", p.channels},   {"resize", p.resize},
          {"mean", p.mean},           {"std", p.std},
          {"classes", p.class_names}, {"interpolation", name_of(p.interpolation)}};
}

Preprocessing parse_preprocessing(const json& j) {
  check(j.is_object(), ErrorKind::bad_data, "preprocessing: expected an object, found ", j.type_name());
  for (const char* key : keys)
    check(j.contains(key), ErrorKind::bad_data, "preprocessing: missing \"", key, "\"");
  for (const auto& [key, value] : j.items())
    check(std::ranges::find(keys, key) != std::end(keys), ErrorKind::bad_data, "preprocessing: unknown \"",
          key, "\"");
  const auto number = [&](const char* key, int low) {
    return static_cast<int>(
        parse_integer(j[key], concat("preprocessing: ", key), low, Preprocessing::max_extent));
  };
  const Preprocessing result{.height = number("height", 1),
                             .width = number("width", 1),
                             .channels = number("channels", 1),
                             .resize = number("resize", 0),
                             .interpolation = parse_interpolation(j["interpolation"]),
                             .mean = parse_numbers(j["mean"], "mean"),
                             .std = parse_numbers(j["std"], "std"),
                             .class_names = parse_names(j["classes"])};
  check_preprocessing(result);
  return result;
}

}  // namespace faq
