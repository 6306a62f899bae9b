// Exports to ONNX, read back with ONNX's own messages. What runtimes make of them:
// tools/peers/onnx_runtimes.py.
#include "quant/deploy/onnx/onnx_file.h"

#include <onnx.pb.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "core/text.h"
#include "quant/deploy/integer_format.h"
#include "quant/deploy/onnx_export.h"
#include "quant/float_onnx.h"
#include "tests/op_builder.h"
#include "tests/programs.h"
#include "tests/random_network.h"

using namespace faq;
using namespace faq::testing;

namespace {

constexpr int f32 = 1, u8 = 2, s8 = 3, s32 = 6, s64 = 7, u4 = 21, s4 = 22;

// A written model, and what it has under which name.
struct File {
  onnx::ModelProto model;
  std::map<std::string, const onnx::NodeProto*> nodes;
  std::map<std::string, const onnx::TensorProto*> tensors;
  std::map<std::string, std::string> metadata;

  explicit File(OnnxModel written) {
    const TemporaryFolder folder;
    write_onnx(std::move(written), folder / "a.onnx");
    std::ifstream stream(folder / "a.onnx", std::ios::binary);
    REQUIRE(model.ParseFromIstream(&stream));
    for (const onnx::NodeProto& node : model.graph().node()) nodes[node.name()] = &node;
    for (const onnx::TensorProto& tensor : model.graph().initializer()) tensors[tensor.name()] = &tensor;
    for (const auto& entry : model.metadata_props()) metadata[entry.key()] = entry.value();
  }

