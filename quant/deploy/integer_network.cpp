#include "quant/deploy/integer_network.h"

#include <algorithm>
#include <set>
#include <span>
#include <string_view>

#include "core/division.h"
#include "core/parallel.h"

namespace faq {
namespace {

// The most elements the result of one op may have for one image. More is refused before memory is allocated.
constexpr std::int64_t max_elements = 1 << 27;
// The most bytes an image may need at the same time.
constexpr std::int64_t max_block = std::int64_t{1} << 31;

// Images that a thread takes through the network together: as many as have values of some 16 MB at the same
// time, a thread's part of a third-level cache, but not so few that weights are read too often.
std::int64_t images_together(std::int64_t bytes_per_image) {
  constexpr std::int64_t cache_bytes = std::int64_t{1} << 24, fewest = 8;
  return std::max(fewest, cache_bytes / std::max<std::int64_t>(bytes_per_image, 1));
}

TensorInfo result_of(const IntegerOp& op, std::size_t index, std::span<const TensorInfo> inputs) {
  try {
    return op.result(inputs);
  } catch (const Error& error) {
    fail(error.kind(), "op ", index, " (", op.kind(), " '", op.name, "'): ", error.what());
  }
}

}  // namespace

IntegerNetwork::IntegerNetwork(std::vector<Node> nodes, Preprocessing preprocessing)
    : nodes_(std::move(nodes)), preprocessing_(std::move(preprocessing)) {
  check_preprocessing(preprocessing_);
  check_names_and_inputs();
  const std::int64_t names = std::ssize(preprocessing_.class_names), classes = num_classes();
  check(names == 0 || names == classes, ErrorKind::usage, "integer network: ", names, " class names, ",
        classes, " classes");
  plan_ = plan_for(height(), width());
  check_all_is_read();
}

IntegerNetwork::Plan IntegerNetwork::plan_for(std::int64_t height, std::int64_t width) const {
  Plan plan;
  std::vector<TensorInfo> values{{{1, height, width, channels()}, DType::u8, {}}};
  std::vector<Lifetime> lifetimes;
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    std::vector<TensorInfo> inputs;
    for (const int input : nodes_[i].inputs) {
      inputs.push_back(values[input]);
      if (input > 0) lifetimes[input - 1].last = static_cast<int>(i);
    }
    const TensorInfo result = result_of(*nodes_[i].op, i, inputs);
    check(result.shape.numel() <= max_elements, ErrorKind::usage, "integer network: '", nodes_[i].op->name,
          "' makes more than ", max_elements, " elements of an image");
    values.push_back(result);
    plan.results.push_back(result);
    const std::int64_t working = nodes_[i].op->working_bytes(inputs);
    check(working <= max_block, ErrorKind::usage, "integer network: '", nodes_[i].op->name, "' needs ",
          working, " bytes of working memory for an image, at most ", max_block);
    lifetimes.push_back({result.bytes(), static_cast<int>(i), static_cast<int>(i)});
  }
  lifetimes.pop_back();  // the logits do not lie in the block
  plan.memory = plan_memory(lifetimes);
  check(plan.memory.bytes <= max_block, ErrorKind::usage, "integer network: needs ", plan.memory.bytes,
        " bytes for an image, at most ", max_block);
  return plan;
}

void IntegerNetwork::check_names_and_inputs() const {
  check(!nodes_.empty(), "integer network: no ops");
  std::set<std::string> names;
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    check(names.insert(nodes_[i].op->name).second, "op ", i, ": another op is called '", nodes_[i].op->name,
          "'");
    for (const int input : nodes_[i].inputs)
      check(input >= 0 && input <= static_cast<int>(i), "op ", i, ": inputs: value ", input,
            ": expected 0 to ", i);
    // It makes integers of the image, which exporters read as such.
    check(nodes_[i].op->kind() != std::string_view("input") || nodes_[i].inputs == std::vector{0}, "op ", i,
          ": inputs: an input reads the image, value 0");
  }
}

void IntegerNetwork::check_all_is_read() const {
  std::vector<bool> is_read(nodes_.size() + 1);
  for (const Node& node : nodes_)
    for (const int input : node.inputs) is_read[static_cast<std::size_t>(input)] = true;
  for (std::size_t i = 0; i + 1 < nodes_.size(); ++i)
    check(is_read[i + 1], "op ", i, " (", nodes_[i].op->kind(), " '", nodes_[i].op->name,
          "'): nobody reads its result");
}

void IntegerNetwork::check_images(const Tensor& images) const {
  check(images.rank() == 4 && images.dtype() == DType::u8 && images.dim(3) == channels(),
        "integer network: expected u8 N,H,W,", channels(), " images, got ", images.dtype(), " ",
        images.shape());
}

void IntegerNetwork::run(const Tensor& images, Engine engine, const Plan& plan, Tensor& logits) const {
  const std::int64_t n = images.dim(0);
  const Tensor block = Tensor::empty({n * plan.memory.bytes}, DType::u8);
  std::vector<Tensor> values{images};
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    std::vector<Tensor> inputs;
    for (const int input : nodes_[i].inputs) inputs.push_back(values[input]);
    const TensorInfo& result = plan.results[i];
    const bool is_last = i + 1 == nodes_.size();
    Tensor out = is_last ? logits
                         : block.placed(static_cast<std::size_t>(n * plan.memory.offsets[i]),
                                        result.shape.with(0, n), result.dtype);
    if (result.format) out.set_fixed_point(*result.format);
    nodes_[i].op->run_into(inputs, engine, out);
    values.push_back(std::move(out));
  }
}

// With many images, each thread takes its share through the whole network without waiting for others. With
// few images, all threads work on the same op. The integers are the same.
Tensor IntegerNetwork::forward(const Tensor& images, Engine engine) const {
  check_images(images);
  const bool is_planned = images.dim(1) == height() && images.dim(2) == width();
  const Plan other = is_planned ? Plan() : plan_for(images.dim(1), images.dim(2));
  const Plan& plan = is_planned ? plan_ : other;
  const std::int64_t most = images_together(plan.memory.bytes);
  Tensor logits = Tensor::empty({images.dim(0), num_classes()});
  parallel_shares(images.dim(0), [&](std::int64_t begin, std::int64_t end, int) {
    const std::int64_t n = end - begin, groups = divided_up(n, most);
    for (std::int64_t group = 0; group < groups; ++group) {
      const std::int64_t first = begin + n * group / groups, past = begin + n * (group + 1) / groups;
      Tensor rows = logits.rows(first, past);
      run(images.rows(first, past), engine, plan, rows);
    }
  });
  return logits;
}

std::vector<Tensor> IntegerNetwork::forward_all(const Tensor& images, Engine engine) const {
  check_images(images);
  std::vector<Tensor> values{images};
  for (const Node& node : nodes_) {
    std::vector<Tensor> inputs;
    for (const int input : node.inputs) inputs.push_back(values[input]);
    values.push_back(node.op->run(inputs, engine));
  }
  values.erase(values.begin());
  return values;
}

std::int64_t IntegerNetwork::num_classes() const {
  struct Classifier final : PartialOpVisitor {
    using PartialOpVisitor::visit;
    void visit(const LinearOp& op) override { classes = op.weights.values.dim(0); }
    std::int64_t classes = 0;
  } last;
  nodes_.back().op->accept(last);
  check(last.classes > 0, "integer network: does not end in a classifier");
  return last.classes;
}

}  // namespace faq
