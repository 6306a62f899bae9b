// From options to the things a run is made of; shared by training and evaluation.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "data/loader.h"
#include "nn/models.h"
#include "train/checkpoint.h"
#include "train/method.h"
#include "train/options.h"

namespace faq {

/// The data of a run, opened once.
struct Data {
  std::unique_ptr<Dataset> train;  ///< null when only validation was wanted
  std::unique_ptr<Dataset> val;
  int crop = 0;  ///< height and width of network inputs
  int val_crop = 0;
};

/// Fills num_classes, in_channels and the sizes of `options` in from the data and the weights where they were
/// left to them, and opens the data. Throws usage when the classes of data and options disagree.
Data open_data(TrainOptions& options, bool with_train);

/// When --weights is a checkpoint of faq-train: takes the channels, mean and deviation that the options leave
/// open from it. Reads its header only.
void adopt_from_weights(TrainOptions& options);
/// The same from the options of another run.
void adopt(TrainOptions& options, const TrainOptions& from);
/// Whether a mean and a deviation that are given are those of another run, which may have left them to its
/// network. None given: yes.
bool same_pixels(const TrainOptions& given, const TrainOptions& of_run);
/// As adopt(), of what choose_preprocessing would choose.
void adopt_sizes(TrainOptions& options, const TrainOptions& from);

/// Fills in the sizes and the augmentation that were left open, as torchvision's scripts have them for the
/// network: for photographs random resized crops of the size it is for, and a centre crop after resizing by
/// 256/224 (342/299); for CIFAR's networks images as large as the data set's, padded and cropped.
/// `image_size`: what these are, asked for only then. In another size, or among images of several, they are
/// resized to it in training, and so for evaluation.
void choose_preprocessing(TrainOptions& options, const std::function<int()>& image_size);

/// The shorter side of the first image, past as many bad ones as may be skipped.
int side_of_images(const Dataset& dataset, std::int64_t skip_bad);

LoaderOptions train_loader_options(const TrainOptions& options, const Data& data);
LoaderOptions val_loader_options(const TrainOptions& options, const Data& data);

/// The network of the options, with zero weights and no quantization.
std::unique_ptr<Model> build_model(const TrainOptions& options);

/// Throws bad_data when a checkpoint claims a phase its run does not have.
void check_phase(const Progress& progress, const Method& method, const std::string& source);

/// A checkpoint of faq-train as a network ready for evaluation, in the form its method gave it. `options`:
/// those of the run. `engine`: what computes it, whatever it was trained on; none: what it was trained on.
std::unique_ptr<Model> model_from_checkpoint(const NamedTensors& checkpoint, const std::string& source,
                                             TrainOptions& options, std::optional<Engine> engine = {});

}  // namespace faq
