// Turns an OnnxModel into ONNX's own messages. Nothing else sees protobuf.
#include "quant/deploy/onnx/onnx_file.h"

#include <onnx.pb.h>  // made from ONNX's onnx.proto by CMake

#include <limits>
#include <utility>

#include "core/atomic_file.h"

namespace faq {
namespace {

// Types and versions are plain numbers in the messages: those of 4 bits are newer than some onnx.proto.
int number_of(OnnxType type) { return static_cast<int>(type); }
int ir_version_of(int opset) { return opset < 21 ? 7 : 10; }  // as ONNX's table of versions pairs them

void fill(const OnnxValue& value, onnx::ValueInfoProto& to) {
  to.set_name(value.name);
  onnx::TypeProto_Tensor& type = *to.mutable_type()->mutable_tensor_type();
  type.set_elem_type(number_of(value.type));
  type.mutable_shape()->add_dim()->set_dim_param("N");
  for (const std::int64_t extent : value.shape) type.mutable_shape()->add_dim()->set_dim_value(extent);
}

void fill(OnnxTensor& tensor, onnx::TensorProto& to) {
  to.set_name(tensor.name);
  to.set_data_type(number_of(tensor.type));
  for (const std::int64_t extent : tensor.shape) to.add_dims(extent);
  to.set_raw_data(std::move(tensor.bytes));
}

struct Attribute {
  onnx::AttributeProto& to;
  void operator()(std::int64_t value) const {
    to.set_type(onnx::AttributeProto::INT);
    to.set_i(value);
  }
  void operator()(float value) const {
    to.set_type(onnx::AttributeProto::FLOAT);
    to.set_f(value);
  }
  void operator()(const std::vector<std::int64_t>& values) const {
    to.set_type(onnx::AttributeProto::INTS);
    for (const std::int64_t value : values) to.add_ints(value);
  }
};

void fill(const OnnxNode& node, onnx::NodeProto& to) {
  to.set_op_type(node.kind);
  to.set_name(node.name);
  for (const std::string& input : node.inputs) to.add_input(input);
  to.add_output(node.name);
  for (const auto& [name, value] : node.attributes) {
    onnx::AttributeProto& attribute = *to.add_attribute();
    attribute.set_name(name);
    std::visit(Attribute{attribute}, value);
  }
}

}  // namespace

void check_onnx() {}

void write_onnx(OnnxModel model, const std::filesystem::path& file) {
  const int opset = model.opset();
  onnx::ModelProto message;
  message.set_ir_version(ir_version_of(opset));
  message.set_producer_name("faq");
  message.set_producer_version(FAQ_VERSION);
  message.add_opset_import()->set_version(opset);
  for (const auto& [key, value] : model.metadata) {
    onnx::StringStringEntryProto& entry = *message.add_metadata_props();
    entry.set_key(key);
    entry.set_value(value);
  }
  onnx::GraphProto& graph = *message.mutable_graph();
  graph.set_name("faq");
  fill(model.input, *graph.add_input());
  fill(model.output, *graph.add_output());
  for (const OnnxNode& node : model.nodes) fill(node, *graph.add_node());
  for (OnnxTensor& tensor : model.tensors) fill(tensor, *graph.add_initializer());
  check(message.ByteSizeLong() <= static_cast<std::size_t>(std::numeric_limits<int>::max()), ErrorKind::usage,
        file, ": a model of ", message.ByteSizeLong(), " bytes; ONNX holds 2 GB");
  std::string bytes;
  check(message.SerializeToString(&bytes), "ONNX: the model is incomplete");
  AtomicFile atomic(file);
  atomic.write(bytes);
  atomic.commit();
}

}  // namespace faq
