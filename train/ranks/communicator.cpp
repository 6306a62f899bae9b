#include "train/ranks/communicator.h"

#include <algorithm>

#include "train/ranks/wire.h"

namespace faq {
namespace {

std::future<void> ready() {
  std::promise<void> done;
  done.set_value();
  return done.get_future();
}

std::future<Communicator::Integers> ready(Communicator::Integers values) {
  std::promise<Communicator::Integers> done;
  done.set_value(std::move(values));
  return done.get_future();
}

}  // namespace

Communicator& single_process() {
  static Communicator communicator;
  return communicator;
}

std::string Communicator::name_of(int rank) const { return concat("rank ", rank, " of ", size()); }

std::future<void> Communicator::start_sum(ShardSums sums, Allreduce how) {
  NoWire wire;
  sum(sums, how, wire);
  return ready();
}

std::future<Communicator::Integers> Communicator::start_sum(Integers values) {
  return ready(std::move(values));
}
std::future<Communicator::Integers> Communicator::start_max(Integers values, Patience) {
  return ready(std::move(values));
}
std::future<void> Communicator::start_broadcast(Tensor) { return ready(); }

void Communicator::barrier(Patience patience) { start_max({0}, patience).get(); }

std::future<bool> Communicator::start_any(bool mine) {
  return std::async(std::launch::deferred,
                    [largest = start_max({mine ? 1 : 0})]() mutable { return largest.get().front() != 0; });
}

std::string Communicator::broadcast(const std::string& text) {
  if (size() == 1) return text;
  const std::int64_t length =
      start_max({is_first() ? static_cast<std::int64_t>(text.size()) : 0}).get().front();
  if (length == 0) return {};
  Tensor bytes = Tensor::empty({length}, DType::u8);
  if (is_first()) std::ranges::copy(text, bytes.mutable_data<std::uint8_t>());
  start_broadcast(bytes).get();
  return {static_cast<const char*>(bytes.raw()), static_cast<std::size_t>(length)};
}

// Each rank fills its own row of a table of zeros, so the sum of the tables is the table.
std::vector<std::string> Communicator::gather(const std::string& text) {
  if (size() == 1) return {text};
  const auto ranks = static_cast<std::size_t>(size()), own = static_cast<std::size_t>(rank());
  Integers lengths(ranks, 0);
  lengths[own] = static_cast<std::int64_t>(text.size());
  lengths = start_sum(std::move(lengths)).get();
  const auto words = (static_cast<std::size_t>(std::ranges::max(lengths)) + 7) / 8;
  Integers table(ranks * words, 0);
  std::ranges::copy(text, reinterpret_cast<char*>(table.data() + own * words));
  table = start_sum(std::move(table)).get();
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < ranks; ++i)
    texts.emplace_back(reinterpret_cast<const char*>(table.data() + i * words),
                       static_cast<std::size_t>(lengths[i]));
  return texts;
}

std::string Communicator::once(const std::function<std::string()>& make) {
  return broadcast(is_first() ? together(make) : std::string());
}

}  // namespace faq
