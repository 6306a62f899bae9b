// The surroundings of a run that are not options of it.
#pragma once

#include <string>
#include <vector>

#include "data/dataset.h"
#include "train/ranks/communicator.h"
#include "train/run_listener.h"
#include "train/stop_token.h"

namespace faq {

struct RunContext {
  std::string command = {};                  ///< the command line, for run.json
  std::vector<RunListener*> listeners = {};  ///< must outlive the run; none: the run is silent
  StopToken stop = {};                       ///< a request ends the run after saving, on all ranks
  Communicator* ranks = &single_process();   ///< those who run it together; listeners hear of rank 0 only
  /// Data of your own: called for Split::train and Split::val, on every rank. Then `data_path` is only a name
  /// for people, and the report has no passes over the validation images.
  OpenSplit open_split = {};
};

}  // namespace faq
