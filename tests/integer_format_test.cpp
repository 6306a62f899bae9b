// integer.safetensors: what it holds, and what of it is refused.
#include <limits>
#include <nlohmann/json.hpp>

#include "quant/deploy/integer_format.h"
#include "tests/random_network.h"

using namespace faq;
using namespace faq::testing;

TEST_CASE("weights of few bits are packed", "[integer_format]") {
  const OneThread one_thread;
  const TemporaryFolder folder;
  const auto stored = [&](int bits) {
    const Case c{.size = 8, .weight_bits = bits, .act_bits = 8, .first_last_bits = bits};
    const auto model = quantized_model(c);
    const IntegerNetwork network = compile(*model, c);
    network.save(folder / "n.safetensors");
    std::int64_t weights = 0;
    for (const auto& [name, tensor] : read_safetensors(folder / "n.safetensors").tensors) {
      if (name.ends_with(".weight")) weights += static_cast<std::int64_t>(tensor.bytes());
    }
    CHECK(network.weight_bytes() > weights);  // multipliers and biases too
    return std::pair{weights, static_cast<std::int64_t>(fs::file_size(folder / "n.safetensors"))};
  };
  // 3·3·3·16 + 3·3·(6·16·16 + 16·32 + 5·32·32 + 32·64 + 5·64·64) + 64·10 weights
  constexpr std::int64_t count = 432 + 9 * (1536 + 512 + 5120 + 2048 + 20480) + 640;
  const auto [eight, eight_file] = stored(8);
  const auto [five, five_file] = stored(5);
  const auto [four, four_file] = stored(4);
  const auto [two, two_file] = stored(2);
  CHECK(eight == count);
  CHECK(five == count);
  CHECK(four == count / 2);
  CHECK(two == count / 4);
  CHECK(eight_file - four_file > count / 2 - 1000);
  CHECK(two_file < eight_file);
  CHECK(five_file > four_file);
}

TEST_CASE("networks of every scheme survive saving, in the bits they claim", "[integer_format]") {
  const OneThread one_thread;
  const TemporaryFolder folder;
  struct Row {
    Case c;
    std::int64_t codes_per_byte;
  };
  const Row rows[] = {
      {{.size = 8, .weight_bits = 2}, 4},
      {{.size = 8, .weight_bits = 2, .scheme = Scheme::dfp}, 4},
      {{.size = 8, .weight_bits = 4, .scheme = Scheme::dfp, .cluster_size = 5}, 2},
      {{.size = 8, .weight_bits = 2, .act_bits = 2, .scheme = Scheme::dorefa}, 4},
      {{.size = 8, .weight_bits = 4, .act_bits = 4, .scheme = Scheme::dorefa}, 2},
      {{.size = 8, .weight_bits = 6, .scheme = Scheme::dorefa}, 1},
      {{.size = 8, .weight_bits = 4, .act_bits = 4, .scheme = Scheme::lsq}, 2},
      {{.size = 8,
        .weight_bits = 2,
        .act_bits = 2,
        .scheme = Scheme::lsq,
        .scale_sharing = ScaleSharing::channel},
       4},
  };
  for (const Row& row : rows) {
    INFO(row.c);
    const auto model = quantized_model(row.c);
    const IntegerNetwork network = compile(*model, row.c);
    network.save(folder / "n.safetensors");
    const NamedTensors file = read_safetensors(folder / "n.safetensors");
    const std::int64_t stored = file.find("layer1.0.conv1.weight")->numel();
    CHECK(stored == 16 * 16 * 9 / row.codes_per_byte);
    const auto loaded = IntegerNetwork::load(folder / "n.safetensors");
    const Tensor images = images_for(row.c, 3);
    const auto expected = network.forward_all(images), actual = loaded.forward_all(images);
    REQUIRE(actual.size() == expected.size());
    for (std::size_t i = 0; i < actual.size(); ++i) CHECK(same_result(actual[i], expected[i]));
  }
}

