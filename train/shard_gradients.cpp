#include "train/shard_gradients.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/division.h"
#include "core/kernels/elementwise.h"
#include "core/parallel.h"

namespace faq {
namespace {

constexpr std::int64_t first_bucket_elements = (1 << 20) / sizeof(float);
constexpr std::int64_t bucket_elements = (25 << 20) / sizeof(float);
// A parameter begins on a cache line.
constexpr std::int64_t alignment = 64 / sizeof(float);

const auto add_right = [](Tensor& left, const Tensor& right) { kernels::add_in_place(left, right); };

std::int64_t padded(std::int64_t size) { return multiple_of(alignment, size); }

// What is left of the last cache line becomes 0: 16-bit sums take its magnitude into their scale.
void copy(const Tensor& from, Tensor& to, std::int64_t offset) {
  const float* source = from.data<float>();
  float* target = to.mutable_data<float>() + offset;
  parallel_for(from.numel(), 1 << 16, [&](std::int64_t begin, std::int64_t end) {
    std::memcpy(target + begin, source + begin, static_cast<std::size_t>(end - begin) * sizeof(float));
  });
  std::fill(target + from.numel(), target + padded(from.numel()), 0.0f);
}

}  // namespace

ShardGradients::ShardGradients(Module& model, Communicator& ranks, Allreduce how) : ranks_(ranks), how_(how) {
  for (auto& [name, var] : parameters(model)) {
    index_of_[var.id()] = parameters_.size();
    parameters_.push_back({.name = name, .var = var, .sums = {}, .shards = {}});
  }
  for_each_unit(model, [this](const std::string&, Unit& unit) {
    if (NormState* norm = unit.batch_norm()) norms_.push_back(norm);
  });
  make_buckets();
}

// Backward finishes parameters in about the reverse of the order in which a model lists them.
void ShardGradients::make_buckets() {
  for (std::size_t i = parameters_.size(); i-- > 0;) {
    Parameter& parameter = parameters_[i];
    const std::int64_t size = parameter.var.value().numel();
    const std::int64_t limit = buckets_.size() <= 1 ? first_bucket_elements : bucket_elements;
    if (buckets_.empty() || buckets_.back().size >= limit) buckets_.emplace_back();
    Bucket& bucket = buckets_.back();
    parameter.bucket = buckets_.size() - 1;
    parameter.offset = bucket.size;
    bucket.parameters.push_back(i);
    bucket.size += padded(size);
    bucket.ends.push_back(bucket.size);
  }
}

void ShardGradients::begin(int shards, const StepShards& of_step) {
  shards_ = shards;
  of_step_ = of_step;
  done_ = 0;
  sent_ = 0;
  sums_.clear();
  statistics_ = {};
  for (Parameter& parameter : parameters_) {
    parameter.sums = {};
    parameter.shards.clear();
    parameter.taken = 0;
  }
  for (Bucket& bucket : buckets_) {
    bucket.complete = of_step_.own() > 0 ? 0 : bucket.parameters.size();
    bucket.parts.clear();
    bucket.result = {};
  }
  if (of_step_.own() == 0 && travels()) send_complete_buckets();
}

OnLeaf ShardGradients::on_leaf() {
  if (is_alone()) return {};
  return [this](Var& leaf) {
    const auto found = index_of_.find(leaf.id());
    if (found != index_of_.end()) take(parameters_[found->second]);
  };
}

void ShardGradients::take(Parameter& parameter) {
  Tensor gradient = std::move(parameter.var.mutable_grad());
  parameter.var.clear_grad();
  ++parameter.taken;
  if (how_ == Allreduce::s16)
    parameter.shards.push_back(std::move(gradient));
  else
    parameter.sums.push(current(), std::move(gradient), of_step_.present, add_right);
  if (done_ + 1 < of_step_.own()) return;
  if (travels())
    place(parameter);
  else
    parameter.var.mutable_grad() = std::move(parameter.sums.nodes().front().sum);
}

void ShardGradients::place(Parameter& parameter) {
  Bucket& bucket = buckets_[parameter.bucket];
  std::vector<Tensor> parts = std::move(parameter.shards);
  for (auto& node : parameter.sums.nodes()) parts.push_back(std::move(node.sum));
  if (bucket.parts.empty())
    for (std::size_t i = 0; i < parts.size(); ++i) bucket.parts.push_back(Tensor::empty({bucket.size}));
  for (std::size_t i = 0; i < parts.size(); ++i) copy(parts[i], bucket.parts[i], parameter.offset);
  ++bucket.complete;
  send_complete_buckets();
}

void ShardGradients::send_complete_buckets() {
  for (; sent_ < buckets_.size() && buckets_[sent_].complete == buckets_[sent_].parameters.size(); ++sent_) {
    Bucket& bucket = buckets_[sent_];
    bucket.result = bucket.parts.empty() ? Tensor::empty({bucket.size}) : bucket.parts.front();
    ShardSums sums = contribution(std::move(bucket.parts), bucket.result);
    sums.ends = bucket.ends;
    sums_.push_back(ranks_.start_sum(std::move(sums), how_));
  }
}

ShardSums ShardGradients::contribution(std::vector<Tensor> parts, const Tensor& result) const {
  return {.shards = shards_,
          .present = of_step_.present,
          .parts = std::move(parts),
          .result = result,
          .ends = {}};
}

void ShardGradients::end_shard(const BatchStatistics& statistics) {
  if (is_only_shard())
    of_only_shard_ = statistics;
  else if (!norms_.empty())
    statistics_.push(current(), statistics.as_sums(norms_), of_step_.present, add_right);
  ++done_;
}

void ShardGradients::finish() {
  check(done_ == of_step_.own(), "gradients of a step: ", done_, " of ", of_step_.own(), " shards");
  if (travels())
    for (const Parameter& parameter : parameters_)
      check(parameter.taken == of_step_.own(), "gradients of a step: parameter ", parameter.name, ": ",
            parameter.taken, " gradients of ", of_step_.own(), " shards");
  BatchStatistics statistics = std::exchange(of_only_shard_, {});
  if (!norms_.empty() && !is_only_shard()) {
    std::vector<Tensor> parts;
    for (auto& node : statistics_.nodes()) parts.push_back(std::move(node.sum));
    Tensor result = parts.empty() ? BatchStatistics().as_sums(norms_) : parts.front();
    // By the tree, also where the gradients are not: they are few, and running averages want all their
    // digits.
    sums_.push_back(ranks_.start_sum(contribution(std::move(parts), result),
                                     how_ == Allreduce::mpi ? Allreduce::mpi : Allreduce::tree));
    for (auto& sum : sums_) sum.get();
    statistics = BatchStatistics::from_sums(result, norms_);
  } else {
    for (auto& sum : sums_) sum.get();
  }
  update_running_statistics(statistics);
  if (!travels()) return;
  for (Parameter& parameter : parameters_) {
    const Bucket& bucket = buckets_[parameter.bucket];
    parameter.var.mutable_grad() = bucket.result.placed(
        static_cast<std::size_t>(parameter.offset) * sizeof(float), parameter.var.shape(), DType::f32);
  }
  for (Bucket& bucket : buckets_) bucket.result = {};
}

}  // namespace faq
