#include "nn/models.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>

#include "nn/load_weights.h"
#include "tests/catch.h"
#include "tests/reference.h"

using namespace faq;

namespace {

NamedTensors weights_of(Model& model) {
  NamedTensors file;
  export_weights(model, file);
  for (auto& [name, tensor] : file.tensors) tensor = tensor.clone();
  return file;
}

std::unique_ptr<Model> initialized(std::uint64_t seed, const ModelOptions& options = {}) {
  auto model = make_model("resnet20", options);
  initialize(*model, seed);
  return model;
}

Tensor& tensor_named(NamedTensors& file, const std::string& name) {
  return std::ranges::find(file.tensors, name, [](const auto& entry) { return entry.first; })->second;
}

void remove(NamedTensors& file, const std::string& name) {
  std::erase_if(file.tensors, [&](const auto& entry) { return entry.first == name; });
}

bool same_weights(Model& a, Model& b) {
  const NamedTensors left = weights_of(a), right = weights_of(b);
  return std::ranges::equal(left.tensors, right.tensors, [](const auto& l, const auto& r) {
    return l.first == r.first && reference::same_bytes(l.second, r.second);
  });
}

std::string error_of(Model& model, const NamedTensors& file, const LoadWeightsOptions& options = {}) {
  try {
    load_weights(model, file, options);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::bad_data);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("the CIFAR ResNets have the paper's sizes", "[models]") {
  // He et al., table 6, to the last parameter; 0.27, 0.46, 0.66, 0.85 and 1.7 million.
  struct Row {
    const char* name;
    std::int64_t parameters, macs;
    std::size_t units;
  };
  const Row rows[] = {{"resnet20", 269'722, 40'551'040, 31},
                      {"resnet32", 464'154, 68'862'592, 49},
                      {"resnet44", 658'586, 97'174'144, 67},
                      {"resnet56", 853'018, 125'485'696, 85},
                      {"resnet110", 1'727'962, 252'887'680, 166}};
  for (const Row& row : rows) {
    INFO(row.name);
    const ModelInfo& info = model_info(row.name);
    CHECK(info.name == row.name);
    CHECK(info.family == "cifar-resnet");
    CHECK(info.input_size == 32);
    CHECK(info.num_classes == 10);
    const ModelCost cost = model_cost(row.name, {});
    CHECK(cost.parameters == row.parameters);
    CHECK(cost.macs == row.macs);
    std::size_t units = 0;
    const auto model = make_model(row.name, {});
    for_each_unit(*model, [&](const std::string&, Unit&) { ++units; });
    CHECK(units == row.units);
  }
  CHECK(model_cost("resnet20", {.num_classes = 100}).parameters == 269'722 + 90 * 65);
  CHECK(model_cost("resnet20", {.in_channels = 1}).parameters == 269'722 - 2 * 9 * 16);
}

TEST_CASE("the ImageNet ResNets have torchvision's sizes", "[models]") {
  struct Row {
    const char* name;
    std::int64_t parameters;
  };
  const Row rows[] = {{"resnet18", 11'689'512},
                      {"resnet34", 21'797'672},
                      {"resnet50", 25'557'032},
                      {"resnet101", 44'549'160},
                      {"resnet152", 60'192'808}};
  for (const Row& row : rows) {
    INFO(row.name);
    const ModelInfo& info = model_info(row.name);
    CHECK(info.family == "resnet");
    CHECK(info.input_size == 224);
    CHECK(info.num_classes == 1000);
    const auto model = make_model(row.name, {});  // with as many classes as the row says
    std::int64_t count = 0;
    for (const auto& [name, parameter] : parameters(*model)) count += parameter.value().numel();
    CHECK(count == row.parameters);
  }
  const ModelCost cost = model_cost("resnet18", {.num_classes = 1000});
  CHECK(cost.parameters == rows[0].parameters);
  CHECK(static_cast<double>(cost.macs) / 1e9 == Approx(1.814).epsilon(1e-3));
  // Counted on a tape, whether the caller wants one or not.
  const NoGrad no_grad;
  CHECK(model_cost("resnet18", {}).macs == cost.macs);
}

TEST_CASE("the networks with groups have the published sizes", "[models]") {
  struct Row {
    const char *name, *family;
    int input_size, resize;
    std::int64_t parameters;
    double macs;  // thousands of millions
  };
  // torchvision's; of EfficientNet-Lite timm's.
  const Row rows[] = {{"resnext50_32x4d", "resnet", 224, 256, 25'028'904, 4.230},
                      {"mobilenet_v2", "mobilenet", 224, 256, 3'504'872, 0.301},
                      {"efficientnet_lite0", "efficientnet", 224, 256, 4'652'008, 0.385},
                      {"efficientnet_lite1", "efficientnet", 240, 272, 5'416'680, 0.601},
                      {"efficientnet_lite2", "efficientnet", 260, 292, 6'092'072, 0.861}};
  for (const Row& row : rows) {
    INFO(row.name);
    const ModelInfo& info = model_info(row.name);
    CHECK(info.family == row.family);
    CHECK(info.input_size == row.input_size);
    CHECK(info.resize == row.resize);
    CHECK((info.interpolation == Interpolation::bicubic) == (info.family == "efficientnet"));
    const ModelCost cost = model_cost(row.name, {});
    CHECK(cost.parameters == row.parameters);
    CHECK(static_cast<double>(cost.macs) / 1e9 == Approx(row.macs).epsilon(5e-3));
  }
}

TEST_CASE("every model of the zoo can be made", "[models]") {
  CHECK(list_models().size() >= 5);
  for (const ModelInfo& info : list_models()) {
    INFO(info.name);
    CHECK_FALSE(info.source.empty());
    CHECK(model_info(info.name).family == info.family);
    CHECK_FALSE(parameters(*make_model(info.name, {.num_classes = info.num_classes})).empty());
    CHECK(std::ranges::count(list_models(), info.name, &ModelInfo::name) == 1);
  }
  const auto model = initialized(1, {.num_classes = 7, .in_channels = 1});
  const NoGrad no_grad;
  const Tensor images = reference::random_integers<std::uint8_t>({3, 32, 32, 1}, 1, 0, 255);
  CHECK(model->forward({}, Var(images)).shape() == Shape{3, 7});
}

TEST_CASE("an unknown model names the nearest", "[models]") {
  struct Row {
    const char* name;
    const char* nearest;
  };
  for (const Row& row :
       {Row{"resnet21", "'resnet20'"}, {"ResNet56", "'resnet56'"}, {"resnet-110", "'resnet110'"}}) {
    INFO(row.name);
    CHECK_THROWS_WITH(make_model(row.name, {}), Catch::Contains(row.name) && Catch::Contains(row.nearest));
    CHECK_THROWS_AS(model_info(row.name), Error);
  }
  try {
    model_info("nothing");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::usage);
  }
}

TEST_CASE("models refuse options that make no sense", "[models]") {
  const auto make = [](int classes, int channels, std::vector<float> mean, std::vector<float> std) {
    return make_model(
        "resnet20",
        {.num_classes = classes, .in_channels = channels, .mean = std::move(mean), .std = std::move(std)});
  };
  for (const int classes : {-1, 1})
    CHECK_THROWS_WITH(make(classes, 3, {}, {}), Catch::Contains("at least 2"));
  CHECK_THROWS_WITH(make(10, 2, {}, {}), Catch::Contains("2 input channels"));
  CHECK_THROWS_WITH(make(10, 3, {0.5f}, {}), Catch::Contains("1 means"));
  CHECK_THROWS_WITH(make(10, 3, {0, 0, 0}, {1, 1}), Catch::Contains("2 standard deviations"));
  CHECK_THROWS_WITH(make(10, 1, {0}, {0}), Catch::Contains("not positive"));
  CHECK_NOTHROW(make(2, 1, {0.1f}, {0.3f}));
}

TEST_CASE("names are torchvision's", "[models]") {
  const auto model = make_model("resnet20", {});
  std::vector<std::string> names;
  for (const auto& [name, parameter] : parameters(*model)) {
    names.push_back(name);
    CHECK(parameter.requires_grad());
  }
  for (const auto& [name, buffer] : buffers(*model)) names.push_back(name);
  CHECK(names.size() == 97);
  for (const char* name : {"conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var",
                           "layer1.0.conv1.weight", "layer2.0.bn2.running_var", "layer3.2.conv2.weight",
                           "fc.weight", "fc.bias"}) {
    INFO(name);
    CHECK(std::ranges::count(names, name) == 1);
  }
}

TEST_CASE("initialisation depends on the seed alone", "[models]") {
  const auto model = initialized(1), again = initialized(1), other = initialized(2);
  CHECK(same_weights(*model, *again));
  CHECK_FALSE(same_weights(*model, *other));
  initialize(*other, 1);
  CHECK(same_weights(*model, *other));

  for (const auto& [name, parameter] : parameters(*model)) {
    INFO(name);
    const std::vector<double> w = reference::numbers(parameter.value());
    const Shape& shape = parameter.shape();
    double squares = 0, largest = 0;
    for (double x : w) squares += x * x, largest = std::max(largest, std::abs(x));
    const auto n = static_cast<double>(w.size());
    if (shape.rank() == 4) {
      const double variance = 2.0 / static_cast<double>(shape[0] * shape[2] * shape[3]);
      CHECK(squares / n == Approx(variance).epsilon(6 * std::sqrt(2 / n)));
    } else if (name.starts_with("fc.")) {
      CHECK(largest <= 1.0 / 8);  // 1/√64
      CHECK(largest > 0.05);
    } else {
      CHECK(w == std::vector<double>(w.size(), name.ends_with("weight") ? 1.0 : 0.0));
    }
  }
  // No two layers of one shape have the same numbers.
  const NamedTensors file = weights_of(*model);
  CHECK_FALSE(
      reference::same_bytes(*file.find("layer1.0.conv1.weight"), *file.find("layer1.0.conv2.weight")));
}

TEST_CASE("weights survive export and loading", "[models]") {
  const auto model = initialized(1), target = initialized(2);
  CHECK(load_weights(*target, weights_of(*model)).empty());
  CHECK(same_weights(*model, *target));
  // Exported tensors are the model's own.
  NamedTensors file;
  export_weights(*model, file);
  CHECK(file.find("conv1.weight")->same_storage(parameters(*model)[0].value.value()));
}

TEST_CASE("names in the wild", "[models]") {
  const auto model = initialized(1), target = initialized(2);
  NamedTensors file = weights_of(*model);
  for (auto& [name, tensor] : file.tensors) {
    if (name.starts_with("fc.")) name = "linear." + name.substr(3);
    name = "module._orig_mod.module." + name;
  }
  file.add("module._orig_mod.module.bn1.num_batches_tracked", Tensor::zeros({1}, DType::s32));
  CHECK(classes_in(file, model->info()) == 10);
  CHECK(channels_in(file, model->info()) == 3);
  CHECK(load_weights(*target, file).empty());
  CHECK(same_weights(*model, *target));

  CHECK(classes_in({}, model->info()) == 0);
  CHECK(channels_in({}, model->info()) == 0);
}

TEST_CASE("other spellings of a family's names", "[models]") {
  struct Row {
    const char* what;
    const char* model;
    std::vector<std::pair<std::string, std::string>> spellings;  // ours, theirs
    std::map<std::string, Shape> shapes;                         // theirs, where they differ
    std::size_t renamed;
    std::string left_out;
  };
  const Row rows[] = {
      {"torchvision before 0.4",
       "densenet121",
       {{".norm1.", ".norm.1."}, {".norm2.", ".norm.2."}, {".conv1.", ".conv.1."}, {".conv2.", ".conv.2."}},
       {},
       58 * 10,
       ""},
      {"timm",
       "vgg11_bn",
       {{"classifier.0.", "pre_logits.fc1."},
        {"classifier.3.", "pre_logits.fc2."},
        {"classifier.6.", "head.fc."}},
       {{"pre_logits.fc1.weight", {4096, 512, 7, 7}}, {"pre_logits.fc2.weight", {4096, 4096, 1, 1}}},
       6,
       ""},
      {"without the auxiliary head", "inception_v3", {}, {}, 0, "AuxLogits."},
  };
  for (const Row& row : rows) {
    INFO(row.what);
    const auto model = make_model(row.model, {.num_classes = 10}),
               target = make_model(row.model, {.num_classes = 10});
    NamedTensors file;
    export_weights(*model, file);
    std::size_t renamed = 0, position = 0;
    for (auto& [name, tensor] : file.tensors) {  // each its own value
      tensor = Tensor::full(tensor.shape(), static_cast<float>(++position));
      for (const auto& [ours, theirs] : row.spellings) {
        const auto at = name.find(ours);
        if (at == std::string::npos) continue;
        name.replace(at, ours.size(), theirs);
        ++renamed;
      }
      if (row.shapes.contains(name)) tensor = tensor.reshaped(row.shapes.at(name));
    }
    CHECK(renamed == row.renamed);
    const std::size_t whole = file.tensors.size();
    if (!row.left_out.empty())
      std::erase_if(file.tensors, [&](const auto& entry) { return entry.first.starts_with(row.left_out); });
    const auto notes = load_weights(*target, file);
    CHECK(notes.size() == (row.left_out.empty() ? 0 : 1));
    if (!notes.empty())
      CHECK_THAT(notes[0], Catch::Contains(row.left_out) &&
                               Catch::Contains(std::to_string(whole - file.tensors.size()) + " tensors"));
    NamedTensors loaded;
    export_weights(*target, loaded);
    position = 0;
    int wrong = 0;
    for (const auto& [name, tensor] : loaded.tensors) {
      ++position;
      const bool left_out = !row.left_out.empty() && name.starts_with(row.left_out);
      wrong += !left_out && tensor.data<float>()[tensor.numel() - 1] != static_cast<float>(position);
    }
    CHECK(wrong == 0);
    CHECK(classes_in(file, model->info()) == 10);
    CHECK(channels_in(file, model->info()) == 3);
  }
  // A classifier of another size: the auxiliary one, too.
  const auto model = make_model("inception_v3", {.num_classes = 7, .in_channels = 3}),
             target = make_model("inception_v3", {.num_classes = 10});
  const NamedTensors seven = weights_of(*model);
  const auto notes = load_weights(*target, seven, {.reinitialize_classifier = true});
  REQUIRE(notes.size() == 4);
  for (const std::string& note : notes) CHECK_THAT(note, Catch::StartsWith("classifier re-initialised"));
  const std::string error = error_of(*target, seven);
  CHECK_THAT(error, Catch::Contains("4 mismatches") && Catch::Contains("AuxLogits.fc.weight") &&
                        Catch::Contains("; misshapen fc.bias"));
}

TEST_CASE("weights of the larger families that do not fit", "[models]") {
  using Damage = std::function<void(NamedTensors&)>;
  const auto without = [](const char* name) -> Damage { return [=](NamedTensors& f) { remove(f, name); }; };
  const auto shaped = [](const char* name, Shape shape) -> Damage {
    return [=](NamedTensors& f) { tensor_named(f, name) = Tensor::zeros(shape); };
  };
  const auto added = [](const char* name, Shape shape) -> Damage {
    return [=](NamedTensors& f) { f.add(name, Tensor::zeros(shape)); };
  };
  const auto not_finite = [](const char* name) -> Damage {
    return [=](NamedTensors& f) {
      tensor_named(f, name) =
          Tensor::full(tensor_named(f, name).shape(), std::numeric_limits<float>::infinity());
    };
  };
  struct Row {
    const char* model;
    Damage damage;
    const char* message;
  };
  const Row rows[] = {
      {"densenet121", without("features.denseblock2.denselayer3.norm2.running_mean"),
       "missing features.denseblock2.denselayer3.norm2.running_mean [128]"},
      {"densenet121", shaped("features.denseblock1.denselayer2.conv1.weight", {128, 64, 1, 1}),
       "misshapen features.denseblock1.denselayer2.conv1.weight expected [128, 96, 1, 1] found [128, 64, 1, "
       "1]"},
      // Both spellings at once: which one is meant?
      {"densenet121", added("features.denseblock1.denselayer1.norm.1.weight", {64}), "duplicate "},
      {"densenet121", added("features.denseblock1.denselayer7.conv1.weight", {128, 256, 1, 1}),
       "extra features.denseblock1.denselayer7.conv1.weight"},
      {"densenet121", not_finite("features.norm5.running_var"),
       "non-finite values in features.norm5.running_var"},
      {"inception_v3", without("AuxLogits.conv1.bn.weight"), "missing AuxLogits.conv1.bn.weight"},
      // A square kernel where a row or a column belongs, of as many elements.
      {"inception_v3", shaped("Mixed_6b.branch7x7_2.conv.weight", {128, 128, 7, 1}),
       "misshapen Mixed_6b.branch7x7_2.conv.weight expected [128, 128, 1, 7] found [128, 128, 7, 1]"},
      {"inception_v3", not_finite("AuxLogits.fc.bias"), "non-finite values in AuxLogits.fc.bias"},
      {"inception_v3", shaped("fc.weight", {1000, 2048}), "misshapen fc.weight expected [10, 2048]"},
      {"vgg11_bn", without("features.0.bias"), "missing features.0.bias [64]"},
      {"vgg11_bn", shaped("classifier.0.weight", {4096, 25087}), "misshapen classifier.0.weight"},
      {"vgg11_bn", added("pre_logits.fc1.weight", {4096, 512, 7, 7}), "duplicate "},
      {"alexnet", shaped("features.0.weight", {64, 1, 11, 11}),
       "misshapen features.0.weight expected [64, 3, 11, 11] found [64, 1, 11, 11]"},
      {"alexnet", added("features.1.weight", {64}), "extra features.1.weight [64]"},
      {"resnet50", without("layer2.0.downsample.0.weight"),
       "missing layer2.0.downsample.0.weight [512, 256, 1, 1]"},
      {"resnet50", shaped("layer1.0.conv2.weight", {64, 64, 1, 1}), "misshapen layer1.0.conv2.weight"},
  };
  std::map<std::string, std::unique_ptr<Model>> models;
  for (const Row& row : rows) {
    INFO(row.model << ", " << row.message);
    auto& model = models[row.model];
    if (!model) model = make_model(row.model, {.num_classes = 10});
    NamedTensors file;
    export_weights(*model, file);
    row.damage(file);
    const std::string message = error_of(*model, file, {.source = "some.safetensors"});
    CHECK_THAT(message, Catch::StartsWith("loading weights from some.safetensors: 1 mismatch: ") &&
                            Catch::Contains(row.message));
  }
}

TEST_CASE("bf16 weights are widened", "[models]") {
  const auto model = initialized(1), target = initialized(2);
  NamedTensors file = weights_of(*model);
  for (auto& [name, tensor] : file.tensors) tensor = kernels::convert(tensor, DType::bf16);
  load_weights(*target, file);
  const NamedTensors loaded = weights_of(*target);
  for (const auto& [name, tensor] : file.tensors) {
    INFO(name);
    CHECK(loaded.find(name)->dtype() == DType::f32);
    CHECK(reference::numbers(*loaded.find(name)) == reference::numbers(tensor));
  }
}

TEST_CASE("loading lists everything that does not fit, and changes nothing", "[models]") {
  const auto model = initialized(1), target = initialized(2), untouched = initialized(2);
  NamedTensors file = weights_of(*model);

  SECTION("missing, extra and misshapen, all at once") {
    remove(file, "bn1.weight");
    remove(file, "layer2.1.bn2.running_var");
    file.add("layer4.0.conv1.weight", Tensor::zeros({64, 64, 3, 3}));
    tensor_named(file, "layer3.0.conv1.weight") = Tensor::zeros({64, 32, 1, 1});
    const std::string message = error_of(*target, file, {.source = "some/file.safetensors"});
    for (const char* part :
         {"some/file.safetensors", "4 mismatches", "missing bn1.weight [16]",
          "missing layer2.1.bn2.running_var [32]", "extra layer4.0.conv1.weight [64, 64, 3, 3]",
          "misshapen layer3.0.conv1.weight expected [64, 32, 3, 3] found [64, 32, 1, 1]"}) {
      CHECK_THAT(message, Catch::Contains(part));
    }
  }
  SECTION("not finite") {
    for (float bad : {NAN, std::numeric_limits<float>::infinity()}) {
      tensor_named(file, "layer1.0.bn1.bias").mutable_data<float>()[3] = bad;
      CHECK_THAT(error_of(*target, file),
                 Catch::Contains("non-finite") && Catch::Contains("layer1.0.bn1.bias"));
    }
  }
  SECTION("of another type") {
    tensor_named(file, "fc.bias") = Tensor::zeros({10}, DType::s32);
    CHECK_THAT(error_of(*target, file), Catch::Contains("fc.bias") && Catch::Contains("s32"));
  }
  SECTION("twice, under two names") {
    file.add("module.conv1.weight", tensor_named(file, "conv1.weight"));
    CHECK_THAT(error_of(*target, file),
               Catch::Contains("duplicate") && Catch::Contains("module.conv1.weight"));
  }
  SECTION("nothing at all") { CHECK_THAT(error_of(*target, {}), Catch::Contains("97 mismatches")); }
  SECTION("another classifier, not asked for") {
    const auto hundred = initialized(3, {.num_classes = 100});
    CHECK_THAT(error_of(*target, weights_of(*hundred)),
               Catch::Contains("misshapen fc.weight expected [10, 64] found [100, 64]"));
  }
  CHECK(same_weights(*target, *untouched));
}

TEST_CASE("non-finite weights are loaded when allowed", "[models]") {
  const auto model = initialized(1), target = initialized(2);
  NamedTensors file = weights_of(*model);
  tensor_named(file, "fc.bias").mutable_data<float>()[0] = NAN;
  load_weights(*target, file, {.allow_non_finite = true});
  CHECK(std::isnan(weights_of(*target).find("fc.bias")->data<float>()[0]));
}

TEST_CASE("a classifier of another size is kept when asked for, and reported", "[models]") {
  const auto hundred = initialized(1, {.num_classes = 100}), target = initialized(2), before = initialized(2);
  const std::vector<std::string> notes =
      load_weights(*target, weights_of(*hundred), {.reinitialize_classifier = true});
  REQUIRE(notes.size() == 2);
  CHECK_THAT(notes[0], Catch::Contains("fc.weight expected [10, 64] found [100, 64]"));
  CHECK_THAT(notes[1], Catch::Contains("fc.bias"));
  const NamedTensors loaded = weights_of(*target), old = weights_of(*before), source = weights_of(*hundred);
  CHECK(reference::same_bytes(*loaded.find("fc.weight"), *old.find("fc.weight")));
  CHECK(reference::same_bytes(*loaded.find("conv1.weight"), *source.find("conv1.weight")));
}

TEST_CASE("variances below zero are refused by name and channel", "[models]") {
  const auto model = initialized(1), target = initialized(2), untouched = initialized(2);
  NamedTensors file = weights_of(*model);
  tensor_named(file, "layer1.0.bn1.running_var").mutable_data<float>()[3] = -1e-3f;
  CHECK_THAT(
      error_of(*target, file),
      Catch::Contains("1 mismatch: negative variance in layer1.0.bn1.running_var: channel 3 is -0.001"));
  CHECK(same_weights(*target, *untouched));
  tensor_named(file, "layer1.0.bn1.running_var").mutable_data<float>()[3] = -0.0f;
  CHECK(error_of(*target, file).empty());
  tensor_named(file, "layer1.0.bn1.running_mean").mutable_data<float>()[3] = -1e-3f;
  CHECK(error_of(*target, file).empty());
}

TEST_CASE("a file without a classifier is a body where one may begin anew", "[models]") {
  struct Row {
    const char* model;
    const char* head;      ///< what the file lacks: names that begin so
    std::size_t anew = 2;  ///< tensors that keep the model's values
  };
  const Row rows[] = {{"resnet20", "fc."},
                      {"resnet18", "fc."},
                      {"densenet121", "classifier."},
                      {"inception_v3", "fc."},
                      {"vgg11_bn", "classifier.6."},
                      {"alexnet", "classifier.", 6},
                      {"mobilenet_v2", "classifier.1."},
                      {"efficientnet_lite0", "classifier."}};
  for (const Row& row : rows) {
    INFO(row.model << " without " << row.head);
    const auto model = make_model(row.model, {.num_classes = 10}),
               target = make_model(row.model, {.num_classes = 7});
    initialize(*model, 1);
    initialize(*target, 2);
    NamedTensors file = weights_of(*model);
    const NamedTensors before = weights_of(*target);
    std::erase_if(file.tensors, [&](const auto& entry) {
      return entry.first.starts_with(row.head) || entry.first.starts_with("AuxLogits.");
    });
    CHECK_THAT(error_of(*target, file), Catch::Contains(concat("missing ", row.head)));
    const auto notes = load_weights(*target, file, {.source = "body", .reinitialize_classifier = true});
    REQUIRE_FALSE(notes.empty());
    CHECK_THAT(notes.back(),
               Catch::Contains("classifier re-initialised: ") && Catch::Contains(concat(row.head)));
    const NamedTensors after = weights_of(*target);
    std::size_t kept = 0;
    for (const auto& [name, tensor] : after.tensors) {
      if (file.find(name))
        CHECK(reference::same_bytes(tensor, *file.find(name)));
      else if (name.starts_with(row.head))
        kept += reference::same_bytes(tensor, *before.find(name));
    }
    CHECK(kept == row.anew);
    // Half of a classifier is damage, and so is a file of nothing.
    file.add(concat(model_info(row.model).classifiers.front(), ".bias"), Tensor::zeros({7}));
    CHECK_THROWS_AS(load_weights(*target, file, {.reinitialize_classifier = true}), Error);
    CHECK_THROWS_AS(load_weights(*target, {}, {.reinitialize_classifier = true}), Error);
  }
}

TEST_CASE("wrappers, prefixes and counters are stripped by one rule", "[models]") {
  const auto model = initialized(1);
  const NamedTensors plain = weights_of(*model);
  struct Row {
    const char* prefix;
    bool is_said;
  };
  const Row rows[] = {{"", false},          {"module.", false},  {"_orig_mod.module.", false},
                      {"model.", true},     {"backbone.", true}, {"module.my.own.", true},
                      {"net.resnet.", true}};
  for (const Row& row : rows) {
    INFO(row.prefix);
    NamedTensors file;
    for (const auto& [name, tensor] : plain.tensors) file.add(row.prefix + name, tensor);
    file.add(concat(row.prefix, "bn1.num_batches_tracked"), Tensor::zeros({}, DType::s32));
    file.add("n_averaged", Tensor::zeros({}, DType::s32));
    CHECK(classes_in(file, model->info()) == 10);
    CHECK(channels_in(file, model->info()) == 3);
    const auto target = initialized(2);
    const auto notes = load_weights(*target, file, {.source = "f"});
    CHECK(same_weights(*target, *model));
    REQUIRE(notes.size() == (row.is_said ? 1 : 0));
    if (row.is_said) CHECK_THAT(notes[0], Catch::Contains("stripped the prefix"));
  }
  // torch.compile wraps parts, too; a head may stand beside the body.
  NamedTensors file;
  for (const auto& [name, tensor] : plain.tensors)
    file.add(name.starts_with("fc.")       ? name
             : name.starts_with("layer1.") ? "b.layer1._orig_mod" + name.substr(6)
                                           : "b." + name,
             tensor);
  const auto target = initialized(2);
  CHECK(load_weights(*target, file).size() == 1);
  CHECK(same_weights(*target, *model));
  // Two networks: which one is meant?
  NamedTensors both;
  for (const auto& [name, tensor] : plain.tensors)
    both.add("student." + name, tensor), both.add("teacher." + name, tensor);
  CHECK_THAT(error_of(*target, both),
             Catch::Contains("missing conv1.weight") &&
                 Catch::Contains("2 networks, behind student. and teacher.: leave the others out with "
                                 "`ignore_extra` teacher.*"));
  const auto other = initialized(3);
  CHECK(load_weights(*other, both, {.ignore_extra = {"teacher.*"}}).size() == 2);
  CHECK(same_weights(*other, *model));
  CHECK(classes_in(both, model->info()) == 0);
  CHECK(classes_in(both, model->info(), {"teacher.*"}) == 10);
}

TEST_CASE("a classifier in a list is the classifier", "[models]") {
  const auto model = initialized(1);
  const NamedTensors plain = weights_of(*model);
  const auto in_list = [&](const std::string& number) {
    NamedTensors file;
    for (const auto& [name, tensor] : plain.tensors)
      file.add(name.starts_with("fc.") ? "fc." + number + name.substr(2) : name, tensor);
    return file;
  };
  for (const char* number : {"0", "1", "12"}) {
    const auto target = initialized(2);
    CHECK(load_weights(*target, in_list(number)).empty());
    CHECK(same_weights(*target, *model));
    CHECK(classes_in(in_list(number), model->info()) == 10);
  }
  // Two layers are another head; without it the file is a body.
  NamedTensors two = in_list("3");
  two.add("fc.0.weight", Tensor::zeros({64, 64}));
  const auto target = initialized(2);
  CHECK_THAT(error_of(*target, two),
             Catch::Contains("missing fc.weight") && Catch::Contains("extra fc.0.weight"));
  const auto notes = load_weights(*target, two, {.reinitialize_classifier = true, .ignore_extra = {"fc.*"}});
  REQUIRE(notes.size() == 2);
  CHECK_THAT(notes[0], Catch::Contains("classifier re-initialised"));
  CHECK_THAT(error_of(*target, in_list("x")), Catch::Contains("extra fc.x.weight"));
}

TEST_CASE("what no tensor of ours holds may stand beside weights, not among them", "[models]") {
  const auto model = initialized(1);
  NamedTensors file = weights_of(*model);
  file.unusable = {{"bn1.num_batches_tracked", "value 9000000000 of element 0 does not fit s32"},
                   {"rope.freqs", "dtype C64"}};
  const auto target = initialized(2);
  CHECK_THAT(error_of(*target, file), Catch::Contains("1 mismatch: extra rope.freqs (dtype C64)"));
  CHECK(load_weights(*target, file, {.ignore_extra = {"rope.*"}}).size() == 1);
  CHECK(same_weights(*target, *model));
  remove(file, "conv1.weight");
  file.unusable.push_back({"conv1.weight", "dtype F8_E4M3"});
  CHECK_THAT(error_of(*target, file, {.ignore_extra = {"rope.*"}}),
             Catch::Contains("1 mismatch: unusable conv1.weight: dtype F8_E4M3"));
}

TEST_CASE("extra tensors may be ignored by name", "[models]") {
  const auto model = initialized(1), target = initialized(2);
  NamedTensors file = weights_of(*model);
  file.add("head.weight", Tensor::zeros({2}));
  file.add("head.bias", Tensor::zeros({2}));
  CHECK_THAT(error_of(*target, file),
             Catch::Contains("2 mismatches: extra head.bias [2]; extra head.weight [2]"));
  CHECK_THAT(error_of(*target, file, {.ignore_extra = {"head.w*"}}),
             Catch::Contains("1 mismatch: extra head.bias"));
  const auto notes = load_weights(*target, file, {.ignore_extra = {"nothing", "head.*"}});
  REQUIRE(notes.size() == 1);
  CHECK_THAT(notes[0], Catch::Contains("ignored 2 extra tensors: head.bias, head.weight"));
  CHECK(same_weights(*target, *model));
  // What the network has is never ignored.
  remove(file, "conv1.weight");
  CHECK_THAT(error_of(*target, file, {.ignore_extra = {"*"}}), Catch::Contains("missing conv1.weight"));
}

TEST_CASE("a message about weights is short and one line, whatever the file says", "[models]") {
  const auto target = initialized(2);
  NamedTensors file;
  for (int i = 0; i < 10'000; ++i) file.add(concat("extra", i), Tensor::zeros({1}));
  const std::string many = error_of(*target, file);
  CHECK_THAT(many, Catch::Contains("10097 mismatches: ") && Catch::Contains(" more"));
  CHECK(many.size() < 600);
  NamedTensors odd;
  odd.add(std::string(1'000'000, 'n'), Tensor::zeros({1}));
  odd.add("a\nb\x1b[31m", Tensor::zeros({1}));
  const std::string message = error_of(*target, odd);
  CHECK(message.size() < 600);
  CHECK(std::ranges::none_of(message, [](char c) { return c < ' ' && c >= 0; }));
}

TEST_CASE("networks of other families are named", "[models]") {
  using Rows = std::vector<std::pair<std::string, Shape>>;
  const auto blocks = [](std::vector<int> depths, bool bottleneck, Rows more) {
    for (std::size_t layer = 0; layer < depths.size(); ++layer)
      for (int block = 0; block < depths[layer]; ++block)
        for (int conv = 1; conv <= (bottleneck ? 3 : 2); ++conv)
          more.emplace_back(concat("layer", layer + 1, ".", block, ".conv", conv, ".weight"),
                            Shape{64, 64, 3, 3});
    return more;
  };
  const Shape one{1};
  struct Row {
    const char* expected;
    Rows tensors;
  };
  const Row rows[] = {
      {"this looks like timm's resnet18d: the stem has three convolutions",
       blocks({2, 2, 2, 2}, false,
              {{"conv1.0.weight", one}, {"conv1.3.weight", one}, {"conv1.6.weight", one}})},
      {"this looks like resnet50", blocks({3, 4, 6, 3}, true, {{"conv1.weight", one}})},
      {"this looks like resnet34", blocks({3, 4, 6, 3}, false, {{"conv1.weight", one}})},
      {"this looks like resnet56", blocks({9, 9, 9}, false, {{"conv1.weight", one}})},
      {"squeeze-and-excitation", blocks({3, 4, 6, 3}, true, {{"layer1.0.se.fc1.weight", one}})},
      {"a vision transformer", {{"patch_embed.proj.weight", one}, {"blocks.0.attn.qkv.weight", one}}},
      {"this looks like mobilenet_v2", {{"features.0.0.weight", one}, {"features.1.conv.0.0.weight", one}}},
      {"timm's EfficientNet or MobileNet",
       {{"conv_stem.weight", one},
        {"blocks.0.0.conv_dw.weight", one},
        {"blocks.0.0.se.conv_reduce.weight", one}}},
      {"SqueezeNet", {{"features.0.weight", one}, {"features.3.squeeze.weight", one}}},
  };
  const auto target = initialized(2);
  for (const Row& row : rows) {
    INFO(row.expected);
    NamedTensors bare;
    for (const auto& [name, shape] : row.tensors) bare.add(name, Tensor::zeros(shape));
    CHECK_THAT(error_of(*target, bare), Catch::Contains(row.expected));
    CHECK_THAT(other_network(bare, target->info()), Catch::Contains(row.expected));
  }
  // Not of the network that was asked for.
  NamedTensors own = weights_of(*initialized(1));
  remove(own, "bn1.bias");
  CHECK_THAT(error_of(*target, own), !Catch::Contains("looks like"));
  for (const char* name : {"resnet18", "resnet50", "resnet152", "densenet121", "densenet201", "vgg16_bn",
                           "alexnet", "inception_v3", "resnext50_32x4d", "mobilenet_v2", "efficientnet_lite0",
                           "efficientnet_lite1", "efficientnet_lite2"}) {
    NamedTensors file;
    export_weights(*make_model(name, {.num_classes = 5}), file);
    CHECK(other_network(file, model_info("resnet20")) == concat("; this looks like ", name));
    CHECK(other_network(file, model_info(name)).empty());
  }
}