TEST_CASE("clusters that cannot be are refused", "[integer_format]") {
  const OneThread one_thread;
  const TemporaryFolder folder;
  const Case c{.size = 8, .weight_bits = 4, .scheme = Scheme::dfp};
  const auto model = quantized_model(c);
  compile(*model, c).save(folder / "good.safetensors");
  const NamedTensors good = read_safetensors(folder / "good.safetensors");
  struct Row {
    const char* message;
    std::function<void(nlohmann::json&, NamedTensors&)> damage;
  };
  const auto set = [](const char* key, nlohmann::json value) {
    return [=](nlohmann::json& op, NamedTensors&) { op[key] = value; };
  };
  const auto scales = [](auto change) {
    return [=](nlohmann::json&, NamedTensors& file) {
      for (auto& [name, tensor] : file.tensors)
        if (name == "layer1.0.conv1.scales") change(tensor);
    };
  };
  const Row rows[] = {
      {"weight_code 'magic'", set("weight_code", "magic")},
      {"odd weights of 8 bits",
       [](nlohmann::json& op, NamedTensors&) {
         op["weight_code"] = "odd";
         op["weight_bits"] = 8;
       }},
      {"weight_code", [](nlohmann::json& op, NamedTensors&) { op.erase("weight_code"); }},
      {"weight_scale 0", set("weight_scale", 0)},
      {"weight_scale", [](nlohmann::json& op, NamedTensors&) { op.erase("weight_scale"); }},
      {"cluster_size 0", set("cluster_size", 0)},
      {"cluster_size 17", set("cluster_size", 17)},
      {"scales: expected [16, 2]", set("cluster_size", 8)},
      {"missing tensor layer1.0.conv1.scales",
       [](nlohmann::json&, NamedTensors& file) {
         std::erase_if(file.tensors, [](const auto& t) { return t.first == "layer1.0.conv1.scales"; });
       }},
      {"scales: a weight is outside 8 bits",
       scales([](Tensor& t) { t.mutable_data<std::uint8_t>()[3] = 19; })},  // 19·7 > 127
      {"expected u8, found f32", scales([](Tensor& t) {
         t = Tensor::zeros({16, 4});
       })},
  };
  for (const Row& row : rows) {
    INFO(row.message);
    NamedTensors file = good;
    for (auto& [name, tensor] : file.tensors) tensor = tensor.clone();
    auto network = nlohmann::json::parse(good.metadata.at("network"));
    for (auto& op : network["ops"])
      if (op["name"] == "layer1.0.conv1") row.damage(op, file);
    file.metadata["network"] = network.dump();
    write_safetensors(folder / "bad.safetensors", file);
    check_error(ErrorKind::bad_data, row.message, [&] { IntegerNetwork::load(folder / "bad.safetensors"); });
  }
}

