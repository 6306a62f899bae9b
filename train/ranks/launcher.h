// What started this process, from the variables that launchers set.
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace faq {

/// A process of a parallel job, as its launcher sees it.
struct Launch {
  /// How the launcher lets its processes find each other.
  enum class Wiring {
    open_mpi,  ///< mpirun of Open MPI
    hydra,     ///< mpirun of MPICH or Intel MPI, and other launchers that speak PMI
    pmix,      ///< srun --mpi=pmix
    pmi2,      ///< srun --mpi=pmi2
    none,      ///< srun --mpi=none
  };
  std::string launcher = {};  ///< "mpirun of Open MPI", "srun", …
  int rank = 0;
  int size = 1;
  Wiring wiring = Wiring::none;
  bool operator==(const Launch&) const = default;
};

/// Returns the value of an environment variable, or null.
using Environment = std::function<const char*(const char* name)>;

/// Reads the environment: Open MPI (OMPI_COMM_WORLD_*), PMI of MPICH and Intel MPI (PMI_RANK, PMI_SIZE), srun
/// (SLURM_STEP_NUM_TASKS, SLURM_PROCID). Nothing for a process that was started alone, also inside a batch
/// script of Slurm, and nothing for a job of one process, which needs no MPI (`mpirun -n 1`). MPI is only
/// touched when there is a launch.
std::optional<Launch> launch_of(const Environment& environment);
/// Of this process.
std::optional<Launch> launch_of_process();

/// To be called before open_mpi. Throws usage, with the reason and the remedy, when MPI would see another
/// number of ranks than the launcher started, and might end the process or hang while it is initialised: Open
/// MPI without its own mpirun or PMIx, or a library without MPI (`mpi_library` is empty).
void check_before_mpi(const Launch& launch, const std::string& mpi_library);

/// To be called after open_mpi. Throws usage, with the reason and the remedy, when MPI sees another number of
/// ranks than the launcher started: the launcher belongs to another MPI than this program, or srun has no
/// PMIx.
void check_launch(const Launch& launch, int ranks_of_mpi, const std::string& mpi_library);

/// The name and version in what MPI_Get_library_version returns, e.g. "Open MPI v4.1.4".
std::string library_name(const std::string& version_text);

}  // namespace faq
