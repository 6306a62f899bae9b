#include "quant/integer_network.h"

#include <algorithm>
#include <span>
#include <unordered_map>

#include "core/parallel.h"

namespace faq {
namespace {

constexpr const char* format_name = "faq-integer-network";
constexpr const char* format_version = "3";
constexpr std::int64_t max_extent = 1 << 12;
// Of one image's result of one op: what is larger is refused before memory is asked for.
constexpr std::int64_t max_elements = 1 << 27;

std::int64_t elements_of(const IntegerOp& op, std::span<const Tensor> inputs) {
  const Tensor& x = inputs[0];
  if (const auto* conv = dynamic_cast<const ConvOp*>(&op))
    return kernels::conv2d_shape(x.shape(), conv->weights.values.shape(), conv->options).numel();
  if (const auto* shortcut = dynamic_cast<const ShortcutOp*>(&op))
    return x.numel() / std::max<std::int64_t>(x.dim(x.rank() - 1), 1) * shortcut->out_channels;
  if (const auto* pool = dynamic_cast<const AvgPoolOp*>(&op))
    return kernels::avg_pool_shape(x.shape(), pool->options).numel();
  std::int64_t sum = 0;
  for (const Tensor& input : inputs) sum += input.numel();
  return sum;
}

std::int64_t integer(const nlohmann::json& value, std::int64_t low, std::int64_t high, const char* what) {
  check(value.is_number_integer() && value >= low && value <= high, ErrorKind::bad_data, what, " ",
        value.dump(), ": expected ", low, " to ", high);
  return value.get<std::int64_t>();
}

}  // namespace

IntegerNetwork IntegerNetwork::compile(Model& model, std::int64_t height, std::int64_t width,
                                       std::int64_t channels) {
  for_each_unit(model, [](const std::string& name, Unit& unit) {
    check(!unit.training(), "compile: '", name, "' is in training mode");
  });
  IntegerNetwork network;
  network.height_ = height;
  network.width_ = width;
  network.channels_ = channels;
  const Var images(Tensor::zeros({1, height, width, channels}, DType::u8));
  const Var logits = model.forward(images);
  std::unordered_map<const void*, int> value_of{{images.id(), 0}};
  for (const Var& var : topological_order(logits)) {
    if (var.same_node(images)) continue;
    auto op = std::dynamic_pointer_cast<const IntegerOp>(var.info());
    check(op != nullptr, "compile: '", var.op(), "' is not an integer op: the model is not quantized");
    Step step{std::move(op), {}};
    for (const Var& input : var.inputs()) step.inputs.push_back(value_of.at(input.id()));
    network.steps_.push_back(std::move(step));
    value_of.emplace(var.id(), static_cast<int>(network.steps_.size()));
  }
  network.plan();
  return network;
}

void IntegerNetwork::plan() {
  last_use_.assign(steps_.size() + 1, 0);
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    for (const int input : steps_[i].inputs) last_use_[input] = static_cast<int>(i);
  }
}

void IntegerNetwork::check_images(const Tensor& images) const {
  check(images.rank() == 4 && images.dtype() == DType::u8 && images.dim(3) == channels_,
        "integer network: expected u8 N,H,W,", channels_, " images, got ", images.dtype(), " ",
        images.shape());
}

Tensor IntegerNetwork::run(const Tensor& images, Engine engine, std::vector<Tensor>* all) const {
  std::vector<Tensor> values(steps_.size() + 1);
  values[0] = images;
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    std::vector<Tensor> inputs;
    for (const int input : steps_[i].inputs) inputs.push_back(values[input]);
    check(elements_of(*steps_[i].op, inputs) / std::max<std::int64_t>(images.dim(0), 1) <= max_elements,
          "integer network: '", steps_[i].op->name, "' makes more than ", max_elements,
          " elements of an image");
    values[i + 1] = steps_[i].op->run(inputs, engine);
    if (all) {
      all->push_back(values[i + 1]);
      continue;
    }
    for (const int input : steps_[i].inputs) {
      if (last_use_[input] == static_cast<int>(i)) values[input] = {};
    }
  }
  return values.back();
}

// Many images: each thread takes its share through the whole network and waits for nobody. Few: all threads
// work on the same op. The integers are the same.
Tensor IntegerNetwork::forward(const Tensor& images, Engine engine) const {
  check_images(images);
  Tensor logits = Tensor::empty({images.dim(0), num_classes()});
  parallel_shares(images.dim(0), [&](std::int64_t begin, std::int64_t end, int) {
    const Tensor part = run(images.rows(begin, end), engine, nullptr);
    Tensor rows = logits.rows(begin, end);
    check(part.shape() == rows.shape(), "integer network: logits ", part.shape(), " of ", end - begin,
          " images");
    std::ranges::copy(part.span<float>(), rows.mutable_data<float>());
  });
  return logits;
}

std::vector<Tensor> IntegerNetwork::forward_all(const Tensor& images, Engine engine) const {
  check_images(images);
  std::vector<Tensor> all;
  run(images, engine, &all);
  return all;
}

std::int64_t IntegerNetwork::num_classes() const {
  const auto* linear = dynamic_cast<const LinearOp*>(steps_.back().op.get());
  check(linear != nullptr, "integer network: does not end in a classifier");
  return linear->weights.values.dim(0);
}

std::int64_t IntegerNetwork::weight_bytes() const {
  NamedTensors tensors;
  for (const Step& step : steps_) describe(*step.op, tensors);
  std::int64_t bytes = 0;
  for (const auto& [name, tensor] : tensors.tensors) bytes += static_cast<std::int64_t>(tensor.bytes());
  return bytes;
}

void IntegerNetwork::save(const std::filesystem::path& file,
                          const std::map<std::string, std::string>& about) const {
  NamedTensors contents;
  nlohmann::json ops = nlohmann::json::array();
  for (const Step& step : steps_) {
    nlohmann::json op = describe(*step.op, contents);
    op["inputs"] = step.inputs;
    ops.push_back(std::move(op));
  }
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
  std::size_t index = 0;
  try {
    const auto json = nlohmann::json::parse(contents.metadata["network"]);
    network.height_ = integer(json.at("height"), 1, max_extent, "height");
    network.width_ = integer(json.at("width"), 1, max_extent, "width");
    network.channels_ = integer(json.at("channels"), 1, 3, "channels");
    const auto& ops = json.at("ops");
    check(ops.is_array() && !ops.empty(), ErrorKind::bad_data, "no ops");
    for (; index < ops.size(); ++index) {
      Step step{parse_op(ops[index], contents), {}};
      const auto& inputs = ops[index].at("inputs");
      check(inputs.is_array() && !inputs.empty(), ErrorKind::bad_data, "inputs ", inputs.dump());
      for (const auto& input : inputs) {
        step.inputs.push_back(
            static_cast<int>(integer(input, 0, static_cast<std::int64_t>(index), "inputs: value")));
      }
      network.steps_.push_back(std::move(step));
    }
    network.num_classes();
    network.plan();
    // Shapes and dtypes must fit together: found out once, on an empty image, instead of in the middle of an
    // evaluation.
    network.forward(Tensor::zeros({1, network.height_, network.width_, network.channels_}, DType::u8));
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorKind::bad_data, "integer network ", file, ": op ", index, ": ", error.what());
  } catch (const Error& error) {
    fail(ErrorKind::bad_data, "integer network ", file, ": op ", index, ": ", error.what());
  }
  for (const char* own : {"network", "format", "format_version"}) contents.metadata.erase(own);
  network.about_ = std::move(contents.metadata);
  return network;
}

}  // namespace faq
