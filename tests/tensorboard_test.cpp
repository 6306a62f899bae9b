// Events for TensorBoard, decoded by hand: frames, then protobuf's fields.
#include "train/tensorboard.h"

#include <cstring>
#include <numeric>
#include <set>

#include "tests/run_testing.h"
#include "train/event_file.h"

using namespace faq;
using namespace faq::testing;

namespace {

template <class Number>
Number number_at(const std::string& bytes, std::size_t at) {
  Number number{};
  REQUIRE(at + sizeof number <= bytes.size());
  std::memcpy(&number, bytes.data() + at, sizeof number);
  return number;
}

// The data of all frames, whose checksums must be right.
std::vector<std::string> frames_in(const std::string& bytes) {
  std::vector<std::string> frames;
  for (std::size_t at = 0; at < bytes.size();) {
    const auto length = number_at<std::uint64_t>(bytes, at);
    CHECK(number_at<std::uint32_t>(bytes, at + 8) == masked_crc32c(bytes.substr(at, 8)));
    frames.push_back(bytes.substr(at + 12, length));
    REQUIRE(frames.back().size() == length);
    CHECK(number_at<std::uint32_t>(bytes, at + 12 + length) == masked_crc32c(frames.back()));
    at += 16 + length;
  }
  return frames;
}

// The fields of a message by their numbers: the bytes of each.
std::multimap<int, std::string> fields_of(const std::string& message) {
  std::multimap<int, std::string> fields;
  std::size_t at = 0;
  const auto varint = [&] {
    std::uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = number_at<std::uint8_t>(message, at++);
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < message.size()) {
    const std::uint64_t key = varint();
    std::size_t size = 0;
    std::string value;
    switch (key & 7) {
      case 0: {
        const std::uint64_t number = varint();
        value.assign(reinterpret_cast<const char*>(&number), 8);
        break;
      }
      case 1:
        size = 8;
        break;
      case 2:
        size = varint();
        break;
      case 5:
        size = 4;
        break;
      default:
        FAIL("wire type " << (key & 7));
    }
    REQUIRE(at + size <= message.size());
    if (size > 0) value = message.substr(at, size);
    at += size;
    fields.emplace(static_cast<int>(key >> 3), value);
  }
  return fields;
}

std::string field(const std::multimap<int, std::string>& fields, int number) {
  REQUIRE(fields.count(number) == 1);
  return fields.find(number)->second;
}

struct Read {
  std::map<std::string, std::map<std::int64_t, float>> scalars;
  std::map<std::string, std::map<std::int64_t, EventHistogram>> histograms;
  std::vector<std::int64_t> sessions;
};

Read read_events(const std::string& bytes) {
  Read read;
  const std::vector<std::string> frames = frames_in(bytes);
  REQUIRE_FALSE(frames.empty());
  CHECK(field(fields_of(frames.front()), 3) == "brain.Event:2");
  for (const std::string& frame : frames) {
    const auto event = fields_of(frame);
    CHECK(number_at<double>(field(event, 1), 0) > 1.6e9);
    const auto step = number_at<std::int64_t>(field(event, 2), 0);
    if (event.contains(7)) read.sessions.push_back(step);
    if (!event.contains(5)) continue;
    const auto summary = fields_of(field(event, 5));
    for (const auto& [number, bytes_of_value] : summary) {
      CHECK(number == 1);
      const auto value = fields_of(bytes_of_value);
      const std::string tag = field(value, 1);
      if (value.contains(2)) read.scalars[tag][step] = number_at<float>(field(value, 2), 0);
      if (!value.contains(5)) continue;
      const auto histogram = fields_of(field(value, 5));
      EventHistogram& h = read.histograms[tag][step];
      double* const numbers[] = {&h.min, &h.max, &h.count, &h.sum, &h.sum_of_squares};
      for (int i = 0; i < 5; ++i) *numbers[i] = number_at<double>(field(histogram, i + 1), 0);
      for (auto& [key, list] : {std::pair(6, &h.limits), std::pair(7, &h.counts)}) {
        const std::string packed = field(histogram, key);
        for (std::size_t at = 0; at < packed.size(); at += 8) list->push_back(number_at<double>(packed, at));
      }
    }
  }
  return read;
}

std::vector<fs::path> event_files(const fs::path& folder) {
  std::set<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().filename().string().starts_with("events.out.tfevents.")) files.insert(entry.path());
  return {files.begin(), files.end()};
}

}  // namespace

TEST_CASE("checksums of event files", "[tensorboard]") {
  struct Row {
    std::string bytes;
    std::uint32_t crc;
  };
  // RFC 3720, appendix B.4, and the usual check value.
  std::string rising;
  for (int i = 0; i < 32; ++i) rising += static_cast<char>(i);
  for (const Row& row : {Row{"", 0}, Row{"123456789", 0xE3069283}, Row{std::string(32, '\0'), 0x8A9136AA},
                         Row{std::string(32, '\xff'), 0x62A8AB43}, Row{rising, 0x46DD794E}})
    CHECK(crc32c(row.bytes) == row.crc);
  CHECK(masked_crc32c("123456789") == ((0xE3069283u >> 15 | 0xE3069283u << 17) + 0xA282EAD8u));
}

