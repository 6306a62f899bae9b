// faq-eval: the accuracy of a network, integer or float.
#include <fmt/format.h>

#include "core/parallel.h"
#include "core/safetensors.h"
#include "nn/load_weights.h"
#include "quant/integer_network.h"
#include "tools/cli.h"
#include "tools/quantization.h"
#include "train/evaluate.h"
#include "train/setup.h"

namespace {

using namespace faq;

// Which of the training options make sense here.
std::vector<OptionRow> eval_options() {
  std::vector<OptionRow> rows;
  for (const char* name :
       {"model", "weights", "num-classes", "in-channels", "data-path", "dataset", "batch-size", "workers",
        "val-resize-size", "val-crop-size", "mean", "std", "skip-bad", "engine", "threads"}) {
    rows.push_back(find_option(name));
  }
  return rows;
}

// A network ready to run, however it was stored.
struct Network {
  std::string kind;
  std::function<Tensor(const Tensor&)> forward;
  std::shared_ptr<void> owner;
};

Network open_network(TrainOptions& options, bool model_given) {
  check(!options.weights.empty(), ErrorKind::usage, "--weights is required");
  const auto metadata = read_safetensors_metadata(options.weights);
  const Engine engine = parse_engine(options.engine);
  if (is_integer_network(metadata)) {
    auto network = std::make_shared<IntegerNetwork>(IntegerNetwork::load(options.weights));
    options.in_channels = static_cast<int>(network->channels());
    options.num_classes = static_cast<int>(network->num_classes());
    if (options.val_crop_size == 0) options.val_crop_size = static_cast<int>(network->height());
    const auto resize = network->about().find("resize");
    if (options.val_resize_size == 0 && resize != network->about().end())
      apply(options, {"val-resize-size", resize->second});
    return {"integer network",
            [network, engine](const Tensor& images) { return network->forward(images, engine); }, network};
  }
  const NamedTensors file = read_safetensors(options.weights);
  std::shared_ptr<Model> model;
  std::string kind = "float weights";
  if (is_checkpoint(metadata)) {
    TrainOptions trained;
    model = model_from_checkpoint(file, options.weights, make_method, trained);
    options.in_channels = trained.in_channels;
    options.num_classes = trained.num_classes;
    if (options.val_crop_size == 0) options.val_crop_size = trained.val_crop_size;
    if (options.val_resize_size == 0) options.val_resize_size = trained.val_resize_size;
    kind = quant_options(trained).scheme == Scheme::none ? "float checkpoint" : "quantized checkpoint";
  } else {
    check(model_given, ErrorKind::usage, "--model is required for plain weights (", options.weights, ")");
    if (options.num_classes == 0) options.num_classes = classes_in(file, model_info(options.model));
    if (options.in_channels == 0) options.in_channels = channels_in(file, model_info(options.model));
    check(options.num_classes > 0 && options.in_channels > 0, ErrorKind::bad_data, "weights ",
          options.weights, ": neither a first convolution nor a classifier of ", options.model);
    model = build_model(options);
    load_weights(*model, file, {.source = options.weights});
  }
  set_training(*model, false);
  return {kind,
          [model](const Tensor& images) {
            const NoGrad no_grad;
            return model->forward(Var(images)).value();
          },
          model};
}

int body(int argc, char** argv) {
  cxxopts::Options parser("faq-eval",
                          "Evaluates an integer network, a checkpoint or float weights on a data set.");
  const std::vector<OptionRow> rows = eval_options();
  cli::add_options(parser, rows);
  parser.add_options("run")("split", "train or val", cxxopts::value<std::string>()->default_value("val"),
                            "SPLIT")("json", "one JSON object on stdout")("version", "print the version")(
      "h,help", "print this help");
  const auto parsed = cli::parse(parser, argc, argv);
  if (parsed.count("help")) return cli::print_result(parser.help() + "\n"), 0;
  if (parsed.count("version")) return cli::print_result(std::string("faq ") + FAQ_VERSION + "\n"), 0;

  TrainOptions options = assemble(nlohmann::json::object(), cli::given_settings(parsed, rows));
  const std::string split = parsed["split"].as<std::string>();
  check(split == "val" || split == "train", ErrorKind::usage, "--split ", split, ": expected train or val");
  resolve(options);
  set_num_threads(options.threads);
  const Network network = open_network(options, parsed.count("model") > 0);
  const int classes = options.num_classes;
  const Data data = open_data(options, split == "train");
  const Dataset& dataset = split == "train" ? *data.train : *data.val;
  check(static_cast<int>(dataset.class_names().size()) == classes, ErrorKind::usage, "data ",
        options.data_path, " has ", dataset.class_names().size(), " classes, the network ", classes);
  Loader loader(dataset, val_loader_options(options, data));
  const Evaluation e = evaluate(network.forward, loader);
  if (parsed.count("json")) {
    cli::print_result(nlohmann::json{{"top1", e.top1},
                                     {"top5", e.top5},
                                     {"loss", e.loss},
                                     {"images", e.images},
                                     {"images_per_s", e.images_per_s},
                                     {"skipped", loader.skipped()},
                                     {"kind", network.kind}}
                          .dump() +
                      "\n");
  } else {
    cli::print_result(
        fmt::format("{}: top-1 {:.2f}  top-5 {:.2f}  loss {:.4f}  {} images{}  {:.0f} images/s\n",
                    network.kind, e.top1, e.top5, e.loss, e.images,
                    loader.skipped() ? fmt::format(" ({} skipped)", loader.skipped()) : "", e.images_per_s));
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return faq::cli::run("faq-eval", [&] { return body(argc, argv); });
}
