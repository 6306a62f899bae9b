// Makes the parts of a run from its options. Used by training and evaluation.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "data/loader.h"
#include "nn/models.h"
#include "train/checkpoint.h"
#include "train/method.h"
#include "train/options.h"
#include "train/ranks/communicator.h"

namespace faq {

/// The data of a run, opened once.
struct Data {
  std::unique_ptr<Dataset> train;  ///< null if only validation is needed
  std::unique_ptr<Dataset> val;
  int crop = 0;  ///< height and width of network inputs
  int val_crop = 0;
};

/// What open_dataset() wants to know. `channels`: those of the network.
DatasetOptions dataset_options(const DataChoice& data, int channels, Communicator& ranks = single_process());

/// Opens the data, and fills in the num_classes, in_channels and sizes of `options` that were left open, from
/// the data and the weights. Throws usage when the classes of data and options disagree.
/// One rank searches the file system for all.
/// `open`: for data of your own, in place of what `data_path` has.
Data open_data(TrainOptions& options, Communicator& ranks = single_process(), const OpenSplit& open = {});

/// If --weights is a checkpoint of faq-train, takes channels, mean and deviation from it where the options
/// leave them open. Reads only the header of the file.
void adopt_from_weights(TrainOptions& options);
/// The same, from the options of another run.
void adopt(TrainOptions& options, const TrainOptions& from);
/// True if the given mean and deviation are those of another run, which may have used the defaults of its
/// network. True if none are given.
bool same_pixels(const TrainOptions& given, const TrainOptions& of_run);
/// As adopt(), for the fields that choose_preprocessing sets.
void adopt_sizes(TrainOptions& options, const TrainOptions& from);

/// Fills in the sizes, the interpolation and the augmentation that were left open, with the values of
/// torchvision's scripts for the network.
///
/// Networks for photographs: random resized crops of the size the network was designed for. Evaluation
/// resizes by 256/224 (342/299) and takes the centre crop.
///
/// CIFAR's networks: crops of the size of the data set's images, from padded images. If the crop size is
/// another one, or the images have several sizes, they are resized to the crop size, in training and in
/// evaluation. `image_size`: returns the size of the images; called only for CIFAR's networks without a crop
/// size.
void choose_preprocessing(TrainOptions& options, const std::function<int()>& image_size);

/// Returns the shorter side of the first good image. It passes over as many bad images as may be skipped.
int side_of_images(const Dataset& dataset, std::int64_t skip_bad);

/// The share of this rank.
LoaderOptions train_loader_options(const TrainOptions& options, const Data& data,
                                   const Communicator& ranks = single_process());
LoaderOptions val_loader_options(const TrainOptions& options, const Data& data,
                                 const Communicator& ranks = single_process());

/// Makes the network of the options, with zero weights and not quantized.
std::unique_ptr<Model> build_model(const TrainOptions& options);

/// Throws bad_data when a checkpoint is in a phase that its run does not have.
void check_phase(const Progress& progress, const Method& method, const std::string& source);

/// Makes the network of a checkpoint of faq-train, ready for evaluation, in the form its method gave it.
/// `options`: is set to the options of the run. `engine`: the engine to compute with; not set: the engine of
/// the training.
std::unique_ptr<Model> model_from_checkpoint(const NamedTensors& checkpoint, const std::string& source,
                                             TrainOptions& options, std::optional<Engine> engine = {});

}  // namespace faq
