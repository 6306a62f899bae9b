// What an integer network says of the images it wants (quant/deploy/preprocessing.h).
#include <limits>

#include "core/json.h"
#include "tests/random_network.h"

using namespace faq;
using namespace faq::testing;

namespace {

const Preprocessing valid{.height = 8,
                          .width = 12,
                          .channels = 3,
                          .resize = 10,
                          .interpolation = Interpolation::bicubic,
                          .mean = {0.1f, 0.2f, 0.3f},
                          .std = {0.5f, 0.25f, 1},
                          .class_names = {"a", "ü", ""}};

}  // namespace

TEST_CASE("preprocessing that no network can have", "[deploy_preprocessing]") {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  struct Row {
    const char* message;
    std::function<void(Preprocessing&)> change;
  };
  const Row rows[] = {
      {"height 0: expected 1 to 4096", [](Preprocessing& p) { p.height = 0; }},
      {"width 4097", [](Preprocessing& p) { p.width = 4097; }},
      {"channels 2: expected 1 or 3", [](Preprocessing& p) { p.channels = 2; }},
      {"resize -1", [](Preprocessing& p) { p.resize = -1; }},
      {"2 means, 3 standard deviations", [](Preprocessing& p) { p.mean.pop_back(); }},
      {"3 means, 1 channels", [](Preprocessing& p) { p.channels = 1; }},
      {"mean nan", [](Preprocessing& p) { p.mean[1] = nan; }},
      {"std 0", [](Preprocessing& p) { p.std[1] = 0; }},
      {"std -1", [](Preprocessing& p) { p.std[2] = -1; }},
  };
  REQUIRE_NOTHROW(check_preprocessing(valid));
  for (const Row& row : rows) {
    INFO(row.message);
    Preprocessing p = valid;
    row.change(p);
    check_error(ErrorKind::usage, row.message, [&] { check_preprocessing(p); });
  }
}

TEST_CASE("preprocessing goes into the file and comes back", "[deploy_preprocessing]") {
  const OneThread one_thread;
  const TemporaryFolder folder;
  const Case c{.size = 8, .classes = 3, .weight_bits = 4, .act_bits = 4};
  const auto model = quantized_model(c);
  Preprocessing given = valid;
  given.mean = given.std = {};  // the model knows
  const IntegerNetwork network = faq::compile(*model, given);
  given.mean = model->info().mean;
  given.std = model->info().std;
  CHECK(network.preprocessing() == given);
  CHECK(network.height() == 8);
  CHECK(network.width() == 12);
  network.save(folder / "n.safetensors");
  CHECK(IntegerNetwork::load(folder / "n.safetensors").preprocessing() == given);
  CHECK(faq::compile(*model, given).preprocessing() == given);

  given.mean[2] += 0.125f;
  check_error(ErrorKind::usage, "another mean", [&] { faq::compile(*model, given); });
  given = valid;
  given.mean = given.std = {};
  given.class_names.pop_back();
  check_error(ErrorKind::usage, "2 class names, 3 classes", [&] { faq::compile(*model, given); });
}

TEST_CASE("damaged preprocessing is refused", "[deploy_preprocessing]") {
  const OneThread one_thread;
  using json = nlohmann::json;
  const TemporaryFolder folder;
  const Case c{.size = 8, .weight_bits = 4, .act_bits = 4};
  compile(*quantized_model(c), c).save(folder / "good.safetensors");
  const NamedTensors good = read_safetensors(folder / "good.safetensors");
  struct Row {
    const char* message;
    std::function<void(json&)> damage;
  };
  const auto set = [](const char* key, json value) { return [=](json& j) { j[key] = value; }; };
  const auto erase = [](const char* key) { return [=](json& j) { j.erase(key); }; };
  const Row rows[] = {
      {"expected an object, found array", [](json& j) { j = json::array(); }},
      {"expected an object, found null", [](json& j) { j = nullptr; }},
      {"unknown \"gamma\"", set("gamma", 2.2)},
      {"missing \"height\"", erase("height")},
      {"missing \"channels\"", erase("channels")},
      {"missing \"resize\"", erase("resize")},
      {"missing \"interpolation\"", erase("interpolation")},
      {"interpolation \"nearest\": expected bilinear or bicubic", set("interpolation", "nearest")},
      {"interpolation 2", set("interpolation", 2)},
      {"missing \"mean\"", erase("mean")},
      {"missing \"std\"", erase("std")},
      {"missing \"classes\"", erase("classes")},
      {"resize \"9\": expected 0 to 4096", set("resize", "9")},
      {"resize 1.5", set("resize", 1.5)},
      {"resize 4097", set("resize", 4097)},
      {"mean: expected a list, found number", set("mean", 0.5)},
      {"mean: expected numbers, found string", set("mean", json{0.5, 0.5, "0.5"})},
      {"mean inf", set("mean", json{0.5, 0.5, 1e300})},
      {"2 means, 3 standard deviations", set("mean", json{0.5, 0.5})},
      {"std -0.5", set("std", json{0.5, 0.5, -0.5})},
      {"std: expected numbers, found null", set("std", json{0.5, 0.5, nullptr})},
      {"classes: expected a list, found string", set("classes", "cat")},
      {"classes: expected names, found number", set("classes", json{"cat", 2})},
      {"2 class names, 10 classes", set("classes", json{"cat", "dog"})},
  };
  for (const Row& row : rows) {
    INFO(row.message);
    NamedTensors file = good;
    json images = json::parse(good.metadata.at("preprocessing"));
    row.damage(images);
    file.metadata["preprocessing"] = images.dump();
    write_safetensors(folder / "bad.safetensors", file);
    check_error(ErrorKind::bad_data, row.message, [&] { IntegerNetwork::load(folder / "bad.safetensors"); });
  }
}