TEST_CASE("what is not an integer network is refused in one line", "[integer_format]") {
  const OneThread one_thread;
  using json = nlohmann::json;
  const TemporaryFolder folder;
  const Case c{.size = 8, .weight_bits = 4, .act_bits = 4};
  const auto model = quantized_model(c);
  compile(*model, c).save(folder / "good.safetensors");
  const NamedTensors good = read_safetensors(folder / "good.safetensors");
  REQUIRE_NOTHROW(IntegerNetwork::load(folder / "good.safetensors"));

  struct Broken {
    json network;
    json images;
    NamedTensors file;
    json& op(const std::string& name) {
      for (json& op : network["ops"])
        if (op["name"] == name) return op;
      FAIL("no op " << name);
      return network;
    }
    Tensor& tensor(const std::string& name) {
      const auto found = std::ranges::find(file.tensors, name, [](const auto& t) { return t.first; });
      REQUIRE(found != file.tensors.end());
      return found->second;
    }
  };
  struct Row {
    const char* what;
    const char* message;
    std::function<void(Broken&)> change;
  };
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const auto set = [](const char* op, const char* key, json value) {
    return [=](Broken& b) { b.op(op)[key] = value; };
  };
  const auto set_format = [](const char* key, json value) {
    return [=](Broken& b) { b.op("conv1")["format"][key] = value; };
  };
  const auto set_extent = [](const char* key, json value) {
    return [=](Broken& b) { b.images[key] = value; };
  };
  const auto set_tensor = [](const char* name, Tensor value) {
    return [=](Broken& b) { b.tensor(name) = value; };
  };
  const auto set_value = [](const char* name, float value) {
    return [=](Broken& b) { b.tensor(name).mutable_data<float>()[3] = value; };
  };
  const Row rows[] = {
      {"channel scales of 0", "conv1.channel_scales: a value is not a scale",
       [](Broken& b) { b.file.add("conv1.channel_scales", Tensor::zeros({16})); }},
      {"fewer channel scales", "conv1.channel_scales: expected [16], found [4]",
       [](Broken& b) { b.file.add("conv1.channel_scales", Tensor::full({4}, 1)); }},
      {"channel scales of a classifier", "fc.channel_scales",
       [](Broken& b) { b.file.add("fc.channel_scales", Tensor::full({10}, 1)); }},
      {"an input of a value", "an input reads the image",
       [](Broken& b) {
         json copy = b.op("input");
         copy["name"] = "again";
         copy["inputs"] = json{1};
         b.file.add("again.table", b.tensor("input.table"));
         b.network["ops"].insert(b.network["ops"].begin() + 1, copy);
       }},
      {"ends that are no numbers", "integers from 0 to 11 are no numbers",
       [](Broken& b) {
         b.op("conv1")["format"]["scale"] = 1e38;
         b.op("conv1")["low"] = 0;
         b.op("conv1")["high"] = 11;
       }},
      {"a scale that is true", "scale true: expected a number", set_format("scale", true)},
      {"unknown kind", "unknown op kind 'dream'", set("conv1", "kind", "dream")},
      {"kind is a number", "", set("conv1", "kind", 3)},
      {"no kind", "kind", [](Broken& b) { b.op("conv1").erase("kind"); }},
      {"no name", "name", [](Broken& b) { b.network["ops"][1].erase("name"); }},
      {"name of another op", "missing tensor", set("conv1", "name", "conv9")},
      {"name of an op before", "another op is called 'conv1'",
       [](Broken& b) {
         json& copy = b.op("layer1.0.conv1");
         copy = b.op("conv1");
         copy["inputs"] = json{2};
       }},
      {"nobody reads it", "op 22 (shortcut 'unread'): nobody reads its result",
       [](Broken& b) {
         json& ops = b.network["ops"];
         json classifier = ops.back(), mean = ops[ops.size() - 2];
         ops.erase(ops.size() - 1);
         ops.erase(ops.size() - 1);
         const int last = static_cast<int>(ops.size());
         ops.push_back({{"kind", "shortcut"}, {"name", "unread"}, {"stride", 1}, {"out_channels", 64}, {"inputs", json{last}}});
         ops.push_back(mean);
         classifier["inputs"] = json{last + 2};
         ops.push_back(classifier);
       }},
      {"a tensor nobody uses", "tensor stowaway: no op uses it",
       [](Broken& b) { b.file.tensors.push_back({"stowaway", Tensor::zeros({4})}); }},
      {"reads itself", "inputs: value 2", set("conv1", "inputs", json{2})},
      {"reads what comes later", "inputs: value 7", set("conv1", "inputs", json{7})},
      {"reads before the images", "inputs: value -1", set("conv1", "inputs", json{-1})},
      {"reads a fraction", "inputs", set("conv1", "inputs", json{0.5})},
      {"reads a number that wraps to 1", "inputs", set("conv1", "inputs", json{4294967297})},
      {"reads nothing", "inputs []", set("conv1", "inputs", json::array())},
      {"reads three", "3 inputs", set("conv1", "inputs", json{1, 1, 1})},
      {"reads text", "", set("conv1", "inputs", "1")},
      {"no inputs", "inputs", [](Broken& b) { b.op("conv1").erase("inputs"); }},
      {"residual of another shape", "op 1 (conv 'conv1'): conv 'conv1': a residual", set("conv1", "inputs", json{1, 1})},
      {"input layer on the quantized", "",
       [](Broken& b) { b.network["ops"].push_back(b.network["ops"][0]); }},
      {"more memory than anybody has", "bytes for an image, at most",
       [](Broken& b) {  // forty copies of the images, all there when the first is read
         json& ops = b.network["ops"];
         json classifier = ops.back();
         ops.erase(ops.size() - 1);
         const int first = static_cast<int>(ops.size()) + 1;
         for (int i = 0; i < 40; ++i)
           ops.push_back({{"kind", "shortcut"}, {"name", concat("copy", i)}, {"stride", 1}, {"out_channels", 16}, {"inputs", json{1}}});
         for (int i = 0; i < 40; ++i)
           ops.push_back({{"kind", "global_avg_pool"}, {"name", concat("mean", i)}, {"inputs", json{first + i}}});
         ops.push_back(classifier);
         b.images["height"] = b.images["width"] = 2048;
       }},
      {"more ops than any network has", "ops, at most",
       [](Broken& b) {
         for (int i = 0; i < 9000; ++i) b.network["ops"].push_back(b.network["ops"].back());
       }},
      {"missing tensor", "missing tensor conv1.weight",
       [](Broken& b) {
         std::erase_if(b.file.tensors, [](const auto& t) { return t.first == "conv1.weight"; });
       }},
      {"missing bias", "missing tensor fc.bias",
       [](Broken& b) { std::erase_if(b.file.tensors, [](const auto& t) { return t.first == "fc.bias"; }); }},
      {"multiplier of another length", "conv1.multiplier",
       set_tensor("conv1.multiplier", Tensor::zeros({15}))},
      {"multiplier of another rank", "conv1.multiplier",
       set_tensor("conv1.multiplier", Tensor::zeros({4, 4}))},
      {"multiplier of another dtype", "expected f32",
       set_tensor("conv1.multiplier", Tensor::zeros({16}, DType::s32))},
      {"weights of another length", "conv1.weight",
       set_tensor("conv1.weight", Tensor::zeros({4}, DType::s8))},
      {"weights of another dtype", "expected s8", set_tensor("conv1.weight", Tensor::zeros({16, 3, 3, 3}))},
      {"8-bit weights declared as 4", "conv1.weight", set("conv1", "weight_bits", 4)},
      {"4-bit weights declared as 8", "layer1.0.conv1.weight", set("layer1.0.conv1", "weight_bits", 8)},
      {"4-bit weights declared as 2", "expected 576 bytes", set("layer1.0.conv1", "weight_bits", 2)},
      {"weight -128", "outside 8 bits",
       [](Broken& b) { b.tensor("conv1.weight").mutable_data<std::int8_t>()[5] = -128; }},
      {"nibble -8", "outside 4 bits",
       [](Broken& b) { b.tensor("layer1.0.conv1.weight").mutable_data<std::uint8_t>()[5] = 0x18; }},
      {"weight_bits 9", "weight_bits 9", set("conv1", "weight_bits", 9)},
      {"weight_bits 1", "weight_bits 1", set("conv1", "weight_bits", 1)},
      {"weight_bits 8.5", "weight_bits 8.5", set("conv1", "weight_bits", 8.5)},
      {"weight_shape of three", "weight_shape", set("conv1", "weight_shape", json{16, 3, 9})},
      {"weight_shape transposed", "", set("conv1", "weight_shape", json{3, 16, 3, 3})},
      {"weight_shape with a zero", "weight_shape", set("conv1", "weight_shape", json{16, 0, 3, 3})},
      {"weight_shape overflowing", "",
       set("conv1", "weight_shape", json{1 << 20, 1 << 20, 1 << 20, 1 << 20})},
      {"weight_shape negative", "weight_shape", set("conv1", "weight_shape", json{-16, -3, 3, 3})},
      {"NaN multiplier", "conv1.multiplier: a value is not finite", set_value("conv1.multiplier", nan)},
      {"infinite bias", "conv1.bias: a value is not finite", set_value("conv1.bias", infinity)},
      {"NaN multiplier of the classifier", "fc.multiplier", set_value("fc.multiplier", nan)},
      {"infinite residual multiplier", "residual_multiplier", set("conv1", "residual_multiplier", 1e300)},
      {"no integer for low", "low 0.5", set("conv1", "low", 0.5)},
      {"low below the format", "low -1", set("conv1", "low", -1)},
      {"high above the format", "high 256", set("conv1", "high", 256)},
      {"high below low", "high -1", set("conv1", "high", -1)},
      {"no high", "high", set("conv1", "high", nullptr)},
      {"groups 0", "groups 0", set("conv1", "groups", 0)},
      {"groups of no number of filters", "groups 3 of 16 filters", set("conv1", "groups", 3)},
      {"groups of other channels", "", set("conv1", "groups", 2)},
      {"stride 0", "stride 0", set("conv1", "stride", 0)},
      {"stride 65", "stride 65", set("conv1", "stride", 65)},
      {"padding -1", "padding -1", set("conv1", "padding", json{0, -1, 0, 0})},
      {"one padding", "padding 1: expected [top, left, bottom, right]", set("conv1", "padding", 1)},
      {"two paddings", "padding [1,1]", set("conv1", "padding", json{1, 1})},
      {"padding as high as the kernel", "op 1 \"conv1\": padding 3×1 of a kernel", set("conv1", "padding", json{3, 1, 3, 1})},
      {"padding as wide as the kernel", "padding top 1 left 1 bottom 1 right 3 of a kernel", set("conv1", "padding", json{1, 1, 1, 3})},
      {"stride that does not fit the residual", "a residual", set("layer1.0.conv1", "stride", 2)},
      {"fewer channels than before", "(shortcut 'layer2.0.shortcut')", set("layer2.0.shortcut", "out_channels", 8)},
      {"bits 9", "bits 9", set_format("bits", 9)},
      {"bits 1", "bits 1", set_format("bits", 1)},
      {"bits 4.5", "", set_format("bits", 4.5)},
      {"bits that wrap to 8", "", set_format("bits", 4294967304)},
      {"scale 0", "scale 0", set_format("scale", 0)},
      {"denormal scale", "scale 1e-39", set_format("scale", 1e-39f)},
      {"denormal weight_scale", "weight_scale 1e-39", set("conv1", "weight_scale", 1e-39f)},
      {"scale of a residual's sum", "(conv 'layer1.0.conv2'): conv 'layer1.0.conv2': a residual multiplier",
       set("layer1.0.conv2", "residual_multiplier", 0.3)},
      {"multiplier of the classifier", "fc.multiplier: a value is not", set_value("fc.multiplier", 0.3f)},
      {"scale of the classifier's weights", "fc.multiplier: a value is not", set("fc", "weight_scale", 0.3)},
      {"scale -1", "scale -1", set_format("scale", -1)},
      {"infinite scale", "scale inf", set_format("scale", 1e300)},
      {"scale is null", "", set_format("scale", nullptr)},
      {"scale is text", "", set_format("scale", "0.5")},
      {"no signedness", "signed", [](Broken& b) { b.op("conv1")["format"].erase("signed"); }},
      {"table of the other signedness", "input.table",
       [](Broken& b) { b.op("input")["format"]["signed"] = false; }},
      {"table of 255", "input.table", set_tensor("input.table", Tensor::zeros({3, 255}, DType::s8))},
      {"table for other images", "", set_tensor("input.table", Tensor::zeros({1, 256}, DType::s8))},
      {"table outside of its bits", "input.table",
       [](Broken& b) { b.tensor("input.table").mutable_data<std::int8_t>()[0] = -128; }},
      {"height 0", "height 0", set_extent("height", 0)},
      {"height negative", "height -8", set_extent("height", -8)},
      {"height absurd", "height", set_extent("height", 1 << 30)},
      {"height and width absurd together", "height",
       [](Broken& b) { b.images["height"] = b.images["width"] = 16384; }},
      {"height and width allowed, but not together", "elements of an image",
       [](Broken& b) { b.images["height"] = b.images["width"] = 4096; }},
      {"channels absurd", "elements of an image",
       [](Broken& b) {
         b.op("layer2.0.shortcut")["out_channels"] = 1 << 16;
         b.images["height"] = b.images["width"] = 256;
       }},
      {"width 2^63", "", set_extent("width", 9223372036854775808u)},
      {"width 1e300", "", set_extent("width", 1e300)},
      {"height fractional", "", set_extent("height", 8.5)},
      {"height is text", "", set_extent("height", "8")},
      {"too small for a convolution", "",
       [](Broken& b) {
         b.op("conv1")["padding"] = {0, 0, 0, 0};
         b.images["height"] = b.images["width"] = 2;
       }},
      {"other channels", "", set_extent("channels", 1)},
      {"two channels", "channels 2: expected 1 or 3", set_extent("channels", 2)},
      {"absurd channels", "", set_extent("channels", 1 << 14)},
      {"no extents", "missing \"width\"", [](Broken& b) { b.images.erase("width"); }},
      {"no ops", "no ops", [](Broken& b) { b.network["ops"] = json::array(); }},
      {"ops not a list", "no ops", [](Broken& b) { b.network["ops"] = "conv"; }},
      {"ops of numbers", "", [](Broken& b) { b.network["ops"] = json{1, 2}; }},
      {"does not end in a classifier", "does not end in a classifier",
       [](Broken& b) { b.network["ops"].erase(b.network["ops"].size() - 1); }},
      {"not an object", "", [](Broken& b) { b.network = 5; }},
      {"a version to come", "format version '6' is newer than this program, which reads 1 to 5",
       [](Broken& b) { b.file.metadata["format_version"] = std::string("6"); }},
      {"version 0", "format version '0': expected 1 to 5",
       [](Broken& b) { b.file.metadata["format_version"] = std::string("0"); }},
      {"a version that is no number", "format version '4a': expected 1 to 5",
       [](Broken& b) { b.file.metadata["format_version"] = std::string("4a"); }},
      {"a version it is not", "missing \"step\"",
       [](Broken& b) { b.file.metadata["format_version"] = std::string("1"); }},
      {"no version", "format version ''", [](Broken& b) { b.file.metadata.erase("format_version"); }},
      {"another format", "not an integer network",
       [](Broken& b) { b.file.metadata["format"] = std::string("pt"); }},
      {"no format", "not an integer network", [](Broken& b) { b.file.metadata.erase("format"); }},
  };
  const fs::path file = folder / "broken.safetensors";
  const auto refused = [&](const char* message) {
    const auto error = error_of([&] { IntegerNetwork::load(file); });
    CHECK(error.has_value());
    if (!error) return;
    const std::string text = error->what();
    INFO(text);
    CHECK(error->kind() == ErrorKind::bad_data);
    CHECK(text.find('\n') == std::string::npos);
    CHECK(text.find("broken.safetensors") != std::string::npos);
    CHECK(text.find(message) != std::string::npos);
  };
  for (const Row& row : rows) {
    INFO(row.what);
    Broken b{json::parse(good.metadata.at("network")), json::parse(good.metadata.at("preprocessing")), good};
    for (auto& [name, tensor] : b.file.tensors) tensor = tensor.clone();
    row.change(b);
    b.file.metadata["network"] = b.network.dump();
    b.file.metadata["preprocessing"] = b.images.dump();
    write_safetensors(file, b.file);
    refused(row.message);
  }
  // The description itself.
  for (const char* text : {"", "{", "[1, 2", "null"}) {
    INFO("network: " << text);
    NamedTensors broken = good;
    broken.metadata["network"] = text;
    write_safetensors(file, broken);
    refused("");
  }
  for (const char* entry : {"network", "preprocessing"}) {
    NamedTensors without = good;
    without.metadata.erase(entry);
    write_safetensors(file, without);
    refused(entry);
  }
  // And the file: cut anywhere, a byte flipped anywhere (checksums).
  const std::string bytes = file_bytes(folder / "good.safetensors");
  for (const std::size_t length :
       {std::size_t{0}, std::size_t{7}, std::size_t{100}, bytes.size() / 2, bytes.size() - 1}) {
    write_file(file, bytes.substr(0, length));
    refused("");
  }
  for (const std::size_t place : {std::size_t{9}, bytes.size() / 3, bytes.size() / 2, bytes.size() - 1}) {
    std::string flipped = bytes;
    flipped[place] ^= 0x10;
    write_file(file, flipped);
    refused("");
  }
  check_error(ErrorKind::missing_input, "absent.safetensors",
              [&] { IntegerNetwork::load(folder / "absent.safetensors"); });
}

