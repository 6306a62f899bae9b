#include "train/confusion.h"

#include <algorithm>

#include "core/error.h"

namespace faq {

std::int32_t predicted_class(std::span<const float> logits) {
  return static_cast<std::int32_t>(std::ranges::max_element(logits) - logits.begin());
}

void Confusion::add(const Tensor& logits, std::span<const std::int32_t> labels) {
  check(logits.rank() == 2 && logits.dim(0) == std::ssize(labels), "confusion: logits ", logits.shape(),
        " of ", labels.size(), " labels");
  const auto classes = static_cast<std::size_t>(logits.dim(1));
  for (std::size_t i = 0; i < labels.size(); ++i)
    ++counts_[{labels[i], predicted_class(logits.span<float>().subspan(i * classes, classes))}];
}

std::vector<Confusion::Cell> Confusion::cells() const {
  std::vector<Cell> all;
  for (const auto& [pair, images] : counts_) all.push_back({pair.first, pair.second, images});
  return all;
}

std::vector<Confusion::Cell> Confusion::most_confused(std::size_t most) const {
  std::vector<Cell> wrong = cells();
  std::erase_if(wrong, [](const Cell& cell) { return cell.label == cell.predicted; });
  std::ranges::stable_sort(wrong, [](const Cell& a, const Cell& b) { return a.images > b.images; });
  if (wrong.size() > most) wrong.resize(most);
  return wrong;
}

std::int64_t Confusion::count(std::int32_t label, std::int32_t predicted) const {
  const auto found = counts_.find({label, predicted});
  return found == counts_.end() ? 0 : found->second;
}

}  // namespace faq
