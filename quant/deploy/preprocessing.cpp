#include "quant/deploy/preprocessing.h"

#include <algorithm>
#include <cmath>

#include "quant/deploy/integer_format.h"

namespace faq {
namespace {

using nlohmann::json;

constexpr int max_extent = 1 << 12;
constexpr const char* keys[] = {"height", "width", "channels", "resize", "mean", "std", "classes"};

void check_range(const char* what, int value, int low) {
  check(value >= low && value <= max_extent, ErrorKind::usage, "preprocessing: ", what, " ", value,
        ": expected ", low, " to ", max_extent);
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

void check_preprocessing(const Preprocessing& p) {
  check_range("height", p.height, 1);
  check_range("width", p.width, 1);
  check_range("resize", p.resize, 0);
  check(p.channels == 1 || p.channels == 3, ErrorKind::usage, "preprocessing: channels ", p.channels,
        ": expected 1 or 3");
  check(p.mean.size() == p.std.size(), ErrorKind::usage, "preprocessing: ", p.mean.size(), " means, ",
        p.std.size(), " standard deviations");
  check(p.mean.empty() || std::ssize(p.mean) == p.channels, ErrorKind::usage,
        "preprocessing: ", p.mean.size(), " means, ", p.channels, " channels");
  for (const float mean : p.mean)
    check(std::isfinite(mean), ErrorKind::usage, "preprocessing: mean ", mean, ": expected a finite number");
  for (const float std : p.std)
    check(std::isnormal(std) && std > 0, ErrorKind::usage, "preprocessing: std ", std,
          ": expected a positive number");
}

json describe(const Preprocessing& p) {
  return {{"height", p.height}, {"width", p.width}, {"channels", p.channels},  {"resize", p.resize},
          {"mean", p.mean},     {"std", p.std},     {"classes", p.class_names}};
}

Preprocessing parse_preprocessing(const json& j) {
  check(j.is_object(), ErrorKind::bad_data, "preprocessing: expected an object, found ", j.type_name());
  for (const char* key : keys)
    check(j.contains(key), ErrorKind::bad_data, "preprocessing: missing \"", key, "\"");
  for (const auto& [key, value] : j.items())
    check(std::ranges::find(keys, key) != std::end(keys), ErrorKind::bad_data, "preprocessing: unknown \"",
          key, "\"");
  const auto number = [&](const char* key, int low) {
    return static_cast<int>(parse_integer(j[key], concat("preprocessing: ", key), low, max_extent));
  };
  const Preprocessing result{.height = number("height", 1),
                             .width = number("width", 1),
                             .channels = number("channels", 1),
                             .resize = number("resize", 0),
                             .mean = parse_numbers(j["mean"], "mean"),
                             .std = parse_numbers(j["std"], "std"),
                             .class_names = parse_names(j["classes"])};
  check_preprocessing(result);
  return result;
}

}  // namespace faq
