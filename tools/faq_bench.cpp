// faq-bench: what a training step, an inference or the loading of images costs here, beside its roofline.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "core/allocator.h"
#include "core/cpu.h"
#include "core/kernels/conv_trace.h"
#include "core/parallel.h"
#include "core/profile.h"
#include "core/rng.h"
#include "quant/compile.h"
#include "tools/cli.h"
#include "tools/option_effects.h"
#include "tools/waiting.h"
#include "train/progress_display.h"
#include "train/quantized_training.h"
#include "train/setup.h"
#include "train/sgd.h"
#include "train/threads_text.h"

namespace {

using namespace faq;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

std::vector<OptionRow> bench_options() {
  std::vector<OptionRow> rows;
  for (const char* name : {"model", "batch-size", "num-classes", "scheme", "weight-scales", "residual-bits",
                           "engine", "grad-dtype", "float-dtype", "threads", "data-path", "dataset",
                           "augment", "train-crop-size", "workers"}) {
    rows.push_back(find_option(name));
  }
  return rows;
}

struct Measurement {
  std::vector<double> step_seconds;
  std::array<double, work_names.size()> split{};  ///< seconds, all timed steps
  std::vector<kernels::ConvTrace::Row> convolutions;
  std::size_t peak_bytes = 0;
  std::int64_t weight_bytes = 0;      ///< of an integer network, as stored
  std::int64_t activation_bytes = 0;  ///< of one image, as planned
};

// Half of the steps before the roofline is measured and half after it, so that a machine that changes its
// pace changes it for both.
template <class Step>
Measurement measure(std::int64_t batch, int steps, Step step) {
  Measurement m;
  for (int i = 0; i < 2; ++i) step();
  kernels::ConvTrace trace(batch);
  step();
  const auto run = [&](int n) {
    const Profile profile;
    for (int i = 0; i < n; ++i) {
      const auto start = Clock::now();
      step();
      m.step_seconds.push_back(seconds_since(start));
    }
    const auto split = profile.seconds();
    for (std::size_t i = 0; i < split.size(); ++i) m.split[i] += split[i];
  };
  trace.stop();
  run((steps + 1) / 2);
  m.peak_bytes = memory_stats().reserved;  // before the roofline takes memory of its own
  m.convolutions = trace.measure(5);
  run(steps / 2);
  return m;
}

struct Workload {
  std::unique_ptr<Model> model;
  std::unique_ptr<Method> method;
  Tensor images;
  std::vector<std::int32_t> labels;
  int size = 0;
};

// Random weights and random images. (Where 8-bit sums have 16 bits, large weights take more convolutions than
// small ones; see conv2d_integer.)
Workload make_workload(TrainOptions& options, int image_size) {
  const ModelInfo& info = model_info(options.model);
  if (options.num_classes == 0) options.num_classes = info.num_classes;
  options.in_channels = 3;
  Workload w;
  w.size = image_size > 0 ? image_size : info.input_size;
  w.model = build_model(options);
  initialize(*w.model, 0);
  w.images = Tensor::empty({options.batch_size, w.size, w.size, 3}, DType::u8);
  Random random(0, RandomStream::synthetic);
  for (auto& pixel : w.images.mutable_span<std::uint8_t>())
    pixel = static_cast<std::uint8_t>(random.below(256));
  for (int i = 0; i < options.batch_size; ++i)
    w.labels.push_back(
        static_cast<std::int32_t>(random.below(static_cast<std::uint32_t>(options.num_classes))));
  w.method = make_method(options);
  w.method->begin_phase(*w.model, 0, [&](int) -> Batches {
    return [&, left = 1]() mutable -> std::optional<Tensor> {
      if (left-- == 0) return {};
      return w.images;
    };
  });
  return w;
}

Measurement bench_train(TrainOptions& options, int image_size, int steps) {
  check_trainable_here(options);
  Workload w = make_workload(options, image_size);
  Sgd sgd(*w.model, {});
  RandomKeys keys;
  for (int i = 0; i < options.batch_size; ++i) keys.samples.push_back(i);
  return measure(options.batch_size, steps, [&] {
    BatchStatistics statistics;
    Pass pass = training_pass(keys, &statistics, deployed_format(options).grad_format);
    pass.float_dtype = options.float_dtype;
    backward(training_loss(w.model->forward_training(pass, Var(w.images)), w.labels));
    update_running_statistics(statistics);
    sgd.step(1e-4, 1.0);
  });
}

Measurement bench_infer(TrainOptions& options, int image_size, int steps) {
  Workload w = make_workload(options, image_size);
  const Engine engine = options.engine;
  if (options.scheme == Scheme::none) {
    return measure(options.batch_size, steps, [&] {
      const NoGrad no_grad;
      w.model->forward({}, Var(w.images));
    });
  }
  const auto network = compile(*w.model, w.size, w.size, 3);
  release_cached_memory();  // calibration takes more than the network does
  Measurement m = measure(options.batch_size, steps, [&] { network.forward(w.images, engine); });
  m.weight_bytes = network.weight_bytes();
  m.activation_bytes = network.activation_bytes();
  return m;
}

// Images per second of the loader alone, with training's augmentation, over whole epochs.
nlohmann::json bench_load(TrainOptions& options, int steps) {
  check(!options.data_path.empty(), ErrorKind::usage, "--mode load wants a --data-path");
  Data data;  // nothing is kept between epochs: every image is decoded every time
  data.train = open_dataset(
      {.path = options.data_path, .kind = options.dataset, .shuffle_buffer = options.shuffle_buffer},
      Split::train);
  choose_preprocessing(options, [&] { return model_info(options.model).input_size; });
  data.crop = options.train_crop_size;
  data.val_crop = options.val_crop_size;
  Loader loader(*data.train, train_loader_options(options, data));
  std::vector<double> rates;
  for (int epoch = 0; epoch < std::max(3, steps / 10); ++epoch) {
    const auto start = Clock::now();
    std::int64_t images = 0;
    loader.start_epoch(epoch);
    while (const auto batch = loader.next()) images += batch->size();
    rates.push_back(static_cast<double>(images) / seconds_since(start));
  }
  return {{"mode", "load"},
          {"batch", options.batch_size},
          {"workers", options.workers},
          {"images_per_s", median(rates)}};
}

nlohmann::json report(const TrainOptions& options, const std::string& mode, int bits, const Measurement& m) {
  const double step = median(m.step_seconds);
  double roofline = 0;
  for (const auto& row : m.convolutions) roofline += static_cast<double>(row.calls) * row.seconds;
  nlohmann::json split;
  const auto steps = static_cast<double>(m.step_seconds.size());
  for (std::size_t i = 0; i < m.split.size(); ++i) split[work_names[i]] = 1e3 * m.split[i] / steps;
  nlohmann::json result{{"model", options.model},
                        {"mode", mode},
                        {"bits", bits},
                        {"scheme", to_text(options.scheme)},
                        {"residual_bits", options.residual_bits},
                        {"engine", to_text(options.engine)},
                        {"batch", options.batch_size},
                        {"threads", num_threads()},
                        {"isa", isa_name()},
                        {"simd_bytes", simd_bytes()},
                        {"step_ms", 1e3 * step},
                        {"images_per_s", options.batch_size / step},
                        {"roofline_ms", 1e3 * roofline},
                        {"roofline_ratio", std::min(1.0, roofline / step)},
                        {"split", split},
                        {"peak_bytes", m.peak_bytes}};
  if (mode == "train") {
    result["grad_dtype"] = name_of(deployed_format(options).grad_format);
    result["float_dtype"] = name_of(options.float_dtype);
  }
  if (m.weight_bytes > 0) {
    result["weight_bytes"] = m.weight_bytes;
    result["activation_bytes"] = m.activation_bytes;
  }
  return result;
}

std::string text(const nlohmann::json& r) {
  std::string out = fmt::format(
      "{} {} at {} bits{} ({}), batch {}, {} threads, {}, own loops of {} bytes: {:.1f} ms per step, {:.1f} "
      "images/s\n"
      "convolutions alone {:.1f} ms: ratio {:.2f}; peak {:.0f} MB",
      r["model"].get<std::string>(), r["mode"].get<std::string>(), r["bits"].get<int>(),
      residual_note(r["residual_bits"].get<int>()), r["scheme"].get<std::string>(), r["batch"].get<int>(),
      r["threads"].get<int>(), r["isa"].get<std::string>(), r["simd_bytes"].get<int>(),
      r["step_ms"].get<double>(), r["images_per_s"].get<double>(), r["roofline_ms"].get<double>(),
      r["roofline_ratio"].get<double>(), static_cast<double>(r["peak_bytes"].get<std::size_t>()) / 1e6);
  if (r.contains("activation_bytes"))
    out += fmt::format("; weights {:.1f} MB, activations of an image {:.2f} MB",
                       static_cast<double>(r["weight_bytes"].get<std::int64_t>()) / 1e6,
                       static_cast<double>(r["activation_bytes"].get<std::int64_t>()) / 1e6);
  out += "\nms per step:";
  for (const auto& [name, ms] : r["split"].items()) out += fmt::format("  {} {:.1f}", name, ms.get<double>());
  return out + "\n";
}

struct Mode {
  const char* name;
  std::vector<std::string> ignored;  ///< options that say nothing of what it times
};
const Mode modes[] = {
    {"train", {"data-path", "dataset", "augment", "train-crop-size", "workers"}},
    {"infer", {"data-path", "dataset", "augment", "train-crop-size", "workers", "grad-dtype", "float-dtype"}},
    {"load",
     {"bits", "image-size", "layers", "scheme", "weight-scales", "residual-bits", "engine", "grad-dtype",
      "float-dtype", "num-classes", "threads"}},
};

const Mode& mode_of(const std::string& name) {
  const auto found = std::ranges::find(modes, name, &Mode::name);
  check(found != std::end(modes), ErrorKind::usage, "--mode ", name, ": expected train, infer or load");
  return *found;
}

int body(int argc, char** argv) {
  cli::Parser parser("faq-bench",
                     "Times training steps, integer inference or image loading on this machine.");
  const std::vector<OptionRow> rows = bench_options();
  cli::add_options(parser, rows,
                   {{"scheme", "none, faq, dfp, dorefa or lsq; default: faq, none with --bits 32"},
                    {"num-classes", "classes; default: the network's"}});
  cli::add_options(parser, "run",
                   {{.names = "mode",
                     .help = "train, infer or load",
                     .value = "MODE",
                     .preset = "train",
                     .choices = {"train", "infer", "load"}},
                    {"bits", "2 to 8, or 32 for floating point", "B", "8"},
                    {"image-size", "default: what the network was designed for", "N", "0"},
                    {"steps", "timed steps; the median counts", "N", "20"},
                    {"layers", "also the convolutions, each alone"}});
  const auto parsed = cli::parse(parser, argc, argv);
  if (cli::help_or_version(parser, parsed)) return 0;

  const int bits = cli::count_of(parsed, "bits", 0);
  const int steps = cli::count_of(parsed, "steps", 2, 100000);
  const int image_size = cli::count_of(parsed, "image-size", 0, 4096);
  const std::string mode = cli::text_of(parsed, "mode");
  const std::vector<std::string>& ignored = mode_of(mode).ignored;
  for (const std::string& name : cli::given_names(parsed, rows))
    check(std::ranges::find(ignored, name) == ignored.end(), ErrorKind::usage, "--", name,
          " has no effect on --mode ", mode);
  check((bits >= 2 && bits <= 8) || bits == 32, ErrorKind::usage, "--bits ", bits,
        ": expected 2 to 8, or 32");
  std::vector<Setting> settings{{"scheme", bits == 32 ? "none" : "faq"}};
  if (bits != 32) settings.emplace_back("bits", std::to_string(bits));
  const std::vector<Setting> given = cli::given_settings(parsed, rows);
  settings.insert(settings.end(), given.begin(), given.end());
  TrainOptions options = assemble(nlohmann::json::object(), settings);
  check((options.scheme == Scheme::none) == (bits == 32), ErrorKind::usage, "--scheme ",
        to_text(options.scheme), " with --bits ", bits, ": expected none with 32, another with 2 to 8");
  check_options(options);
  refuse_without_effect(given, options);
  set_num_threads(options.threads);

  if (mode == "load") {
    const nlohmann::json result = bench_load(options, steps);
    if (cli::is_on(parsed, "json"))
      cli::print_json(result);
    else
      cli::print_result(fmt::format("{:.0f} images/s with {} workers\n", result["images_per_s"].get<double>(),
                                    options.workers));
    return 0;
  }
  ProgressDisplay display(ProgressDisplay::Says::everything);
  for (const std::string& line : threads_text(options.threads, num_threads())) display.line(line);
  const Measurement m =
      mode == "train" ? bench_train(options, image_size, steps) : bench_infer(options, image_size, steps);
  nlohmann::json result = report(options, mode, bits, m);
  if (cli::is_on(parsed, "layers")) {
    for (const auto& row : m.convolutions)
      result["layers"].push_back({{"what", row.what}, {"calls", row.calls}, {"ms", 1e3 * row.seconds}});
  }
  if (cli::is_on(parsed, "json")) {
    cli::print_json(result);
    return 0;
  }
  std::string out = text(result);
  if (cli::is_on(parsed, "layers")) {
    for (const auto& row : m.convolutions)
      out += fmt::format("{:3} x {:8.3f} ms  {}\n", row.calls, 1e3 * row.seconds, row.what);
  }
  cli::print_result(out);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  faq::cli::bound_waiting(argv);
  return faq::cli::run("faq-bench", [&] { return body(argc, argv); });
}
