#include <algorithm>

#include "core/safetensors.h"
#include "nn/load_weights.h"
#include "train/checkpoint.h"
#include "train/class_match.h"
#include "train/gradient_noise.h"
#include "train/open_network.h"
#include "train/quantized_training.h"
#include "train/run_record.h"
#include "train/setup.h"

namespace faq {
namespace {

// The options of a run on the study's weights and data, in the place of which nothing is trained.
TrainOptions options_of(const GradientNoiseStudy& study, const NamedTensors& weights) {
  TrainOptions options{study.model, study.data, {}, {}, {}};
  if (is_checkpoint(weights.metadata)) {
    const TrainOptions trained = options_of_checkpoint(weights.metadata, options.weights);
    check(options.model.empty() || options.model == trained.model, ErrorKind::usage, "`model` ",
          options.model, ": ", options.weights, " is a ", trained.model);
    options.model = trained.model;
    check_pixels(options, trained);
    options.in_channels = trained.in_channels;
    options.mean = trained.mean;
    options.std = trained.std;
    options.train_crop_size = trained.train_crop_size;
  }
  check(!options.model.empty(), ErrorKind::usage, "`model` is required for plain weights (", options.weights,
        ")");
  return options;
}

// Those of which there are two batches: one has nothing to disagree with.
std::vector<int> sizes_of(const GradientNoiseStudy& study, const Dataset& images, RunListener& listener) {
  std::vector<int> sizes = study.batch_sizes;
  std::ranges::sort(sizes);
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  const auto too_large =
      std::ranges::find_if(sizes, [&](int size) { return 2 * std::int64_t{size} > images.size(); });
  check(too_large != sizes.begin(), ErrorKind::bad_data, "data ", study.data.data_path, ": ", images.size(),
        " training images are fewer than two batches of ", sizes.empty() ? 0 : sizes.front());
  for (auto size = too_large; size != sizes.end(); ++size)
    listener.notice(concat("batches of ", *size, ": left out, there are fewer than two"));
  sizes.erase(too_large, sizes.end());
  return sizes;
}

// Hands out the first `count` training batches of that size, the same ones whenever it is called.
auto first_batches(const TrainOptions& options, const Data& data, int size) {
  LoaderOptions loader_options = train_loader_options(options, data);
  loader_options.batch_size = size;
  return [loader = std::make_shared<Loader>(*data.train, loader_options)](int count) {
    loader->start_epoch(0);
    return [loader, left = count]() mutable -> std::optional<Batch> {
      return left-- > 0 ? loader->next() : std::nullopt;
    };
  };
}

std::vector<GradFormat> formats_of(const GradientNoiseStudy& study, int bits) {
  if (bits == 32) return {GradFormat::f32};
  return study.grad_formats.empty() ? std::vector{default_grad_format()} : study.grad_formats;
}

std::unique_ptr<Model> model_in(int bits, const GradFormat& grad_format, TrainOptions options,
                                const NamedTensors& weights, const Data& data, int calibration_size) {
  options.scheme = bits == 32 ? Scheme::none : Scheme::faq;
  options.grad_format = grad_format;
  check_trainable_here(options);
  options.weight_bits = options.act_bits = bits == 32 ? 8 : bits;
  options.calibration = Calibration::mse;
  options.equalize = Equalize::none;  // scaled weights would have scaled gradients
  auto model = build_model(options);
  initialize(*model, static_cast<std::uint64_t>(options.seed));  // a classifier of other classes stays random
  load_weights(
      *model, weights,
      {.source = options.weights, .reinitialize_classifier = true, .ignore_extra = options.ignore_extra});
  make_method(options)->begin_phase(*model, 0, [&](int count) -> Batches {
    return [next = first_batches(options, data, calibration_size)(count)]() mutable -> std::optional<Tensor> {
      const auto batch = next();
      return batch ? std::optional(batch->images) : std::nullopt;
    };
  });
  return model;
}

}  // namespace

std::vector<GradientNoiseRow> gradient_noise(
    const GradientNoiseStudy& study, RunListener& listener,
    const std::function<void(const GradientNoiseRow&, std::size_t)>& on_row) {
  check(!study.model.weights.empty(), ErrorKind::usage, "`weights` is required");
  check(study.batches >= 2, ErrorKind::usage, "gradient noise: ", study.batches,
        " batches, expected at least 2");
  for (const int size : study.batch_sizes)
    check(size >= 1, ErrorKind::usage, "gradient noise: batches of ", size, ", expected at least 1");
  refuse_integer_weights({study.model, study.data, {}, {}, {}});
  NamedTensors weights = weights_in(read_usable_tensors(study.model.weights));
  TrainOptions options = options_of(study, weights);
  options.engine = study.engine;
  const Data data = open_data(options);
  if (is_checkpoint(weights.metadata)) {
    std::vector<std::string> notes;
    weights = for_classes(std::move(weights), model_info(options.model), data.val->class_names(),
                          options.weights, notes);
    for (const std::string& note : notes) tell(listener, note);
  }
  const std::vector<int> sizes = sizes_of(study, *data.train, listener);
  std::vector<GradientNoiseRow> rows;
  std::size_t count = 0;
  for (const int bits : study.bits) count += formats_of(study, bits).size() * sizes.size();
  for (const int bits : study.bits) {
    std::unique_ptr<Model> in_f32;  // what the others are compared with
    for (const GradFormat& format : formats_of(study, bits)) {
      const auto model = model_in(bits, format, options, weights, data, sizes.back());
      const bool compares = !study.grad_formats.empty() && format != GradFormat::f32;
      if (compares && !in_f32) in_f32 = model_in(bits, GradFormat::f32, options, weights, data, sizes.back());
      for (const int size : sizes) {
        const auto batches = [&, of_size = first_batches(options, data, size)] {
          return of_size(study.batches);
        };
        rows.push_back({bits, format, size, gradient_noise(*model, batches)});
        if (compares) rows.back().agreement = gradient_agreement(*model, *in_f32, batches);
        if (on_row) on_row(rows.back(), count);
      }
    }
  }
  return rows;
}

}  // namespace faq
