// Files of formats 1 to 4, written by the libraries that wrote them (fixtures/integer_formats/
// make_integer_network.cpp), give the logits these libraries gave.
#include <cmath>

#include "core/json.h"
#include "quant/deploy/integer_network.h"
#include "tests/testing.h"

using namespace faq;
using namespace faq::testing;

namespace {

using json = nlohmann::json;

fs::path fixture(int version) {
  return fs::path(FAQ_TEST_FIXTURES) / "integer_formats" / concat(version, ".safetensors");
}

// As make_integer_network has them.
Tensor images() {
  Tensor pixels = Tensor::empty({2, 8, 8, 3}, DType::u8);
  std::int64_t i = 0;
  for (std::uint8_t& p : pixels.mutable_span<std::uint8_t>()) {
    p = static_cast<std::uint8_t>((i * i * 37 + i * 11) % 256);
    ++i;
  }
  return pixels;
}

// What make_integer_network printed, the same for every format.
const std::vector<float> printed_logits{0.673884928f, -0.52550149f, 0.210831106f, -0.564788759f,
                                        0.666316569f, -0.5392344f,  0.113541067f, -0.5516662f};

void check_is_small_network(const IntegerNetwork& network) {
  const Tensor logits = network.forward(images());
  const auto values = logits.span<float>();
  CHECK(std::vector<float>(values.begin(), values.end()) == printed_logits);
  const Preprocessing& seen = network.preprocessing();
  CHECK(
      seen ==
      Preprocessing{
          .height = 8, .width = 8, .channels = 3, .resize = 9, .class_names = {"ant", "bee", "cat", "dog"}});
  CHECK(network.about() == std::map<std::string, std::string>{{"model", "small"}, {"epoch", "3"}});
}

const QuantizedWeights& weights(const IntegerNetwork& network, const std::string& name) {
  for (const IntegerNetwork::Node& node : network.nodes())
    if (node.op->name == name) return *weights_of(*node.op);
  throw std::runtime_error("no op " + name);
}

// A fixture with something changed.
struct Changed {
  explicit Changed(int version) : file(read_safetensors(fixture(version))) {
    network = json::parse(file.metadata.at("network"));
  }
  json& op(const std::string& name) {
    for (json& op : network["ops"])
      if (op["name"] == name) return op;
    throw std::runtime_error("no op " + name);
  }
  Tensor& tensor(const std::string& name) {
    for (auto& [key, tensor] : file.tensors)
      if (key == name) return tensor = tensor.clone();
    throw std::runtime_error("no tensor " + name);
  }
  IntegerNetwork load() {
    const TemporaryFolder folder;
    file.metadata["network"] = network.dump();
    write_safetensors(folder / "n.safetensors", file);
    return IntegerNetwork::load(folder / "n.safetensors");
  }
  NamedTensors file;
  json network;
};

}  // namespace

TEST_CASE("files of older formats load and compute what they did", "[format_upgrades]") {
  const OneThread one_thread;
  const TemporaryFolder folder;
  for (const int version : {1, 2, 3, 4}) {
    INFO("format " << version);
    CHECK(read_safetensors_metadata(fixture(version)).at("format_version") == std::to_string(version));
    const IntegerNetwork network = IntegerNetwork::load(fixture(version));
    check_is_small_network(network);
    // Two bits a weight, four weights a byte, whatever the file had.
    CHECK(weights(network, "second").bits == 2);
    const std::int64_t as_loaded = network.weight_bytes();
    network.save(folder / "new.safetensors", network.about());
    const NamedTensors saved = read_safetensors(folder / "new.safetensors");
    CHECK(saved.metadata.at("format_version") == "5");
    CHECK(saved.find("second.weight")->numel() == (7 * 7 * 9 + 3) / 4);
    const IntegerNetwork again = IntegerNetwork::load(folder / "new.safetensors");
    check_is_small_network(again);
    CHECK(again.weight_bytes() == as_loaded);
  }
}

TEST_CASE("the scale of weights that a file does not have", "[format_upgrades]") {
  const OneThread one_thread;
  const IntegerNetwork first = IntegerNetwork::load(fixture(1)), third = IntegerNetwork::load(fixture(3));
  // A classifier's is in its multipliers; of a convolution's nothing is known.
  const auto scale = [](const QuantizedWeights& w) { return w.values.fixed_point().scale; };
  CHECK(scale(weights(first, "first")) == 1);
  CHECK(scale(weights(first, "second")) == 1);
  CHECK(scale(weights(third, "second")) != 1);
  for (const IntegerNetwork* network : {&first, &third}) {
    const auto& fc = dynamic_cast<const LinearOp&>(*network->nodes().back().op);
    CHECK(logit_scale(fc) == fc.multiplier.span<float>()[0]);
  }
  // The first files of format 3 had none, either.
  Changed early(3);
  const float of_classifier = early.op("fc")["weight_step"].get<float>();
  for (const char* name : {"first", "second", "fc"}) REQUIRE(early.op(name).erase("weight_step") == 1);
  const IntegerNetwork loaded = early.load();
  check_is_small_network(loaded);
  CHECK(std::abs(scale(weights(loaded, "fc")) / of_classifier - 1) < 1e-6f);
}

