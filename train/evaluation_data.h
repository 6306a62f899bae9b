// The images a network is evaluated on, prepared as it wants them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/loader.h"
#include "train/open_network.h"
#include "train/ranks/communicator.h"

namespace faq {

struct EvaluationData {
  std::unique_ptr<Dataset> dataset;
  std::unique_ptr<Loader>
      loader;  ///< of the batches of this rank, in the order of the data set, without augmentation
  std::vector<std::string> notes;  ///< lines for people: what is done to the images, and what was found
};

/// Throws usage when the network's file names its classes and `names`, which are those `of` something, are
/// others or in another order. Returns a warning where one side has numbers alone; else it is empty.
std::string check_classes(const Network& network, const std::vector<std::string>& names,
                          const std::string& of);

/// Opens a split of `data.data_path` for a network. Throws usage when the data have other classes than the
/// network, in number or, where its file names them, in name. One rank searches the file system for all.
EvaluationData open_evaluation_data(const Network& network, const DataChoice& data, int batch_size = 128,
                                    Split split = Split::val, Communicator& ranks = single_process());

}  // namespace faq
