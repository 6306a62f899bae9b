#include "train/skipped_images.h"

#include <algorithm>
#include <string>
#include <vector>

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

SkippedImages::Samples SkippedImages::known_to(Met met, Known known) const {
  Samples samples;
  for (std::size_t i = 0; i < loaders_.size(); ++i) {
    for (const auto& [sample, text] : (loaders_[i]->*met)()) known[i].insert(sample);
    samples[i].assign(known[i].begin(), known[i].end());
  }
  return samples;
}

void SkippedImages::resume(const Samples& skipped, const Samples& faulty) {
  for (std::size_t i = 0; i < loaders_.size(); ++i) {
    known_[i].insert(skipped[i].begin(), skipped[i].end());
    faulty_[i].insert(faulty[i].begin(), faulty[i].end());
  }
}

}  // namespace faq