  int opset() const { return static_cast<int>(model.opset_import(0).version()); }
  std::string kind(const std::string& name) const {
    return nodes.contains(name) ? nodes.at(name)->op_type() : "nothing";
  }
  std::vector<float> floats(const std::string& name) const {
    const std::string& bytes = tensors.at(name)->raw_data();
    std::vector<float> values(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
  std::vector<int> integers(const std::string& name) const {
    const onnx::TensorProto& tensor = *tensors.at(name);
    std::vector<int> values;
    for (const char byte : tensor.raw_data()) {
      if (tensor.data_type() == s4) {
        for (const int code : {byte & 15, byte >> 4 & 15}) values.push_back(code < 8 ? code : code - 16);
      } else {
        values.push_back(byte);
      }
    }
    values.resize(static_cast<std::size_t>(elements(tensor)));
    return values;
  }
  static std::int64_t elements(const onnx::TensorProto& tensor) {
    return std::accumulate(tensor.dims().begin(), tensor.dims().end(), std::int64_t{1}, std::multiplies<>());
  }
  int type(const std::string& name) const { return tensors.at(name)->data_type(); }
};

// What ONNX asks of every model: names once, values made before they are read, tensors as long as their
// shape.
void check_graph(const File& file) {
  std::set<std::string> known{file.model.graph().input(0).name()};
  for (const onnx::TensorProto& tensor : file.model.graph().initializer()) {
    INFO(tensor.name());
    CHECK(known.insert(tensor.name()).second);
    const std::map<int, int> half_bytes{{f32, 8}, {u8, 2}, {s8, 2}, {s32, 8}, {s64, 16}, {u4, 1}, {s4, 1}};
    CHECK(static_cast<std::int64_t>(tensor.raw_data().size()) ==
          (File::elements(tensor) * half_bytes.at(tensor.data_type()) + 1) / 2);
  }
  std::set<std::string> read;
  for (const onnx::NodeProto& node : file.model.graph().node()) {
    INFO(node.name());
    for (const std::string& input : node.input()) CHECK(known.contains(input));
    read.insert(node.input().begin(), node.input().end());
    REQUIRE(node.output_size() == 1);
    CHECK(known.insert(node.output(0)).second);
  }
  CHECK(known.contains(file.model.graph().output(0).name()));
  for (const auto& [name, tensor] : file.tensors) CHECK(read.contains(name));
  CHECK(file.model.ir_version() == (file.opset() == 21 ? 10 : 7));
  CHECK(file.model.producer_version() == FAQ_VERSION);
}

std::string extents(const onnx::ValueInfoProto& value) {
  std::string text;
  for (const auto& dim : value.type().tensor_type().shape().dim())
    text += concat(text.empty() ? "" : "×",
                   dim.has_dim_param() ? dim.dim_param() : std::to_string(dim.dim_value()));
  return text;
}

// The multiplier, bias and weights of a convolution, out of the scales of the file.
void check_conv(const File& file, const IntegerNetwork& network, const IntegerNetwork::Node& node) {
  const auto& conv = dynamic_cast<const ConvOp&>(*node.op);
  INFO(conv.name);
  const auto scale_of = [&](int value) {
    return static_cast<double>(network.results()[static_cast<std::size_t>(value) - 1].format->scale);
  };
  const double x_scale = scale_of(node.inputs[0]), y_scale = conv.requantize.format.scale;
  const std::vector<float> scales = file.floats(conv.name + "/weight_scale"),
                           biases = file.floats(conv.name + "/bias");
  const std::vector<int> weights = file.integers(conv.name + "/weight");
  const auto multipliers = conv.requantize.multiplier.span<float>(),
             bias = conv.requantize.bias.span<float>();
  const auto values = conv.weights.values.span<std::int8_t>();
  REQUIRE(scales.size() == multipliers.size());
  REQUIRE(weights.size() == values.size());
  const std::size_t length = values.size() / scales.size();
  for (std::size_t c = 0; c < scales.size(); ++c) {
    CHECK(scales[c] * x_scale / y_scale == Approx(std::abs(multipliers[c])).epsilon(1e-6));
    CHECK(biases[c] / y_scale == Approx(bias[c]).epsilon(1e-6));
    for (std::size_t i = c * length; i < (c + 1) * length; ++i)
      if (weights[i] != (multipliers[c] < 0 ? -values[i] : values[i])) FAIL("weight " << i);
  }
}

// A unit that is none of the library's.
class Stranger final : public Unit {
 public:
  Var compute(const Pass&, Inputs inputs) override { return relu(inputs[0]); }
};

class StrangeModel final : public Model {
 public:
  void visit(Visitor& v) override {
    v.child("input", input_);
    v.child("stranger", stranger_);
    v.child("pool", pool_);
    v.child("fc", fc_);
  }
  Var forward(const Pass& pass, const Var& images) override {
    return fc_(pass, pool_(pass, stranger_(pass, input_(pass, images))));
  }

 private:
  Input input_{{0.5f}, {0.5f}};
  Stranger stranger_;
  GlobalAvgPool pool_;
  Linear fc_{1, 2};
};

}  // namespace

TEST_CASE("every op has its place in ONNX", "[onnx]") {
  const OneThread one_thread;
  const IntegerNetwork network = all_ops();
  const File file(onnx_model(network));
  check_graph(file);
  CHECK(file.opset() == 21);
  const auto& graph = file.model.graph();
  CHECK(graph.input(0).name() == "image");
  CHECK(graph.input(0).type().tensor_type().elem_type() == u8);
  CHECK(extents(graph.input(0)) == "N×19×14×3");
  CHECK(graph.output(0).name() == "logits");
  CHECK(extents(graph.output(0)) == "N×9");
  CHECK(parse_preprocessing(nlohmann::json::parse(file.metadata.at("preprocessing"))) ==
        network.preprocessing());
  CHECK(onnx_metadata({.class_names = {"caf\xe9"}}, "x").at("preprocessing").find("caf\xef\xbf\xbd") !=
        std::string::npos);

  struct Row {
    const char* name;
    const char* kind;  // of what it is made by
    int type;          // of its integers
  };
  const Row rows[] = {
      {"op1/relu", "Relu", u4},     {"op2/clip", "Clip", s8},        {"op3/sum", "Add", s8},
      {"op4/pool", "MaxPool", s8},  {"op5/pool", "AveragePool", s8}, {"op6/sum", "Add", u8},
      {"op7/conv", "Conv", u8},     {"op8/parts", "Concat", u8},     {"op9/conv", "Conv", s8},
      {"op10/conv", "Conv", u8},    {"op11/padded", "Pad", u8},      {"op12/pool", "Div", u8},
      {"op13/pool", "MaxPool", u8}, {"op14/pool", "Div", u8},        {"op16/clip", "Clip", u8},
      {"op17/conv", "Conv", s8}};
  for (const Row& row : rows) {
    INFO(row.name);
    CHECK(file.kind(row.name) == row.kind);
    const std::string op = split(row.name, '/')[0];
    CHECK(file.kind(op) == "QuantizeLinear");
    CHECK(file.type(op + "/zero") == row.type);
  }
  CHECK(file.kind("op0") == "Transpose");
  CHECK(file.type("op0/table") == s8);
  CHECK(file.kind("op18") == "GlobalAveragePool");
  CHECK(file.kind("logits") == "Gemm");
  int convolutions = 0;
  for (const IntegerNetwork::Node& node : network.nodes()) {
    if (node.op->kind() != std::string("conv")) continue;
    check_conv(file, network, node);
    ++convolutions;
  }
  CHECK(convolutions == 8);
  CHECK(file.type("op1/weight") == s8);
  CHECK(file.type("op2/weight") == s4);
  CHECK(file.type("op3/weight") == s4);
  // Where integers have few bits the bias is added by itself.
  CHECK(file.nodes.at("op2/conv")->input_size() == 2);
  CHECK(file.kind("op2/biased") == "Add");
  // A mean of integers is taken of the integers: a tie stays one.
  CHECK(file.floats("op5/one") == std::vector<float>{1});
  CHECK(file.floats("op5/scale") == std::vector<float>{0.25f});
}

TEST_CASE("a table of the input has its own type in ONNX", "[onnx]") {
  struct Row {
    FixedPoint format;
    int type;
  };
  for (const Row& row : {Row{{1, 8, true}, s8}, {{0.5f, 8, false}, u8}, {{0.5f, 4, false}, u8}}) {
    INFO(row.format);
    Builder b(12, 11, 3, row.format);
    const int x = b.conv(b.avg_pool(1, {.kernel = 2}), 4, {.kernel = 3}, {0.5f, 4, false}, 4);
    const IntegerNetwork network = b.classifier(b.global_avg_pool(x), {0.7f, 8, false}, 2);
    const File file(onnx_model(network));
    check_graph(file);
    CHECK(file.type("op0/table") == row.type);
    CHECK(file.type("op0/zero") == row.type);
    CHECK(file.type("op1/from") == row.type);
    const auto* table = static_cast<const InputOp&>(*network.nodes()[0].op).table.raw();
    CHECK(file.tensors.at("op0/table")->raw_data() == std::string(static_cast<const char*>(table), 3 * 256));
  }
}

TEST_CASE("4 bits that an activation does not fill are bytes in ONNX", "[onnx]") {
  struct Row {
    float scale;
    int type;
    const char* kind;
  };
  for (const Row& row : {Row{0.5f, u8, "op1/clip"}, {0.25f, u4, "op1/relu"}}) {  // up to 12 and to 24
    INFO(row.scale);
    Builder b(12, 11, 3, {1, 8, true});
    const int x = b.conv(1, 4, {.kernel = 3}, {row.scale, 4, false}, 8, -1, Activation::relu6);
    const int y = b.conv(x, 4, {.kernel = 3}, {0.5f, 4, false}, 4);
    const File file(onnx_model(b.classifier(b.global_avg_pool(y), {0.7f, 8, false}, 2)));
    check_graph(file);
    CHECK(file.type("op1/zero") == row.type);
    CHECK(file.nodes.contains(row.kind));
  }
}

TEST_CASE("the types of ONNX follow the bits of every scheme", "[onnx]") {
  const OneThread one_thread;
  struct Row {
    Case network;
    int opset, weights, activations;  // of a layer in the middle
    bool bias_apart;                  // of the same layer
  };
  const Row rows[] = {
      {{.size = 8}, 13, s8, u8, false},
      {{.size = 8, .channels = 1, .weight_bits = 6, .act_bits = 5}, 13, s8, u8, false},
      {{.size = 8, .weight_bits = 4, .act_bits = 4}, 21, s4, u4, true},
      {{.size = 8, .weight_bits = 3, .act_bits = 5, .first_last_bits = 6}, 21, s4, u8, true},
      {{.size = 8, .weight_bits = 3, .act_bits = 3}, 21, s4, u8, true},
      {{.size = 8, .weight_bits = 8, .act_bits = 4}, 13, s8, u8, true},
      {{.size = 8, .weight_bits = 2, .scheme = Scheme::dfp}, 13, s8, u8, false},
      {{.size = 8, .weight_bits = 4, .scheme = Scheme::dfp, .cluster_size = 7}, 13, s8, u8, false},
      {{.size = 8, .weight_bits = 4, .act_bits = 4, .scheme = Scheme::dorefa}, 13, s8, u8, true},
      {{.size = 8, .weight_bits = 2, .act_bits = 2, .scheme = Scheme::dorefa}, 13, s8, u8, true},
  };
  for (const Row& row : rows) {
    INFO(row.network);
    const auto model = quantized_model(row.network);
    const IntegerNetwork network = compile(*model, row.network);
    const File file(onnx_model(network));
    check_graph(file);
    CHECK(file.opset() == row.opset);
    CHECK(file.type("layer1.0.conv1/weight") == row.weights);
    CHECK(file.type("layer1.0.conv1/zero") == row.activations);
    CHECK(file.type("conv1/weight") == s8);
    CHECK(file.nodes.at("layer1.0.conv1/conv")->input_size() == (row.bias_apart ? 2 : 3));
    for (const IntegerNetwork::Node& node : network.nodes())
      if (node.op->kind() == std::string("conv")) check_conv(file, network, node);
  }
}

TEST_CASE("a float network is ONNX under its own names", "[onnx]") {
  const OneThread one_thread;
  struct Row {
    const char* model;
    int size;
    std::map<std::string, int> kinds;  // some of its nodes
  };
  const Row rows[] = {
      {"resnet20", 32, {{"Conv", 19}, {"BatchNormalization", 19}, {"Add", 9}, {"Pad", 2}, {"Gemm", 1}}},
      {"resnet18", 32, {{"Conv", 20}, {"BatchNormalization", 20}, {"Add", 8}, {"MaxPool", 1}, {"Gemm", 1}}},
      {"densenet121", 32, {{"Conv", 120}, {"BatchNormalization", 121}, {"Concat", 58}, {"AveragePool", 3}}},
      {"inception_v3", 80, {{"Conv", 94}, {"BatchNormalization", 94}, {"AveragePool", 9}, {"Gemm", 1}}},
  };
  for (const Row& row : rows) {
    INFO(row.model);
    const auto model = make_model(row.model, {.num_classes = 7});
    initialize(*model, 1);
    const File file(float_onnx_model(*model, {.height = row.size, .width = row.size, .resize = 99}));
    check_graph(file);
    CHECK(file.opset() == 13);
    const auto& graph = file.model.graph();
    CHECK(graph.input(0).name() == "input");
    CHECK(graph.input(0).type().tensor_type().elem_type() == f32);
    CHECK(extents(graph.input(0)) == concat("N×3×", row.size, "×", row.size));
    CHECK(extents(graph.output(0)) == "N×7");
    const auto images = parse_preprocessing(nlohmann::json::parse(file.metadata.at("preprocessing")));
    CHECK(images.resize == 99);
    CHECK(images.mean == model->info().mean);
    std::map<std::string, int> kinds;
    for (const auto& node : graph.node()) ++kinds[node.op_type()];
    for (const auto& [kind, count] : row.kinds) {
      INFO(kind);
      CHECK(kinds[kind] == count);
    }
    // Every weight and statistic that the deployed part has.
    std::map<std::string, Tensor> own;
    for (const Named<Var>& parameter : parameters(*model)) own[parameter.name] = parameter.value.value();
    for (const Named<Tensor>& statistic : running_statistics(*model)) own[statistic.name] = statistic.value;
    std::erase_if(own, [](const auto& entry) { return entry.first.starts_with("AuxLogits."); });
    for (const auto& [name, tensor] : own) {
      INFO(name);
      REQUIRE(file.tensors.contains(name));
      CHECK(file.tensors.at(name)->raw_data() == std::string(static_cast<const char*>(tensor.raw()),
                                                             static_cast<std::size_t>(tensor.numel()) * 4));
    }
  }
}

TEST_CASE("what has no place in ONNX is refused by name", "[onnx]") {
  const OneThread one_thread;
  StrangeModel model;
  check_error(ErrorKind::usage, "'stranger' is a unit of a kind that has no place in ONNX",
              [&] { float_onnx_model(model, {.height = 4, .width = 4, .channels = 1}); });

  const auto network = [](auto change) {
    Builder b(8, 8, 3);
    const int conv = b.conv(1, 4, {.kernel = 3}, {1, 8, false});
    const IntegerNetwork plain = b.classifier(b.global_avg_pool(conv), {1, 8, false}, 3);
    std::vector<IntegerNetwork::Node> nodes = plain.nodes();
    auto op = std::make_shared<ConvOp>(dynamic_cast<const ConvOp&>(*nodes[1].op));
    op->requantize.multiplier = Tensor::full({4}, 0.5f);
    op->requantize.bias = Tensor::full({4}, 0.5f);
    change(*op);
    nodes[1].op = op;
    return IntegerNetwork(nodes, plain.preprocessing());
  };
  struct Row {
    const char* text;
    void (*change)(ConvOp& op);
  };
  const Row rows[] = {
      {"'image': there are two of this name", [](ConvOp& op) { op.name = "image"; }},
      {"'logits': there are two of this name", [](ConvOp& op) { op.name = "logits"; }},
      {"'op0/scale': there are two of this name", [](ConvOp& op) { op.name = "op0/scale"; }},
      {"has no place in f32",
       [](ConvOp& op) {
         op.requantize.multiplier = Tensor::full({4}, 3e38f);
         op.requantize.format.scale = 2;
       }},
      {"conv 'op1': channel 0: a scale of",
       [](ConvOp& op) {
         op.requantize.multiplier = Tensor::full({4}, 1e-3f);
         op.requantize.format.scale = 0x1p-126f;
       }},
  };
  for (const Row& row : rows) {
    INFO(row.text);
    check_error(ErrorKind::usage, row.text, [&] { onnx_model(network(row.change)); });
  }
  // A multiplier of nothing is weights of nothing.
  const File file(onnx_model(network([](ConvOp& op) {
    op.requantize.multiplier.mutable_data<float>()[1] = 0;
    op.requantize.multiplier.mutable_data<float>()[2] = 1e-44f;
  })));
  const std::vector<int> weights = file.integers("op1/weight");
  CHECK(std::count(weights.begin() + 27, weights.begin() + 81, 0) == 54);
  CHECK(file.floats("op1/weight_scale") == std::vector<float>{0.5f, 1, 1, 0.5f});
}

TEST_CASE("faq-export writes ONNX, whole or not at all", "[onnx]") {
  const TemporaryFolder folder;
  const Case small{.size = 8, .weight_bits = 4, .act_bits = 4};
  compile(*quantized_model(small), small).save(folder / "integer.safetensors");
  const auto model = make_model("resnet20", {});
  initialize(*model, 1);
  NamedTensors weights;
  for (const Named<Var>& parameter : parameters(*model)) weights.add(parameter.name, parameter.value.value());
  for (const Named<Tensor>& statistic : running_statistics(*model))
    weights.add(statistic.name, statistic.value);
  write_safetensors(folder / "float.safetensors", weights);
  const std::string integer = (folder / "integer.safetensors").string(),
                    plain = (folder / "float.safetensors").string(), out = (folder / "a.onnx").string();

  const Outcome done = run_program(FAQ_EXPORT, {integer, "--onnx", out, "--json"});
  INFO(done.err);
  REQUIRE(done.code == 0);
  CHECK(nlohmann::json::parse(done.out).at("opset") == 21);
  const std::string before = file_bytes(out);
  CHECK(before.size() == nlohmann::json::parse(done.out).at("bytes"));
  const Outcome floats = run_program(
      FAQ_EXPORT, {plain, "--float-onnx", (folder / "b.onnx").string(), "--model", "resnet20", "--json"});
  INFO(floats.err);
  REQUIRE(floats.code == 0);
  CHECK(nlohmann::json::parse(floats.out).at("opset") == 13);

  const std::string nowhere = (folder / "missing" / "a.onnx").string();
  const Words as_other{plain, "--float-onnx", out, "--model", "resnet32"};
  const Refusal rows[] = {
      {"two targets", FAQ_EXPORT, {integer, "--onnx", out, "--float-onnx", out}, 64, "expected one of --c"},
      {"of C", FAQ_EXPORT, {integer, "--onnx", out, "--c-test", "2"}, 64, "no effect on --onnx"},
      {"of floats", FAQ_EXPORT, {integer, "--onnx", out, "--use-ema"}, 64, "no effect on --onnx"},
      {"integers", FAQ_EXPORT, {integer, "--float-onnx", out}, 64, "expected float weights, found integer"},
      {"no model", FAQ_EXPORT, {plain, "--float-onnx", out}, 64, "--model"},
      {"another model", FAQ_EXPORT, as_other, 65, "layer1.3.conv1.weight"},
      {"floats", FAQ_EXPORT, {plain, "--onnx", out}, 65, "float.safetensors"},
      {"no folder", FAQ_EXPORT, {integer, "--onnx", nowhere}, 74, "missing"},
      {"a folder", FAQ_EXPORT, {integer, "--onnx", folder.path().string()}, 74, "expected a regular file"},
      {"missing", FAQ_EXPORT, {"missing", "--onnx", out}, 66, "missing"},
  };
  for (const Refusal& row : rows) {
    check_refused(row);
    CHECK(file_bytes(out) == before);
  }
}
