// What the shards of a training step have learnt, added up over all ranks.
#pragma once

#include <cstddef>
#include <future>
#include <string>
#include <unordered_map>
#include <vector>

#include "data/loader.h"
#include "nn/module.h"
#include "train/ranks/communicator.h"

namespace faq {

/// Sums the gradients of a model's parameters over the shards of a step, and takes the mean of their
/// batch-norm statistics. Gradients travel in buckets while backward() is still computing others: the first
/// bucket has 1 MB, so that the network has work early, the others 25 MB (Li et al., VLDB 2020, section 4.2).
///
///   gradients.begin(shards, of_step);
///   for each own shard:  backward(loss, gradients.on_leaf());  gradients.end_shard(statistics);
///   gradients.finish();
///
/// Then the parameters' gradients are the sums over all shards, and the running statistics are updated, on
/// all ranks alike.
class ShardGradients {
 public:
  /// The model and the communicator must outlive it.
  ShardGradients(Module& model, Communicator& ranks, Allreduce how);

  /// `shards`: of a whole global batch.
  void begin(int shards, const StepShards& of_step);
  OnLeaf on_leaf();
  /// `statistics`: of the forward pass of this shard.
  void end_shard(const BatchStatistics& statistics);
  void finish();

 private:
  struct Parameter {
    std::string name;
    Var var;
    NodeStack<Tensor> sums;      ///< of the shards so far
    std::vector<Tensor> shards;  ///< s16: of each shard
    int taken = 0;               ///< own shards whose gradient has come
    std::size_t bucket = 0;
    std::int64_t offset = 0;  ///< in its bucket, in elements
  };
  struct Bucket {
    std::vector<std::size_t> parameters;
    std::int64_t size = 0;
    std::vector<std::int64_t> ends;
    // In a step:
    std::size_t complete = 0;  ///< parameters whose own shards are all in `parts`
    std::vector<Tensor> parts;
    Tensor result;
  };

  void make_buckets();
  /// The gradients stay where backward() leaves them.
  bool is_alone() const { return is_only_shard() && how_ != Allreduce::s16; }
  bool is_only_shard() const { return shards_ == 1; }
  bool travels() const { return ranks_.size() > 1 || how_ == Allreduce::s16; }
  ShardRange current() const { return {of_step_.begin + done_, of_step_.begin + done_ + 1}; }
  void take(Parameter& parameter);
  void place(Parameter& parameter);
  void send_complete_buckets();
  ShardSums contribution(std::vector<Tensor> parts, const Tensor& result) const;

  Communicator& ranks_;
  Allreduce how_;
  std::vector<Parameter> parameters_;
  std::unordered_map<const void*, std::size_t> index_of_;  ///< by Var::id
  std::vector<NormState*> norms_;
  std::vector<Bucket> buckets_;

  int shards_ = 1;
  StepShards of_step_;
  int done_ = 0;          ///< own shards
  std::size_t sent_ = 0;  ///< buckets; all ranks send them in one order
  std::vector<std::future<void>> sums_;
  BatchStatistics of_only_shard_;
  NodeStack<Tensor> statistics_;
};

}  // namespace faq
