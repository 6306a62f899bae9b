#include "train/ranks/launcher.h"

#include <charconv>
#include <cstdlib>
#include <string_view>

#include "core/error.h"

namespace faq {
namespace {

using Wiring = Launch::Wiring;

// Nothing if the variable is not set, or is no number from 0.
std::optional<int> number_in(const Environment& environment, const char* name) {
  const char* text = environment(name);
  if (text == nullptr) return std::nullopt;
  const std::string_view value(text);
  int number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size() || number < 0) return std::nullopt;
  return number;
}

// The two variables of a launcher; nothing if one is missing, or if they are no rank of a job.
std::optional<Launch> launch_in(const Environment& environment, const char* launcher, Wiring wiring,
                                const char* rank_name, const char* size_name) {
  const auto rank = number_in(environment, rank_name), size = number_in(environment, size_name);
  if (!rank || !size || *rank >= *size) return std::nullopt;
  return Launch{launcher, *rank, *size, wiring};
}

// srun --mpi=pmi2 sets PMI_RANK and PMI_SIZE as mpirun of MPICH does, but equal to its own numbers, and
// besides PMI_JOBID=JOB.STEP.
bool is_pmi_of_srun(const Environment& environment, const Launch& launch) {
  const char *job = environment("SLURM_JOB_ID"), *pmi_job = environment("PMI_JOBID");
  return job != nullptr && pmi_job != nullptr &&
         std::string_view(pmi_job).starts_with(std::string(job) + ".") &&
         number_in(environment, "SLURM_PROCID") == launch.rank &&
         number_in(environment, "SLURM_STEP_NUM_TASKS") == launch.size;
}

// The launcher nearest to the process. In a job of Slurm both kinds of mpirun start their helpers by srun,
// one for a node, and processes inherit the variables of that step: they say nothing of the ranks.
std::optional<Launch> nearest_launch(const Environment& environment) {
  if (const auto launch = launch_in(environment, "mpirun of Open MPI", Wiring::open_mpi,
                                    "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"))
    return launch;
  if (const auto launch =
          launch_in(environment, "mpirun of MPICH or Intel MPI", Wiring::hydra, "PMI_RANK", "PMI_SIZE")) {
    if (is_pmi_of_srun(environment, *launch)) return Launch{"srun", launch->rank, launch->size, Wiring::pmi2};
    return launch;
  }
  // A batch script has SLURM_PROCID and SLURM_NTASKS, too, but only a step has the number of its tasks.
  const bool pmix = environment("PMIX_RANK") != nullptr;
  return launch_in(environment, "srun", pmix ? Wiring::pmix : Wiring::none, "SLURM_PROCID",
                   "SLURM_STEP_NUM_TASKS");
}

bool is_open_mpi(const std::string& mpi_library) { return mpi_library.starts_with("Open MPI"); }

// How to start what is built with this library.
std::string remedy(const Launch& launch, const std::string& mpi_library) {
  if (launch.launcher != "srun")
    return concat("use mpirun of ", mpi_library, ", or build this program with that MPI");
  return concat("use srun --mpi=", is_open_mpi(mpi_library) ? "pmix" : "pmi2",
                ", or mpirun in a job of salloc or sbatch");
}

}  // namespace

std::optional<Launch> launch_of(const Environment& environment) {
  auto launch = nearest_launch(environment);
  if (launch && launch->size == 1) launch.reset();
  return launch;
}

std::optional<Launch> launch_of_process() {
  return launch_of([](const char* name) -> const char* { return std::getenv(name); });
}

void check_before_mpi(const Launch& launch, const std::string& mpi_library) {
  check(!mpi_library.empty(), ErrorKind::usage, launch.launcher, " started ", launch.size,
        " processes, but this program is built without MPI: build it with -DFAQ_MPI=ON (Debian: "
        "libopenmpi-dev), or start one process");
  // Other libraries come up alone and tell, and some are built for PMIx.
  if (!is_open_mpi(mpi_library)) return;
  const bool has_server = launch.wiring == Wiring::open_mpi || launch.wiring == Wiring::pmix;
  check(has_server, ErrorKind::usage, launch.launcher,
        launch.wiring == Wiring::pmi2   ? " --mpi=pmi2"
        : launch.wiring == Wiring::none ? " without PMIx"
                                        : "",
        " started ", launch.size, " processes, but this program is built with ", mpi_library,
        ", which would not find the others: ", remedy(launch, mpi_library));
}

void check_launch(const Launch& launch, int ranks_of_mpi, const std::string& mpi_library) {
  check(ranks_of_mpi == launch.size, ErrorKind::usage, launch.launcher, " started ", launch.size,
        " processes, but MPI (", mpi_library, ") sees ", ranks_of_mpi, ": ", remedy(launch, mpi_library));
}

std::string library_name(const std::string& version_text) {
  // E.g. "Open MPI v4.1.4, package: Debian OpenMPI, …", "MPICH Version:\t4.0.2\nMPICH Release date:…",
  // "Intel(R) MPI Library 2021.14 for Linux* OS\n", "MPI VERSION    : CRAY MPICH version 8.1.28.15 (…)\n…"
  std::string name = version_text.substr(0, version_text.find_first_of(std::string_view("\n\0", 2)));
  if (name.starts_with("Open MPI")) name = name.substr(0, name.find(','));
  if (const std::size_t begin = name.find(':'); name.starts_with("MPI VERSION") && begin != std::string::npos)
    name.erase(0, begin + 1);
  for (const char* word : {"(R)", " Library", " for Linux* OS", " Version", ":"})
    if (const std::size_t begin = name.find(word); begin != std::string::npos)
      name.erase(begin, std::string_view(word).size());
  std::string words;
  for (const char c : name) {
    const bool space = c == ' ' || c == '\t' || c == '\r';
    if (!space)
      words += c;
    else if (!words.empty() && words.back() != ' ')
      words += ' ';
  }
  if (words.ends_with(' ')) words.pop_back();
  return words;
}

}  // namespace faq