TEST_CASE("what needs more working memory than anybody has is refused", "[integer_format]") {
  // Small weights, and a border that makes a large image of a narrow one.
  constexpr std::int64_t channels = 1 << 15;
  const TemporaryFolder folder;
  NamedTensors file;
  using json = nlohmann::json;
  const json format{{"scale", 1.0}, {"bits", 8}, {"signed", true}};
  json ops = json::array({{{"kind", "input"}, {"name", "in"}, {"format", format}, {"inputs", {0}}}});
  file.add("in.table", Tensor::zeros({1, 256}, DType::s8));
  const auto add = [&](const std::string& name, const Shape& shape, const json& more) {
    file.add(name + ".weight", Tensor::zeros(shape, DType::s8));
    file.add(name + ".multiplier", Tensor::full({shape[0]}, 1));
    file.add(name + ".bias", Tensor::zeros({shape[0]}));
    json op{{"name", name},
            {"weight_bits", 8},
            {"weight_scale", 1.0},
            {"weight_code", "fixed_point"},
            {"weight_shape", shape.extents()},
            {"inputs", {ops.size()}}};
    op.update(more);
    ops.push_back(op);
  };
  const json conv{{"kind", "conv"}, {"stride", 1}, {"groups", 1},     {"residual_multiplier", 0.0},
                  {"low", -127},    {"high", 127}, {"format", format}};
  json plain = conv, padded = conv;
  plain["padding"] = {0, 0, 0, 0};
  padded["padding"] = {0, 64, 0, 64};
  add("wide", {channels, 1, 1, 1}, plain);
  add("padded", {1, channels, 1, 65}, padded);
  ops.push_back({{"kind", "global_avg_pool"}, {"name", "mean"}, {"inputs", {ops.size()}}});
  add("fc", {2, 1}, {{"kind", "linear"}, {"input", format}});
  file.metadata = {
      {"format", "faq-integer-network"}, {"format_version", "5"}, {"network", json{{"ops", ops}}.dump()}};
  const auto load_with_height = [&](int height) {
    file.metadata["preprocessing"] = json{
        {"height", height},
        {"width", 1},
        {"channels", 1},
        {"resize", 0},
        {"mean", json::array()},
        {"std", json::array()},
        {"classes", json::array()},
        {"interpolation", "bilinear"}}.dump();
    write_safetensors(folder / "n.safetensors", file);
    return IntegerNetwork::load(folder / "n.safetensors");
  };
  CHECK(load_with_height(1).num_classes() == 2);
  check_error(ErrorKind::bad_data, "'padded' needs", [&] { load_with_height(4096); });
}

