#include "train/setup.h"

#include <algorithm>

#include "core/safetensors.h"
#include "data/formats.h"
#include "nn/load_weights.h"
#include "train/checkpoint.h"
#include "train/class_match.h"
#include "train/quantized_training.h"
#include "train/run_record.h"

namespace faq {
namespace {

std::vector<float> narrowed(const std::vector<double>& values) { return {values.begin(), values.end()}; }

bool is_idx(const TrainOptions& options) {
  const DatasetKind kind = options.dataset;
  return kind == DatasetKind::idx || (kind == DatasetKind::automatic && looks_like_idx(options.data_path));
}

int resolved_channels(const TrainOptions& options) {
  if (options.in_channels > 0) return options.in_channels;
  if (!options.weights.empty()) {
    if (const int channels = channels_in(read_usable_tensors(options.weights), model_info(options.model),
                                         options.ignore_extra);
        channels > 0)
      return channels;
  }
  return is_idx(options) ? 1 : 3;
}

}  // namespace

int side_of_images(const Dataset& dataset, std::int64_t skip_bad) {
  for (std::int64_t i = 0;; ++i) {
    try {
      const Image image = dataset.image(i);
      return std::min(image.height, image.width);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::bad_data || i >= skip_bad || i + 1 >= dataset.size()) throw;
    }
  }
}

void adopt_from_weights(TrainOptions& options) {
  if (options.weights.empty()) return;
  const auto metadata = read_safetensors_metadata(options.weights);
  if (is_checkpoint(metadata)) adopt(options, options_of_checkpoint(metadata, options.weights));
}

void adopt(TrainOptions& options, const TrainOptions& from) {
  if (options.in_channels == 0) options.in_channels = from.in_channels;
  if (options.mean.empty()) options.mean = from.mean;
  if (options.std.empty()) options.std = from.std;
}

bool same_pixels(const TrainOptions& given, const TrainOptions& of_run) {
  const ModelInfo& info = model_info(of_run.model);
  const auto same = [](const std::vector<double>& asked, const std::vector<double>& recorded,
                       const std::vector<float>& of_network) {
    return asked.empty() || asked == recorded || (recorded.empty() && narrowed(asked) == of_network);
  };
  return same(given.mean, of_run.mean, info.mean) && same(given.std, of_run.std, info.std);
}

void adopt_sizes(TrainOptions& options, const TrainOptions& from) {
  if (options.train_crop_size == 0) options.train_crop_size = from.train_crop_size;
  if (options.val_crop_size == 0) options.val_crop_size = from.val_crop_size;
  if (options.val_resize_size < 0) options.val_resize_size = from.val_resize_size;
  if (!options.interpolation) options.interpolation = from.interpolation;
  if (!options.augment) options.augment = from.augment;
}

void choose_preprocessing(TrainOptions& options, const std::function<int()>& image_size) {
  const ModelInfo& info = model_info(options.model);
  const bool photographs = info.resize > 0;
  if (!options.interpolation) options.interpolation = info.interpolation;
  if (!options.augment) options.augment = photographs ? Augmentation::imagenet : Augmentation::cifar;
  if (options.train_crop_size == 0) options.train_crop_size = photographs ? info.input_size : image_size();
  if (options.val_crop_size == 0) options.val_crop_size = options.train_crop_size;
  if (options.val_resize_size < 0)
    options.val_resize_size =
        photographs ? options.val_crop_size * info.resize / info.input_size : options.val_crop_size;
}

DatasetOptions dataset_options(const DataChoice& data, int channels, Communicator& ranks) {
  return {.path = data.data_path,
          .kind = data.dataset,
          .channels = channels,
          .shuffle_buffer = data.shuffle_buffer,
          .class_order = data.class_order,
          .allow_empty_classes = data.allow_empty_classes,
          .val_labels = data.val_labels,
          .skip_bad = data.skip_bad,
          .once = [&ranks](const auto& make) { return ranks.once(make); }};
}

