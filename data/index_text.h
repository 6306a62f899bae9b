// What was found on opening a data set, as text for other processes (DatasetOptions::once).
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <variant>
#include <vector>

namespace faq {

/// Lists, one after the other, as a MessagePack array. Names are binary values, because they need not be
/// UTF-8.
class IndexWriter {
 public:
  /// The names have no zero bytes.
  void add(const std::vector<std::string>& names);
  /// The numbers are not negative.
  void add(const std::vector<std::int64_t>& numbers);
  std::string text() const;

 private:
  nlohmann::json lists_ = nlohmann::json::array();
};

/// Reads the lists in the order in which they were added. Throws bad_data, with `what`, for anything that the
/// writer does not write.
class IndexReader {
 public:
  IndexReader(const std::string& text, std::string what);
  std::vector<std::string> names();
  std::vector<std::int64_t> numbers();
  void expect_end() const;

 private:
  using List = std::variant<std::vector<std::string>, std::vector<std::int64_t>>;
  template <class T>
  std::vector<T> next(const char* kind);

  std::string what_;
  std::vector<List> lists_;
  std::size_t at_ = 0;
};

/// True if a relative path stays below the folder that it is relative to.
bool stays_inside(const std::string& path);

}  // namespace faq