TEST_CASE("what the format has no place for is not written", "[integer_format]") {
  struct Row {
    ConvGeometry geometry;
    Activation activation;
    const char* message;
  };
  const Row rows[] = {{{.dilation = 2}, Activation::relu, "the format has no place for"},
                      {{}, {6, 5}, "is left by the activation clip to [6, 5]"}};
  ConvOp op;
  op.name = "conv1";
  op.weights.values = Tensor::zeros({2, 1, 3, 3}, DType::s8);
  op.weights.values.set_fixed_point({.scale = 0.5f, .bits = 8, .is_signed = true});
  op.requantize = {.multiplier = Tensor::zeros({2}), .bias = Tensor::zeros({2}), .format = {}};
  for (const Row& row : rows) {
    op.geometry = row.geometry;
    op.requantize.activation = row.activation;
    NamedTensors tensors;
    CHECK_THROWS_WITH(describe(op, tensors),
                      Catch::Contains("conv 'conv1': ") && Catch::Contains(row.message));
  }
}

TEST_CASE("the ends of activations come back as they went into the file", "[integer_format]") {
  struct Row {
    Activation activation;
    FixedPoint format;
    int low, high;
  };
  const FixedPoint u8{.scale = 0.03f, .bits = 8}, s8{.scale = 0.1f, .bits = 8, .is_signed = true},
      u4{.scale = 0.5f, .bits = 4};
  const Row rows[] = {{Activation::relu, u8, 0, 255},  {Activation::identity, u8, 0, 255},
                      {Activation::relu6, u8, 0, 200}, {Activation::relu6, u4, 0, 12},
                      {Activation::relu, s8, 0, 127},  {Activation::identity, s8, -127, 127},
                      {Activation::relu6, s8, 0, 60},  {{-1, 2.34f}, s8, -10, 23},
                      {{-100, 100}, s8, -127, 127},    {{0.9f, 7}, u8, 30, 233}};
  NormActOp op;
  op.name = "norm";
  for (const Row& row : rows) {
    INFO(row.activation << " of " << row.format);
    op.requantize = {.multiplier = Tensor::zeros({2}),
                     .bias = Tensor::zeros({2}),
                     .activation = row.activation,
                     .format = row.format};
    NamedTensors tensors;
    const nlohmann::json j = describe(op, tensors);
    CHECK(j.at("low") == row.low);
    CHECK(j.at("high") == row.high);
    std::set<std::string> used;
    const auto read = parse_op(j, tensors, used);
    const kernels::Requantize& back = dynamic_cast<const NormActOp&>(*read).requantize;
    const Levels levels = levels_of(back.activation, back.format);
    CHECK(levels.low == static_cast<float>(row.low));
    CHECK(levels.high == static_cast<float>(row.high));
  }
}

