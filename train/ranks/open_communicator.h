// The communicator that this process was started for.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "train/ranks/communicator.h"

namespace faq {

/// Returns MPI's communicator if a launcher (mpirun, srun) started this process as one of several, else that
/// of a single process, without touching MPI. `report`: called from another thread with a line about a rank
/// that is slow or lost. Throws usage when the launcher and MPI do not fit together, with the remedy. A
/// process opens it once.
std::unique_ptr<Communicator> open_communicator(const std::function<void(const std::string&)>& report);

}  // namespace faq
