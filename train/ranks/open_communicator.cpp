#include "train/ranks/open_communicator.h"

#include "train/ranks/launcher.h"
#include "train/ranks/local_ranks.h"
#include "train/ranks/mpi.h"
#include "train/ranks/rank_communicator.h"

namespace faq {

std::unique_ptr<Communicator> open_communicator(const std::function<void(const std::string&)>& report) {
  const auto launch = launch_of_process();
  if (!launch) return std::make_unique<Communicator>();
  check_before_mpi(*launch, mpi_library());
  const auto open = [launch = *launch] {
    std::unique_ptr<Transport> transport = open_mpi();
    check_launch(launch, transport->size(), mpi_library());
    return transport;
  };
  return std::make_unique<RankCommunicator>(open, host_name(), RankDeadlines(), report);
}

}  // namespace faq
