#include "train/model_ema.h"

#include <algorithm>

#include "nn/models.h"
#include "tests/run_testing.h"

using namespace faq;
using namespace faq::testing;

TEST_CASE("an average of a network's values", "[ema]") {
  const auto model = make_model("resnet20", {.num_classes = 10, .in_channels = 3});
  const auto everything = [&] {
    std::vector<Tensor> tensors;
    for (auto& [name, parameter] : parameters(*model)) tensors.push_back(parameter.value());
    for (auto& [name, buffer] : buffers(*model)) tensors.push_back(buffer);
    return tensors;
  };
  const auto set = [&](float value) {
    for (Tensor& tensor : everything()) std::ranges::fill(tensor.mutable_span<float>(), value);
  };
  const auto is = [&](float value) {
    for (const Tensor& tensor : everything())
      for (const float v : tensor.span<float>())
        if (v != Approx(value)) return false;
    return true;
  };
  set(1);
  ModelEma ema(*model, 0.9);
  set(3);
  const auto average_is = [&](float value) {
    const ModelEma::InPlace averaged(ema);
    return is(value);
  };
  CHECK(average_is(1));
  CHECK(is(3));
  ema.update(0);  // min(0.9, 1/10)
  CHECK(average_is(2.8f));
  ema.update(30);  // min(0.9, 31/40)
  CHECK(average_is(2.845f));
  ema.update(1000);  // min(0.9, 1001/1010)
  CHECK(average_is(2.8605f));
  CHECK(is(3));
  {
    const ModelEma::InPlace averaged(ema);
    set(5);
  }
  CHECK(is(3));
  CHECK(average_is(5));

  NamedTensors state;
  ema.export_state(state);
  CHECK(state.tensors.size() == everything().size());
  ModelEma other(*model, 0.9);
  other.import_state(state, "state");
  {
    const ModelEma::InPlace averaged(other);
    CHECK(is(5));
  }
  CHECK_THROWS_AS(other.import_state({}, "state"), Error);
}

TEST_CASE("a run keeps and deploys the average of its network", "[ema]") {
  const TemporaryFolder folder;
  const auto run = [&](const char* name, const Words& more) {
    require_done(train_by_program(folder / name, faq_options + more));
    return folder / name;
  };
  const fs::path plain = run("plain", {}), averaged = run("averaged", {"--model-ema=0.5"}),
                 last = run("last", {"--model-ema=1e-9"});
  const auto network = [](const fs::path& file) {
    NamedTensors tensors = read_safetensors(file);
    std::erase_if(tensors.tensors,
                  [](const auto& entry) { return entry.first.find('/') != entry.first.npos; });
    return tensors;
  };
  // The largest relative error of a tensor.
  const auto difference = [&](const fs::path& a, const fs::path& b) {
    const NamedTensors of_a = network(a), of_b = network(b);
    REQUIRE(of_a.tensors.size() == of_b.tensors.size());
    double largest = 0;
    for (const auto& [name, tensor] : of_a.tensors) {
      REQUIRE(of_b.find(name));
      largest = std::max(largest, reference::relative_error(tensor, reference::numbers(*of_b.find(name))));
    }
    return largest;
  };
  // Steps that are held in the middle are not averaged with what was there before.
  const fs::path held = run("held", {"--model-ema=0.5", "--hold-weight-scales", "0.5"});
  const NamedTensors kept = network(held / "best.safetensors"), now = network(held / "last.safetensors");
  int steps = 0;
  for (const auto& [name, tensor] : kept.tensors) {
    if (!name.ends_with("quantizer") || tensor.span<float>()[3] == 0) continue;
    INFO(name);
    const auto x = tensor.span<float>(), y = now.find(name)->span<float>();
    CHECK(std::ranges::equal(x, y));
    CHECK(x[4] > 0);
    ++steps;
  }
  CHECK(steps == 20);

  // The network in training is that of a run without; an average of the last network alone is that network.
  CHECK(difference(averaged / "last.safetensors", plain / "last.safetensors") == 0);
  CHECK(difference(last / "best.safetensors", plain / "best.safetensors") < 1e-6);  // a + (w − a) is rounded
  CHECK(difference(averaged / "best.safetensors", plain / "best.safetensors") > 1e-3);

  std::vector<json> epochs, of_plain;
  for (const json& line : metrics(averaged))
    if (line.contains("top1")) epochs.push_back(line);
  for (const json& line : metrics(plain))
    if (line.contains("top1")) of_plain.push_back(line);
  REQUIRE(epochs.size() == 3);
  CHECK_FALSE(epochs[0].contains("raw_top1"));
  for (std::size_t i = 1; i < 3; ++i) {
    CHECK(epochs[i]["raw_top1"] == of_plain[i]["top1"]);
    CHECK(epochs[i]["raw_val_loss"] == of_plain[i]["val_loss"]);
    CHECK(epochs[i]["val_loss"] != of_plain[i]["val_loss"]);
  }
  const auto evaluated = [](const fs::path& file, const Words& more = {}) {
    const Outcome outcome = run_program(FAQ_EVAL, Words{"--weights", file.string(), "--data-path",
                                                        images().string(), "--threads", "1", "--json"} +
                                                      more);
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
    return json::parse(outcome.out);
  };
  const auto scores = [](const json& e, const json& top1, const json& loss) {
    CHECK(e["top1"] == top1);
    CHECK(e["loss"].get<double>() == Approx(loss.get<double>()));
  };
  // What was validated is what is deployed.
  const json& best = epochs[1]["top1"] >= epochs[2]["top1"] ? epochs[1] : epochs[2];
  for (const char* file : {"best.safetensors", "integer.safetensors"}) {
    INFO(file);
    scores(evaluated(averaged / file), best["top1"], best["val_loss"]);
  }
  // Of the last epoch both networks can be had, and the average deployed.
  const fs::path both = averaged / "last.safetensors", exported = folder / "integer.safetensors";
  const json in_training = evaluated(both), average = evaluated(both, {"--use-ema"});
  CHECK(in_training["kind"] == "quantized checkpoint");
  CHECK(average["kind"] == "average of a quantized checkpoint");
  scores(in_training, epochs[2]["raw_top1"], epochs[2]["raw_val_loss"]);
  scores(average, epochs[2]["top1"], epochs[2]["val_loss"]);
  require_done(
      run_program(FAQ_EVAL, {"--weights", both.string(), "--use-ema", "--export", exported.string()}));
  scores(evaluated(exported), average["top1"], average["loss"]);
  CHECK(evaluated(both, {"--use-ema", "--compare", exported.string()})["first_diverging_layer"] == "");
  CHECK(evaluated(both, {"--compare", exported.string()})["first_diverging_layer"] != "");
}
