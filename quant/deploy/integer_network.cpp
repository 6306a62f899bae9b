#include "quant/deploy/integer_network.h"

#include <algorithm>
#include <span>
#include <unordered_map>

#include "core/json.h"
#include "core/kernels/elementwise.h"
#include "core/parallel.h"

namespace faq {
namespace {

constexpr const char* format_name = "faq-integer-network";
constexpr const char* format_version = "3";
constexpr std::int64_t max_extent = 1 << 12;
// Of one image's result of one op: what is larger is refused before memory is asked for.
constexpr std::int64_t max_elements = 1 << 27;
// Of what an image needs at the same time, in bytes.
constexpr std::int64_t max_block = std::int64_t{1} << 31;
constexpr std::size_t max_ops = 1 << 13;

TensorInfo result_of(const IntegerOp& op, std::size_t index, std::span<const TensorInfo> inputs) {
  try {
    return op.result(inputs);
  } catch (const Error& error) {
    fail(error.kind(), "op ", index, " (", op.kind(), " '", op.name, "'): ", error.what());
  }
}

std::int64_t integer(const nlohmann::json& value, std::int64_t low, std::int64_t high, const char* what) {
  check(value.is_number_integer() && value >= low && value <= high, ErrorKind::bad_data, what, " ",
        value.dump(), ": expected ", low, " to ", high);
  return value.get<std::int64_t>();
}

}  // namespace

IntegerNetwork IntegerNetwork::compile(Model& model, std::int64_t height, std::int64_t width,
                                       std::int64_t channels) {
  IntegerNetwork network;
  network.height_ = height;
  network.width_ = width;
  network.channels_ = channels;
  const EnableGrad recorded;  // the ops are read from the tape
  const Var images(Tensor::zeros({1, height, width, channels}, DType::u8));
  const Var logits = model.forward({}, images);
  std::unordered_map<const void*, int> value_of{{images.id(), 0}};
  for (const Var& var : topological_order(logits)) {
    if (var.same_node(images)) continue;
    auto op = std::dynamic_pointer_cast<const IntegerOp>(var.info());
    check(op != nullptr, "compile: '", var.op(), "' is not an integer op: the model is not quantized");
    Node node{std::move(op), {}};
    for (const Var& input : var.inputs()) node.inputs.push_back(value_of.at(input.id()));
    network.nodes_.push_back(std::move(node));
    value_of.emplace(var.id(), static_cast<int>(network.nodes_.size()));
  }
  network.plan_ = network.plan_for(height, width);
  return network;
}

IntegerNetwork::Plan IntegerNetwork::plan_for(std::int64_t height, std::int64_t width) const {
  Plan plan;
  std::vector<TensorInfo> values{{{1, height, width, channels_}, DType::u8, {}}};
  std::vector<Lifetime> lifetimes;
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    std::vector<TensorInfo> inputs;
    for (const int input : nodes_[i].inputs) {
      inputs.push_back(values[input]);
      if (input > 0) lifetimes[input - 1].last = static_cast<int>(i);
    }
    const TensorInfo result = result_of(*nodes_[i].op, i, inputs);
    check(result.shape.numel() <= max_elements, "integer network: '", nodes_[i].op->name,
          "' makes more than ", max_elements, " elements of an image");
    values.push_back(result);
    plan.results.push_back(result);
    const std::int64_t working = nodes_[i].op->working_bytes(inputs);
    check(working <= max_block, "integer network: '", nodes_[i].op->name, "' needs ", working,
          " bytes of working memory for an image, at most ", max_block);
    lifetimes.push_back({result.bytes(), static_cast<int>(i), static_cast<int>(i)});
  }
  lifetimes.pop_back();  // the logits go where they are wanted
  plan.memory = plan_memory(lifetimes);
  check(plan.memory.bytes <= max_block, "integer network: needs ", plan.memory.bytes,
        " bytes for an image, at most ", max_block);
  return plan;
}

// The file holds a network and nothing else.
void IntegerNetwork::check_nothing_is_left(const NamedTensors& contents,
                                           const std::set<std::string>& used) const {
  std::vector<bool> is_read(nodes_.size() + 1);
  for (const Node& node : nodes_)
    for (const int input : node.inputs) is_read[input] = true;
  for (std::size_t i = 0; i + 1 < nodes_.size(); ++i)
    check(is_read[i + 1], ErrorKind::bad_data, "op ", i, " (", nodes_[i].op->kind(), " '", nodes_[i].op->name,
          "'): nobody reads its result");
  for (const auto& [name, tensor] : contents.tensors)
    check(used.contains(name), ErrorKind::bad_data, "tensor ", name, ": no op uses it");
}

