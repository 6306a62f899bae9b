// What many tests share: temporary folders, files, fixtures and errors.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "data/dataset.h"
#include "tests/catch.h"

namespace faq::testing {

namespace fs = std::filesystem;

/// A folder that is gone at the end of the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    static std::atomic<int> count = 0;
    path_ = fs::temp_directory_path() / concat("faq-data-", ::getpid(), "-", count++);
    fs::create_directories(path_);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const fs::path& path() const { return path_; }
  fs::path operator/(const fs::path& name) const { return path_ / name; }

 private:
  fs::path path_;
};

inline std::string contents(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_file(const fs::path& file, const std::string& bytes) {
  fs::create_directories(file.parent_path());
  std::ofstream out(file, std::ios::binary);
  out << bytes;
  REQUIRE(out.good());
}

inline std::string file_bytes(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  INFO(file);
  REQUIRE(in.good());
  return {std::istreambuf_iterator<char>(in), {}};
}

inline std::span<const std::byte> as_bytes(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

inline fs::path fixture(const std::string& name) { return fs::path(FAQ_TEST_FIXTURES) / "images" / name; }

/// A binary PPM (P6) or PGM (P5) file as Pillow writes it.
inline Image read_pnm(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::string magic;
  Image image;
  int maximum = 0;
  in >> magic >> image.width >> image.height >> maximum;
  in.get();
  INFO(file);
  REQUIRE((in.good() && (magic == "P5" || magic == "P6") && maximum == 255));
  image.channels = magic == "P6" ? 3 : 1;
  image.pixels.assign(std::istreambuf_iterator<char>(in), {});
  REQUIRE(image.pixels.size() == static_cast<std::size_t>(image.height * image.width * image.channels));
  return image;
}

inline void check_equal(const Image& image, const Image& expected) {
  CHECK(image.height == expected.height);
  CHECK(image.width == expected.width);
  CHECK(image.channels == expected.channels);
  CHECK((image.pixels == expected.pixels));
}

/// The texts of opening a data set: recorded in one process, as rank 0 does, and replayed in another.
class OpeningTexts {
 public:
  Once record() {
    return [this](const std::function<std::string()>& make) { return texts.emplace_back(make()); };
  }
  Once replay() const {
    return [this, next = std::size_t{0}](const std::function<std::string()>&) mutable {
      return texts.at(next++);
    };
  }

  std::vector<std::string> texts;
};

/// The same samples in the same order, whatever their pixels are.
inline void check_equal(const Dataset& dataset, const Dataset& expected) {
  REQUIRE(dataset.size() == expected.size());
  CHECK(dataset.class_names() == expected.class_names());
  CHECK(dataset.channels() == expected.channels());
  for (std::int64_t i = 0; i < expected.size(); ++i) {
    CHECK(dataset.name(i) == expected.name(i));
    CHECK(dataset.label(i) == expected.label(i));
  }
  CHECK(dataset.shuffled(3, 5) == expected.shuffled(3, 5));
}

/// The error that `f` throws, if it throws one of ours; anything else escapes and fails the test.
template <class F>
std::optional<Error> error_of(F f) {
  try {
    f();
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

/// `f` must throw an error of this kind whose text contains `part`.
template <class F>
void check_error(ErrorKind kind, const std::string& part, F f) {
  const std::optional<Error> error = error_of(f);
  CAPTURE(part);
  REQUIRE(error.has_value());
  INFO(error->what());
  CHECK(error->kind() == kind);
  CHECK(std::string(error->what()).find(part) != std::string::npos);
}

/// The folder, if it is there; else a note that makes ctest count the test as skipped (tests/CMakeLists.txt),
/// which does nothing else.
inline std::optional<fs::path> data_in(const fs::path& folder) {
  if (fs::exists(folder)) return folder;
  WARN(folder.string() << " is not there: not tested on real data");
  return std::nullopt;
}

/// The same of the real data sets below $FAQ_DATA. The test has the tag [data].
inline std::optional<fs::path> real_data(const std::string& name) {
  if (const char* data = std::getenv("FAQ_DATA")) return data_in(fs::path(data) / name);
  WARN("FAQ_DATA is not set: not tested on real data");
  return std::nullopt;
}

}  // namespace faq::testing
