#include "train/event_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cmath>

#include "core/error.h"
#include "core/kernels/elementwise.h"

namespace faq {
namespace {

// --- protobuf's wire format: fields of a number and a type

enum class Wire { varint = 0, bits64 = 1, bytes = 2, bits32 = 5 };

template <class Number>
std::string little_endian(Number value) {
  std::string text;
  for (std::size_t i = 0; i < sizeof value; ++i) text += static_cast<char>(value >> (8 * i) & 0xff);
  return text;
}

std::string varint(std::uint64_t value) {
  std::string text;
  for (; value >= 0x80; value >>= 7) text += static_cast<char>(value | 0x80);
  return text + static_cast<char>(value);
}

std::string key(int field, Wire wire) {
  return varint(static_cast<std::uint64_t>(field) << 3 | static_cast<std::uint64_t>(wire));
}

std::string integer_field(int field, std::int64_t value) {
  return key(field, Wire::varint) + varint(static_cast<std::uint64_t>(value));
}
std::string double_field(int field, double value) {
  return key(field, Wire::bits64) + little_endian(std::bit_cast<std::uint64_t>(value));
}
std::string float_field(int field, float value) {
  return key(field, Wire::bits32) + little_endian(std::bit_cast<std::uint32_t>(value));
}
std::string bytes_field(int field, std::string_view bytes) {
  return key(field, Wire::bytes) + varint(bytes.size()) + std::string(bytes);
}
std::string packed_field(int field, const std::vector<double>& values) {
  std::string packed;
  for (const double value : values) packed += little_endian(std::bit_cast<std::uint64_t>(value));
  return bytes_field(field, packed);
}

// --- the messages, with the numbers that their fields have in TensorFlow's event.proto and summary.proto

std::string session_started() {
  constexpr int session_log = 7, status = 1, start = 1;
  return bytes_field(session_log, integer_field(status, start));
}

std::string summary(const std::string& values) {
  constexpr int of_event = 5;
  return bytes_field(of_event, values);
}

std::string summary_value(const std::string& tag, const std::string& content) {
  constexpr int value = 1, name = 1;
  return bytes_field(value, bytes_field(name, tag) + content);
}

std::string scalar(double value) {
  constexpr int simple_value = 2;
  return float_field(simple_value, static_cast<float>(value));
}

std::string histogram(const EventHistogram& h) {
  constexpr int histo = 5, min = 1, max = 2, count = 3, sum = 4, sum_of_squares = 5, limits = 6, counts = 7;
  return bytes_field(histo, double_field(min, h.min) + double_field(max, h.max) +
                                double_field(count, h.count) + double_field(sum, h.sum) +
                                double_field(sum_of_squares, h.sum_of_squares) +
                                packed_field(limits, h.limits) + packed_field(counts, h.counts));
}

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

constexpr std::array<std::uint32_t, 256> crc_table = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0u);
    table[i] = crc;
  }
  return table;
}();

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  std::uint32_t crc = ~0u;
  for (const char byte : bytes) crc = crc >> 8 ^ crc_table[(crc ^ static_cast<unsigned char>(byte)) & 0xff];
  return ~crc;
}

std::uint32_t masked_crc32c(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xA282EAD8u; }

EventHistogram histogram_of(const Tensor& values) {
  constexpr int most_buckets = 64, equal_buckets = 30;
  check(values.numel() > 0, "histogram of an empty tensor");
  const Tensor floats = kernels::convert(values, DType::f32);
  const auto x = floats.span<float>();
  EventHistogram h;
  const auto [min, max] = std::ranges::minmax(x);
  h.min = min;
  h.max = max;
  h.count = static_cast<double>(x.size());
  for (const float v : x) {
    h.sum += v;
    h.sum_of_squares += static_cast<double>(v) * v;
  }
  if (!std::isfinite(h.sum_of_squares)) return h;  // without counts: no bucket has such values
  // The edges of integers lie between them.
  const bool on_grid = values.is_fixed_point() && values.dtype() != DType::s32 &&
                       values.fixed_point().max() - values.fixed_point().min() < most_buckets;
  const double scale = on_grid ? values.fixed_point().scale : 0;
  const double first = on_grid ? (values.fixed_point().min() - 0.5) * scale : h.min;
  const int buckets = on_grid ? values.fixed_point().max() - values.fixed_point().min() + 1 : equal_buckets;
  const double width = on_grid ? scale : (h.max - h.min) / equal_buckets;
  for (int i = 1; i <= buckets; ++i) h.limits.push_back(first + i * width);
  if (!on_grid) h.limits.back() = h.max;
  h.counts.resize(static_cast<std::size_t>(buckets));
  for (const float v : x) {
    const double place = width > 0 ? (v - first) / width : 0;
    ++h.counts[static_cast<std::size_t>(std::clamp(place, 0.0, buckets - 1.0))];
  }
  return h;
}

EventFile::EventFile(const std::filesystem::path& file, std::int64_t step)
    : name_(file), out_(file, std::ios::binary | std::ios::app) {
  constexpr int file_version = 3;
  check(out_.good(), ErrorKind::io, "opening ", file, " for writing");
  write(0, bytes_field(file_version, "brain.Event:2"));
  write(step, session_started());
  flush();
}

void EventFile::add(std::int64_t step, const std::vector<EventScalar>& scalars) {
  std::string values;
  for (const auto& [tag, value] : scalars)
    if (std::isfinite(value)) values += summary_value(tag, scalar(value));
  if (!values.empty()) write(step, summary(values));
}

void EventFile::add(std::int64_t step, const std::string& tag, const EventHistogram& h) {
  if (std::isfinite(h.sum_of_squares)) write(step, summary(summary_value(tag, histogram(h))));
}

// A frame: length, its checksum, data, their checksum.
void EventFile::write(std::int64_t step, const std::string& rest) {
  constexpr int wall_time = 1, number = 2;
  const std::string event = double_field(wall_time, now()) + integer_field(number, step) + rest;
  const std::string length = little_endian(static_cast<std::uint64_t>(event.size()));
  out_ << length << little_endian(masked_crc32c(length)) << event << little_endian(masked_crc32c(event));
  check(out_.good(), ErrorKind::io, "writing ", name_);
}

void EventFile::flush() {
  out_.flush();
  check(out_.good(), ErrorKind::io, "writing ", name_);
}

}  // namespace faq