namespace {

// "3 training classes and 2 validation classes are not the same: 'cat' is in training alone".
std::string difference_of_classes(const std::vector<std::string>& train,
                                  const std::vector<std::string>& val) {
  std::string text =
      concat(train.size(), " training classes and ", val.size(), " validation classes are not the same");
  const auto alone = [](const auto& names, const auto& others) {
    return std::ranges::find_if(
        names, [&](const std::string& n) { return std::ranges::find(others, n) == others.end(); });
  };
  if (const auto name = alone(train, val); name != train.end())
    return concat(text, ": '", *name, "' is in training alone");
  if (const auto name = alone(val, train); name != val.end())
    return concat(text, ": '", *name, "' is in validation alone");
  return text;
}

}  // namespace

Data open_data(TrainOptions& options, Communicator& ranks, const OpenSplit& open) {
  Data data;
  if (open) {
    data.val = cached(open(Split::val));
    data.train = cached(open(Split::train));
    if (options.in_channels == 0) options.in_channels = data.train->channels();
    for (const Dataset* split : {data.val.get(), data.train.get()})
      check(split->channels() == options.in_channels, ErrorKind::usage, "data of ", split->channels(),
            " channels, the network has ", options.in_channels);
  } else {
    check(!options.data_path.empty(), ErrorKind::usage, "`data_path` is required");
    options.in_channels = resolved_channels(options);
    const DatasetOptions dataset = dataset_options(options, options.in_channels, ranks);
    data.val = cached(open_dataset(dataset, Split::val));
    data.train = cached(open_dataset(dataset, Split::train));
  }
  const std::vector<std::string>& classes = data.train->class_names();
  if (options.allow_empty_classes && are_among(data.val->class_names(), classes))
    data.val = with_classes(std::move(data.val), classes);
  check(classes == data.val->class_names(), ErrorKind::bad_data, "data ", options.data_path, ": ",
        difference_of_classes(classes, data.val->class_names()));
  const auto count = static_cast<int>(classes.size());
  if (options.num_classes == 0) options.num_classes = count;
  check(count == options.num_classes, ErrorKind::usage, "data ", options.data_path, " has ", count,
        " classes, the network ", options.num_classes);
  choose_preprocessing(options, [&] { return side_of_images(*data.val, options.skip_bad); });
  data.crop = options.train_crop_size;
  data.val_crop = options.val_crop_size;
  return data;
}

LoaderOptions val_loader_options(const TrainOptions& options, const Data& data, const Communicator& ranks) {
  LoaderOptions loader;
  loader.rank = ranks.rank();
  loader.ranks = ranks.size();
  loader.batch_size = options.batch_size;
  loader.workers = options.workers;
  loader.transform = {Augmentation::none, data.val_crop, options.val_resize_size,
                      options.interpolation.value_or(Interpolation::bilinear)};
  loader.skip_bad = options.skip_bad;
  return loader;
}

LoaderOptions train_loader_options(const TrainOptions& options, const Data& data, const Communicator& ranks) {
  LoaderOptions loader = val_loader_options(options, data, ranks);
  loader.training = true;
  loader.shards = shards_of(options, ranks.size());
  loader.transform.augmentation = options.augment.value_or(Augmentation::none);
  loader.transform.crop = data.crop;
  loader.seed = static_cast<std::uint64_t>(options.seed);
  return loader;
}

std::unique_ptr<Model> build_model(const TrainOptions& options) {
  return make_model(options.model, {options.num_classes, options.in_channels, narrowed(options.mean),
                                    narrowed(options.std)});
}

void check_phase(const Progress& progress, const Method& method, const std::string& source) {
  check(progress.phase >= 0 && progress.phase < method.phases(), ErrorKind::bad_data, "checkpoint ", source,
        ": phase ", progress.phase, " of ", method.phases());
}

std::unique_ptr<Model> model_from_checkpoint(const NamedTensors& checkpoint, const std::string& source,
                                             TrainOptions& options, std::optional<Engine> engine) {
  options = options_of_checkpoint(checkpoint.metadata, source);
  const Progress progress = progress_in(checkpoint.metadata, source);
  auto model = build_model(options);
  if (engine) options.engine = *engine;
  const auto method = make_method(options);
  check_phase(progress, *method, source);
  method->install(*model, progress.phase);
  load_weights(*model, network_in(checkpoint), {.source = source});
  return model;
}

}  // namespace faq
