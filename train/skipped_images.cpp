#include "train/skipped_images.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/json.h"
#include "core/text.h"

namespace faq {

std::int64_t SkippedImages::count() {
  std::int64_t all = 0;
  for (std::size_t i = 0; i < loaders_.size(); ++i) {
    std::vector<std::string> news;
    for (auto [sample, text] : loaders_[i]->skipped_samples()) {
      if (known_[i].contains(sample)) continue;
      std::ranges::replace(text, '\n', ' ');  // of a file's name
      news.push_back(concat(sample, " ", text));
    }
    for (const std::string& texts : ranks_.gather(join(news, "\n")))
      for (const std::string& text : split(texts, '\n')) {
        if (text.empty()) continue;
        const std::size_t space = text.find(' ');
        if (known_[i].insert(std::stoll(text.substr(0, space))).second)
          listener_.warning("skipped " + text.substr(space + 1));
      }
    const auto known = static_cast<std::int64_t>(known_[i].size());
    check_agreed(known <= most_, ErrorKind::bad_data, known, " images cannot be used, `skip_bad` ", most_);
    all += known;
  }
  return all;
}

std::int64_t SkippedImages::count_faulty() {
  std::int64_t all = 0;
  std::string first;  // of those that are new
  for (std::size_t i = 0; i < loaders_.size(); ++i) {
    std::vector<std::string> news;
    for (auto [sample, text] : loaders_[i]->faulty_samples()) {
      if (faulty_[i].contains(sample)) continue;
      std::ranges::replace(text, '\n', ' ');  // of a file's name
      news.push_back(news.empty() ? concat(sample, " ", text) : concat(sample, " "));
    }
    for (const std::string& texts : ranks_.gather(join(news, "\n")))
      for (const std::string& text : split(texts, '\n')) {
        if (text.empty()) continue;
        const std::size_t space = text.find(' ');
        if (faulty_[i].insert(std::stoll(text.substr(0, space))).second && first.empty())
          first = text.substr(space + 1);
      }
    all += static_cast<std::int64_t>(faulty_[i].size());
  }
  if (!first.empty())
    listener_.warning(concat("images with recoverable faults: ", all, ", one of them ", first));
  return all;
}

std::string SkippedImages::record() const {
  return nlohmann::json{{"skipped", known_}, {"faulty", faulty_}}.dump();
}

void SkippedImages::restore(const std::string& record, const std::string& source) {
  const std::string what = concat("checkpoint ", source, ": its record of skipped images");
  const nlohmann::json json = parse_json(record, what);
  const auto read = [&](const char* key, Samples& samples) {
    const auto& of_loaders = json.at(key);
    check(of_loaders.is_array() && of_loaders.size() == samples.size(), ErrorKind::bad_data, what, ": ", key,
          ": expected one list for each of ", samples.size(), " loaders");
    for (std::size_t i = 0; i < samples.size(); ++i)
      for (const auto& sample : of_loaders[i])
        samples[i].insert(parse_integer(sample, concat(what, ": ", key), 0, std::int64_t{1} << 53));
  };
  try {
    read("skipped", known_);
    read("faulty", faulty_);
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorKind::bad_data, what, ": ", cause_of(error));
  }
}

}  // namespace faq
