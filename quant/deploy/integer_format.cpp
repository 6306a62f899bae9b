#include "quant/deploy/integer_format.h"

#include <charconv>

#include "core/json.h"
#include "core/kernels/elementwise.h"
#include "core/text.h"
#include "quant/deploy/integer_network.h"

namespace faq {
namespace {

using nlohmann::json;

constexpr const char* format_name = "faq-integer-network";
constexpr const char* own_entries[] = {"format", "format_version", "network", "preprocessing"};
constexpr std::size_t max_ops = 1 << 13;

int parse_version(const std::string& text) {
  int version = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, version);
  check(parsed.ec == std::errc() && parsed.ptr == end && version >= 1, ErrorKind::bad_data,
        "format version '", text, "': expected 1 to ", integer_format_version);
  check(version <= integer_format_version, ErrorKind::bad_data, "format version '", text,
        "' is newer than this program, which reads 1 to ", integer_format_version);
  return version;
}

IntegerDocument parse_document(NamedTensors contents) {
  const auto entry = [&](const char* key) { return parse_json(contents.metadata[key], concat("its ", key)); };
  const int version = parse_version(contents.metadata["format_version"]);
  IntegerDocument document;
  document.network = entry("network");
  if (version >= 4) document.preprocessing = entry("preprocessing");
  for (const char* own : own_entries) contents.metadata.erase(own);
  document.contents = std::move(contents);
  upgrade(document, version);
  return document;
}

std::vector<int> parse_inputs(const json& description, std::size_t index) {
  const json& inputs = description.at("inputs");
  check(inputs.is_array() && !inputs.empty(), ErrorKind::bad_data, "inputs ", inputs.dump());
  std::vector<int> values;
  for (const json& input : inputs)
    values.push_back(
        static_cast<int>(parse_integer(input, "inputs: value", 0, static_cast<std::int64_t>(index))));
  return values;
}

std::vector<IntegerNetwork::Node> parse_nodes(const json& ops, const NamedTensors& contents,
                                              std::set<std::string>& used) {
  check(ops.is_array() && !ops.empty(), ErrorKind::bad_data, "no ops");
  check(ops.size() <= max_ops, ErrorKind::bad_data, ops.size(), " ops, at most ", max_ops);
  std::vector<IntegerNetwork::Node> nodes;
  for (std::size_t index = 0; index < ops.size(); ++index) {
    const json& description = ops[index];
    try {
      nodes.push_back({parse_op(description, contents, used), parse_inputs(description, index)});
    } catch (const std::exception& error) {  // ours or from the JSON library
      fail(ErrorKind::bad_data, "op ", index,
           description.contains("name") ? " " + shortened(json_text(description["name"]), 80) : "", ": ",
           shortened(error.what(), 300));
    }
  }
  return nodes;
}

}  // namespace

bool is_integer_network(const std::map<std::string, std::string>& metadata) {
  const auto format = metadata.find("format");
  return format != metadata.end() && format->second == format_name;
}

std::int64_t IntegerNetwork::weight_bytes() const {
  NamedTensors tensors;
  for (const Node& node : nodes_) describe(*node.op, tensors);
  std::int64_t bytes = 0;
  for (const auto& [name, tensor] : tensors.tensors) bytes += static_cast<std::int64_t>(tensor.bytes());
  return bytes;
}

std::string IntegerNetwork::first_not_finite() const {
  NamedTensors tensors;
  for (const Node& node : nodes_) describe(*node.op, tensors);
  for (const auto& [name, tensor] : tensors.tensors)
    if (tensor.dtype() == DType::f32 && !kernels::all_finite(tensor)) return name;
  return "";
}

void IntegerNetwork::save(const std::filesystem::path& file,
                          const std::map<std::string, std::string>& about) const {
  NamedTensors contents;
  json ops = json::array();
  for (const Node& node : nodes_) {
    json op = describe(*node.op, contents);
    op["inputs"] = node.inputs;
    ops.push_back(std::move(op));
  }
  const std::string bad = first_not_finite();  // load() would refuse the file
  check(bad.empty(), ErrorKind::diverged, "writing ", file, ": '", bad,
        "' is not finite: the network has diverged");
  contents.metadata = about;
  contents.metadata["format"] = format_name;
  contents.metadata["format_version"] = std::to_string(integer_format_version);
  contents.metadata["preprocessing"] = json_text(describe(preprocessing_));
  contents.metadata["network"] = json{{"ops", std::move(ops)}}.dump();
  write_safetensors(file, contents);
}

IntegerNetwork IntegerNetwork::load(const std::filesystem::path& file) {
  NamedTensors contents = read_safetensors(file);
  if (is_integer_network(contents.metadata)) check_has_checksums(contents, concat("integer network ", file));
  return from(std::move(contents), concat(file));
}

IntegerNetwork IntegerNetwork::from(NamedTensors contents, const std::string& source) {
  const std::string context = concat("integer network ", source, ": ");
  check(is_integer_network(contents.metadata), ErrorKind::bad_data, context,
        "not an integer network (its metadata has no \"format\": \"", format_name, "\")");
  try {
    IntegerDocument document = parse_document(std::move(contents));
    std::set<std::string> used;
    IntegerNetwork network(parse_nodes(document.network.at("ops"), document.contents, used),
                           parse_preprocessing(document.preprocessing));
    for (const auto& [name, tensor] : document.contents.tensors)
      check(used.contains(name), ErrorKind::bad_data, "tensor ", name, ": no op uses it");
    // The plan has checked that shapes and dtypes fit together. Kernels may refuse other things. One empty
    // image finds that here instead of in the middle of an evaluation.
    network.forward(Tensor::zeros({1, network.height(), network.width(), network.channels()}, DType::u8));
    network.about_ = std::move(document.contents.metadata);
    return network;
  } catch (const json::exception& error) {
    fail(ErrorKind::bad_data, context, cause_of(error));
  } catch (const Error& error) {  // with texts from the file
    fail(ErrorKind::bad_data, context, shortened(error.what(), 400));
  }
}

}  // namespace faq
