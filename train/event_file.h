// Files of events as TensorBoard reads them: TFRecord frames of four small protobuf messages. They are
// written by hand: an encoder of their ten fields is shorter than what finds, generates for and links
// libprotobuf.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace faq {

/// CRC-32C (Castagnoli), and the same as TFRecord frames have it.
std::uint32_t crc32c(std::string_view bytes);
std::uint32_t masked_crc32c(std::string_view bytes);

/// What TensorBoard's HistogramProto holds. Bucket i has the values above limit i − 1, up to limit i.
struct EventHistogram {
  double min = 0, max = 0, count = 0, sum = 0, sum_of_squares = 0;
  std::vector<double> limits;
  std::vector<double> counts;
};
/// Of the numbers that a tensor stands for: f32, or integers with a scale. Integers get a bucket each where
/// they are few, floats 30 equal ones. Precondition: it is not empty.
EventHistogram histogram_of(const Tensor& values);

using EventScalar = std::pair<std::string, double>;

class EventFile {
 public:
  /// Creates the file, which may not exist, and says that what older files of the folder have beyond `step`
  /// is of no account. Throws io.
  EventFile(const std::filesystem::path& file, std::int64_t step);

  /// One event each, of this moment. A number that is not finite stays out. Throw io.
  void add(std::int64_t step, const std::vector<EventScalar>& scalars);
  void add(std::int64_t step, const std::string& tag, const EventHistogram& histogram);
  /// Hands everything to the operating system. Throws io.
  void flush();

 private:
  void write(std::int64_t step, const std::string& rest);

  std::filesystem::path name_;
  std::ofstream out_;
};

}  // namespace faq