TEST_CASE("what older files say of their images, where they do", "[format_upgrades]") {
  const OneThread one_thread;
  struct Row {
    const char *entry, *value;  // null: the entry goes
    Preprocessing expected;
  };
  const std::vector<std::string> names{"ant", "bee", "cat", "dog"};
  const auto as = [&](int resize, std::vector<float> mean, std::vector<float> std,
                      std::vector<std::string> classes) {
    return Preprocessing{.height = 8,
                         .width = 8,
                         .channels = 3,
                         .resize = resize,
                         .mean = std::move(mean),
                         .std = std::move(std),
                         .class_names = std::move(classes)};
  };
  const Row rows[] = {
      {"resize", nullptr, as(0, {}, {}, names)},
      {"resize", "32", as(32, {}, {}, names)},
      {"classes", nullptr, as(9, {}, {}, {})},
      {"classes", R"(["a", 7, "c", "d"])", as(9, {}, {}, {"a", "7", "c", "d"})},
      {"classes", R"(["too", "few"])", as(9, {}, {}, {})},
      {"classes", R"({"no": "list"})", as(9, {}, {}, {})},
  };
  for (const Row& row : rows) {
    INFO(row.entry << " " << (row.value ? row.value : "missing"));
    Changed changed(2);
    changed.file.metadata.erase(row.entry);
    if (row.value) changed.file.metadata[row.entry] = row.value;
    CHECK(changed.load().preprocessing() == row.expected);
  }
  Changed with_pixels(3);
  with_pixels.file.metadata["mean"] = "[0.5, 0.25, 0]";
  with_pixels.file.metadata["std"] = "[1, 2, 0.5]";
  CHECK(with_pixels.load().preprocessing() == as(9, {0.5f, 0.25f, 0}, {1, 2, 0.5f}, names));
}

TEST_CASE("damaged files of older formats are refused", "[format_upgrades]") {
  const OneThread one_thread;
  struct Row {
    int version;
    const char* message;
    std::function<void(Changed&)> damage;
  };
  const Row rows[] = {
      {1, "padding", [](Changed& c) { c.op("first").erase("padding"); }},
      {1, "padding -1", [](Changed& c) { c.op("first")["padding"] = -1; }},
      {1, "padding [1,1]",
       [](Changed& c) {
         c.op("first")["padding"] = {1, 1};
       }},
      {1, "ops", [](Changed& c) { c.network.erase("ops"); }},
      {1, "kind", [](Changed& c) { c.op("first").erase("kind"); }},
      {1, "no ops", [](Changed& c) { c.network["ops"] = json::object(); }},
      {2, "second.weight: expected packed weights, found s8",
       [](Changed& c) { c.tensor("second.weight") = Tensor::zeros({221}, DType::s8); }},
      {2, "second.weight: a value is outside 2 bits",
       [](Changed& c) { c.tensor("second.weight").mutable_data<std::uint8_t>()[7] = 0x70; }},
      {2, "second.weight: expected 111 bytes",
       [](Changed& c) { c.tensor("second.weight") = Tensor::zeros({200}, DType::u8); }},
      {2, "fc.multiplier", [](Changed& c) { c.tensor("fc.multiplier").mutable_data<float>()[1] *= 2; }},
      {2, "no multipliers", [](Changed& c) { c.tensor("fc.multiplier") = Tensor::zeros({0}); }},
      {3, "step", [](Changed& c) { c.op("first")["format"].erase("step"); }},
      {3, "scale 0", [](Changed& c) { c.op("first")["format"]["step"] = 0; }},
      {3, "weight_code", [](Changed& c) { c.op("first").erase("weight_code"); }},
      {3, "height", [](Changed& c) { c.network.erase("height"); }},
      {3, "height 0", [](Changed& c) { c.network["height"] = 0; }},
      {3, "resize", [](Changed& c) { c.file.metadata["resize"] = "wide"; }},
      {3, "resize -1", [](Changed& c) { c.file.metadata["resize"] = "-1"; }},
      {3, "1 means, 0 standard deviations", [](Changed& c) { c.file.metadata["mean"] = "[1]"; }},
      {4, "padding 1: expected [height, width]", [](Changed& c) { c.op("first")["padding"] = 1; }},
      {4, "padding -1",
       [](Changed& c) {
         c.op("first")["padding"] = {1, -1};
       }},
      {4, "relu", [](Changed& c) { c.op("first").erase("relu"); }},
      {4, "bits 9", [](Changed& c) { c.op("first")["format"]["bits"] = 9; }},
  };
  for (const Row& row : rows) {
    INFO("format " << row.version << ": " << row.message);
    Changed changed(row.version);
    row.damage(changed);
    check_error(ErrorKind::bad_data, row.message, [&] { changed.load(); });
  }
}