void IntegerNetwork::check_images(const Tensor& images) const {
  check(images.rank() == 4 && images.dtype() == DType::u8 && images.dim(3) == channels_,
        "integer network: expected u8 N,H,W,", channels_, " images, got ", images.dtype(), " ",
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

// Many images: each thread takes its share through the whole network and waits for nobody. Few: all threads
// work on the same op. The integers are the same.
Tensor IntegerNetwork::forward(const Tensor& images, Engine engine) const {
  check_images(images);
  const bool is_planned = images.dim(1) == height_ && images.dim(2) == width_;
  const Plan plan = is_planned ? Plan() : plan_for(images.dim(1), images.dim(2));
  Tensor logits = Tensor::empty({images.dim(0), num_classes()});
  parallel_shares(images.dim(0), [&](std::int64_t begin, std::int64_t end, int) {
    Tensor rows = logits.rows(begin, end);
    run(images.rows(begin, end), engine, is_planned ? plan_ : plan, rows);
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
  const auto* linear = dynamic_cast<const LinearOp*>(nodes_.back().op.get());
  check(linear != nullptr, "integer network: does not end in a classifier");
  return linear->weights.values.dim(0);
}

std::int64_t IntegerNetwork::weight_bytes() const {
  NamedTensors tensors;
  for (const Node& node : nodes_) describe(*node.op, tensors);
  std::int64_t bytes = 0;
  for (const auto& [name, tensor] : tensors.tensors) bytes += static_cast<std::int64_t>(tensor.bytes());
  return bytes;
}

void IntegerNetwork::save(const std::filesystem::path& file,
                          const std::map<std::string, std::string>& about) const {
  NamedTensors contents;
  nlohmann::json ops = nlohmann::json::array();
  for (const Node& node : nodes_) {
    nlohmann::json op = describe(*node.op, contents);
    op["inputs"] = node.inputs;
    ops.push_back(std::move(op));
  }
  for (const auto& [name, tensor] : contents.tensors)  // load() would refuse the file
    check(tensor.dtype() != DType::f32 || kernels::all_finite(tensor), ErrorKind::diverged, "writing ", file,
          ": '", name, "' is not finite: the network has diverged");
  contents.metadata = about;
  contents.metadata["format"] = format_name;
  contents.metadata["format_version"] = format_version;
  contents.metadata["network"] = nlohmann::json{
      {"height", height_},
      {"width", width_},
      {"channels", channels_},
      {"ops", std::move(ops)}}.dump();
  write_safetensors(file, contents);
}

bool is_integer_network(const std::map<std::string, std::string>& metadata) {
  const auto format = metadata.find("format");
  return format != metadata.end() && format->second == format_name;
}

IntegerNetwork IntegerNetwork::load(const std::filesystem::path& file) {
  NamedTensors contents = read_safetensors(file);
  check(is_integer_network(contents.metadata), ErrorKind::bad_data, "integer network ", file,
        ": not an integer network (its metadata has no \"format\": \"", format_name, "\")");
  const std::string& version = contents.metadata["format_version"];
  check(version == format_version, ErrorKind::bad_data, "integer network ", file, ": format version '",
        version, "', this program reads ", format_version);
  IntegerNetwork network;
  std::string where;
  try {
    const auto json = parse_json(contents.metadata["network"], "its description");
    network.height_ = integer(json.at("height"), 1, max_extent, "height");
    network.width_ = integer(json.at("width"), 1, max_extent, "width");
    network.channels_ = integer(json.at("channels"), 1, 3, "channels");
    check(network.channels_ != 2, ErrorKind::bad_data, "channels 2: expected 1 or 3");
    const auto& ops = json.at("ops");
    check(ops.is_array() && !ops.empty(), ErrorKind::bad_data, "no ops");
    check(ops.size() <= max_ops, ErrorKind::bad_data, ops.size(), " ops, at most ", max_ops);
    std::set<std::string> names, used;
    for (std::size_t index = 0; index < ops.size(); ++index) {
      const auto& description = ops[index];
      where =
          concat("op ", index, description.contains("name") ? " " + description["name"].dump() : "", ": ");
      Node node{parse_op(description, contents, used), {}};
      check(names.insert(node.op->name).second, ErrorKind::bad_data, "another op is called '", node.op->name,
            "'");
      const auto& inputs = description.at("inputs");
      check(inputs.is_array() && !inputs.empty(), ErrorKind::bad_data, "inputs ", inputs.dump());
      for (const auto& input : inputs) {
        node.inputs.push_back(
            static_cast<int>(integer(input, 0, static_cast<std::int64_t>(index), "inputs: value")));
      }
      network.nodes_.push_back(std::move(node));
    }
    where.clear();
    network.num_classes();
    network.plan_ = network.plan_for(network.height_, network.width_);
    network.check_nothing_is_left(contents, used);
    // That shapes and dtypes fit together is known from the plan. What else a kernel may refuse is found out
    // once, on an empty image, instead of in the middle of an evaluation.
    network.forward(Tensor::zeros({1, network.height_, network.width_, network.channels_}, DType::u8));
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorKind::bad_data, "integer network ", file, ": ", where, error.what());
  } catch (const Error& error) {
    fail(ErrorKind::bad_data, "integer network ", file, ": ", where, error.what());
  }
  for (const char* own : {"network", "format", "format_version"}) contents.metadata.erase(own);
  network.about_ = std::move(contents.metadata);
  return network;
}

}  // namespace faq
