#include "tools/plan_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/text.h"

namespace faq {
namespace {

std::string recipe_text(const nlohmann::json& plan) {
  const nlohmann::json& config = plan["config"];
  const auto batch = config["batch-size"].get<std::int64_t>();
  const auto batches = config["shards"].get<std::int64_t>();
  std::string text = fmt::format(
      "{} images a step{}, {} steps per epoch; SGD, momentum {}, weight decay {}, learning rate {}\n",
      std::min(batch * batches, plan["train_images"].get<std::int64_t>()),
      batches > 1 ? fmt::format(" ({} shards of {})", batches, batch) : "",
      plan["steps_per_epoch"].get<std::int64_t>(), config["momentum"].get<double>(),
      config["weight-decay"].get<double>(), config["lr-scheduler"].get<std::string>());
  if (config["stochastic-precision"].get<double>() < 1)
    text += fmt::format(
        "units quantized with a probability that rises from {}; all in the last {:g} % of a phase\n",
        config["stochastic-precision"].get<double>(), 100 * config["stochastic-tail"].get<double>());
  if (config["distill"] != "none")
    text += fmt::format("distilled, teacher {}, its divergence weighs {}\n",
                        config["distill"].get<std::string>(), config["distill-weight"].get<double>());
  if (config["model-ema"].get<double>() > 0)
    text += fmt::format("validated and deployed is a moving average, decay {}\n",
                        config["model-ema"].get<double>());
  return text;
}

std::string phases_text(const nlohmann::json& phases) {
  std::string text;
  for (const auto& phase : phases) {
    const auto first = phase["begin"].get<std::int64_t>() + 1, last = phase["end"].get<std::int64_t>();
    const auto network = phase["network"].get<std::string>();
    if (last < first) {
      text += fmt::format("no epochs: {}\n", network);
    } else {
      text += fmt::format("epochs {} to {}: {}; learning rate {:.3g} to {:.3g}\n", first, last, network,
                          phase["lr_first"].get<double>(), phase["lr_last"].get<double>());
    }
  }
  return text;
}

std::string layers_text(const nlohmann::json& layers) {
  std::size_t longest = 0;
  for (const auto& row : layers)
    longest = std::max(longest, row["name"].get_ref<const std::string&>().size());
  constexpr const char* columns =
      "{:<{}} {:<15} {:<14} {:>12} {:>9} {:>10} {:>4} {:>11} {:>9} {:>9} {:>10}\n";
  std::string text = fmt::format(columns, "layer", longest, "kind", "output", "MACs", "weights", "scale",
                                 "act", "scale", "range", "seen", "bytes");
  std::int64_t weight_bytes = 0, macs = 0, multiplications = 0;
  for (const auto& row : layers) {
    const int weight_bits = row["weight_bits"];
    std::vector<std::string> extents;
    for (const auto& extent : row["output"]) extents.push_back(extent.dump());
    const bool quantized = row.contains("act_bits");
    weight_bytes += row["weight_bytes"].get<std::int64_t>();
    macs += row["macs"].get<std::int64_t>();
    multiplications += row["multiplications"].get<std::int64_t>();
    text += fmt::format(
        columns, row["name"].get<std::string>(), longest, row["kind"].get<std::string>(), join(extents, "x"),
        row["macs"].get<std::int64_t>(), weight_bits > 0 ? fmt::format("{}b", weight_bits) : "-",
        weight_bits > 0 ? fmt::format("{:.4g}", row["weight_scale"].get<double>()) : "-",
        quantized ? fmt::format("{}{}", row["act_signed"].get<bool>() ? "s" : "u", row["act_bits"].get<int>())
                  : "-",
        quantized ? fmt::format("{:.8g}", row["act_scale"].get<double>()) : "-",
        quantized ? fmt::format("{:.4g}", row["act_max"].get<double>()) : "-",
        row.contains("calibrated_max") ? fmt::format("{:.4g}", row["calibrated_max"].get<double>()) : "-",
        row["activation_bytes"].get<std::int64_t>());
  }
  text += fmt::format("{} bytes of weights\n", weight_bytes);
  if (multiplications < macs)
    text += fmt::format("{:.2f} % of the multiplications are replaced by additions\n",
                        100.0 * static_cast<double>(macs - multiplications) / static_cast<double>(macs));
  return text;
}

}  // namespace

std::string plan_text(const nlohmann::json& plan) {
  const auto& config = plan["config"];
  std::string text = fmt::format("{}, weights: {}\n", config["model"].get<std::string>(),
                                 config["weights"] == "" ? "random" : config["weights"].get<std::string>());
  text += fmt::format("{} parameters, {} MACs; {} training and {} validation images, {} classes\n",
                      plan["parameters"].get<std::int64_t>(), plan["macs"].get<std::int64_t>(),
                      plan["train_images"].get<std::int64_t>(), plan["val_images"].get<std::int64_t>(),
                      plan["classes"].get<std::int64_t>());
  text += recipe_text(plan) + phases_text(plan["phases"]);
  for (const auto& note : plan["notes"]) text += note.get<std::string>() + "\n";
  if (!plan["layers"].empty()) text += layers_text(plan["layers"]);
  return text;
}

}  // namespace faq
