// What surrounds a run and is no option of it.
#pragma once

#include <string>
#include <vector>

#include "train/run_listener.h"
#include "train/stop_token.h"

namespace faq {

struct RunContext {
  std::string command = {};                  ///< for run.json
  std::vector<RunListener*> listeners = {};  ///< which outlive the run; none: it is silent
  StopToken stop = {};                       ///< a request ends the run after saving
};

}  // namespace faq