TEST_CASE("a histogram of numbers that are not finite has no counts", "[tensorboard]") {
  for (const float odd : {NAN, INFINITY, -INFINITY}) {
    const EventHistogram h = histogram_of(Tensor::from({3}, {1, odd, 2}));
    CHECK(h.counts.empty());
    CHECK_FALSE(std::isfinite(h.sum_of_squares));  // EventFile writes none of these
  }
}

TEST_CASE("histograms of floats and of integers", "[tensorboard]") {
  const EventHistogram floats = histogram_of(Tensor::from({5}, {-1, 0, 0.5f, 1, 2}));
  CHECK(floats.min == -1);
  CHECK(floats.max == 2);
  CHECK(floats.count == 5);
  CHECK(floats.sum == 2.5);
  CHECK(floats.sum_of_squares == 6.25);
  REQUIRE(floats.limits.size() == 30);
  CHECK(floats.limits.back() == 2);
  CHECK(floats.counts.front() == 1);
  CHECK(floats.counts.back() == 1);
  CHECK(histogram_of(Tensor::from({2}, {3, 3})).counts.front() == 2);

  Tensor codes = Tensor::from<std::uint8_t>({4}, std::vector<std::uint8_t>{0, 0, 3, 1});
  codes.set_fixed_point({.scale = 0.5f, .bits = 2, .is_signed = false});
  const EventHistogram integers = histogram_of(codes);
  CHECK(integers.limits == std::vector<double>{0.25, 0.75, 1.25, 1.75});
  CHECK(integers.counts == std::vector<double>{2, 1, 0, 1});
  CHECK(integers.max == 1.5);
}

TEST_CASE("what TensorBoard reads of a run", "[tensorboard]") {
  const TemporaryFolder output;
  const Words options =
      faq_options +
      Words{"--hold-weight-scales", "1", "--tensorboard", "--report", "none", "--distill", "joint"};
  require_done(train_by_program(output.path(), options));
  REQUIRE(event_files(output.path()).size() == 1);
  const Read read = read_events(file_bytes(event_files(output.path()).front()));
  CHECK(read.sessions == std::vector<std::int64_t>{0});
  std::set<std::string> tags;
  for (const auto& [tag, values] : read.scalars) tags.insert(tag);
  CHECK(tags == std::set<std::string>{"epoch", "eval_loss", "eval_top1", "eval_top5", "images_per_s", "lr",
                                      "train_divergence", "train_loss", "train_top1"});
  for (const json& line : metrics(output.path())) {
    const std::int64_t step = line["step"];
    INFO("step " << step);
    if (line.contains("val_loss")) {
      CHECK(read.scalars.at("eval_top1").at(step) == Approx(line["top1"].get<double>()));
      CHECK(read.scalars.at("eval_loss").at(step) == Approx(line["val_loss"].get<double>()));
    } else {
      CHECK(read.scalars.at("train_loss").at(step) == Approx(line["train_loss"].get<double>()));
      CHECK(read.scalars.at("train_divergence").at(step) == Approx(line["train_divergence"].get<double>()));
      CHECK(read.scalars.at("lr").at(step) == Approx(line["lr"].get<double>()));
    }
  }
  CHECK(read.scalars.at("train_loss").size() == 20);
  // Before training and after both epochs.
  const auto& weights = read.histograms.at("weights/layer1.0.conv1");
  const auto& activations = read.histograms.at("activations/layer1.0.conv1");
  REQUIRE(weights.size() == 3);
  REQUIRE(activations.size() == 3);
  for (const auto& [step, h] : weights) CHECK(h.count == 16 * 16 * 9);
  for (const auto& [step, h] : activations) {
    CHECK(h.limits.size() == 16);  // 4 bits
    CHECK(h.min >= 0);
    CHECK(std::accumulate(h.counts.begin(), h.counts.end(), 0.0) == h.count);
  }
  CHECK(weights.begin()->second.sum != weights.rbegin()->second.sum);

  // A run that goes on begins a file of its own, and says from where.
  require_done(train_by_program(output.path(), options + Words{"--resume", "auto", "--epochs", "3"}));
  const std::vector<fs::path> files = event_files(output.path());
  REQUIRE(files.size() == 2);
  const Read second = read_events(file_bytes(files.back()));
  CHECK(second.sessions == std::vector<std::int64_t>{20});
  CHECK(second.scalars.at("train_loss").begin()->first == 21);
}

TEST_CASE("the events change nothing of a run", "[tensorboard]") {
  const TemporaryFolder with, without;
  require_done(train_by_program(with.path(), faq_options + Words{"--tensorboard", "--report", "none"}));
  require_done(train_by_program(without.path(), faq_options + Words{"--report", "none"}));
  check_same_run(with.path(), without.path(), 20);
  CHECK(event_files(without.path()).empty());
}
