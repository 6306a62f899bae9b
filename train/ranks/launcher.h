// What started this process, from the variables that launchers set.
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace faq {

/// A process of a parallel job, as its launcher sees it.
struct Launch {
  std::string launcher;  ///< "mpirun of Open MPI", "srun", …
  int rank = 0;
  int size = 1;
};

/// Returns the value of an environment variable, or null.
using Environment = std::function<const char*(const char* name)>;

/// Reads the environment: Open MPI (OMPI_COMM_WORLD_*), PMI of MPICH and Intel MPI (PMI_RANK, PMI_SIZE),
/// PMIx, srun (SLURM_STEP_NUM_TASKS, SLURM_PROCID). Nothing for a process that was started alone, also inside
/// a batch script of Slurm. MPI is only touched when there is a launch.
std::optional<Launch> launch_of(const Environment& environment);

/// Throws usage, with the reason and the remedy, when MPI sees another number of ranks than the launcher
/// started: the launcher belongs to another MPI than this program, or srun has no PMIx.
void check_launch(const Launch& launch, int ranks_of_mpi, const std::string& mpi_library);

}  // namespace faq