TEST_CASE("ops that ResNet-20 has not are refused just so", "[integer_format]") {
  const OneThread one_thread;
  using json = nlohmann::json;
  const TemporaryFolder folder;
  const Case c{.model = "densenet121", .size = 32, .weight_bits = 4, .act_bits = 4};
  compile(*quantized_model(c), c).save(folder / "good.safetensors");
  const NamedTensors good = read_safetensors(folder / "good.safetensors");
  struct Row {
    const char *op, *key;
    json value;  // null: the key goes
    const char* message;
  };
  const Row rows[] = {
      {"features.pool0", "kernel", 0, "kernel 0"},
      {"features.pool0", "kernel", 12, "a window of 12, at most 11"},
      {"features.pool0", "kernel", nullptr, "kernel"},
      {"features.pool0", "stride", 65, "stride 65"},
      {"features.pool0", "padding", 2, "kernel 3, stride 2, padding 2"},
      {"features.pool0", "padding", -1, "padding -1"},
      {"features.transition1.pool", "kernel", 65, "kernel 65"},
      {"features.transition1.pool", "stride", 0, "stride 0"},
      {"features.transition1.pool", "padding", 33, "padding 33"},
      {"features.transition1.pool", "output", 65, "output 65"},
      {"features.transition1.pool", "output", -1, "output -1"},
      {"features.transition1.pool", "output", nullptr, "output"},
      {"features.transition1.norm", "channels", 255, "transition1.norm.multiplier: expected [255]"},
      {"features.transition1.norm", "channels", 0, "channels 0"},
      {"features.transition1.norm", "low", nullptr, "low"},
      {"features.transition1.norm", "inputs", json{1}, "256 multipliers for"},
      {"features.transition1.norm", "inputs", json{1, 1}, "2 inputs"},
      {"features.denseblock1.denselayer1.concat", "inputs", json{3, 4}, "scales are not tied"},
      {"features.denseblock1.denselayer1.concat", "inputs", json{1, 2}, "concat: [1, 16, 16, 64] after"},
      {"features.denseblock1.denselayer1.concat", "inputs", json::array(), "inputs []"},
  };
  for (const Row& row : rows) {
    INFO(row.op << ": " << row.message);
    NamedTensors file = good;
    json network = json::parse(good.metadata.at("network"));
    bool found = false;
    for (json& op : network["ops"]) {
      if (op["name"] != row.op) continue;
      found = true;
      if (row.value.is_null()) {
        op.erase(row.key);
      } else {
        op[row.key] = row.value;
      }
    }
    REQUIRE(found);
    file.metadata["network"] = network.dump();
    write_safetensors(folder / "bad.safetensors", file);
    check_error(ErrorKind::bad_data, row.message, [&] { IntegerNetwork::load(folder / "bad.safetensors"); });
  }
}
