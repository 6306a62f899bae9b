#include "train/ranks/launcher.h"

#include <map>

#include "core/error.h"
#include "tests/data_testing.h"

using namespace faq;
using namespace faq::testing;

namespace {

using Wiring = Launch::Wiring;
using Variables = std::map<std::string, std::string>;

std::optional<Launch> launch_in(const Variables& variables) {
  return launch_of([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

// What was seen with Slurm 22.05, Open MPI 4.1.4, MPICH 4.0.2 and Intel MPI 2021.19.
const Variables batch{
    {"SLURM_JOB_ID", "5"}, {"SLURM_NTASKS", "2"}, {"SLURM_NPROCS", "2"}, {"SLURM_PROCID", "0"}};
const Variables allocation{{"SLURM_JOB_ID", "5"}, {"SLURM_NTASKS", "2"}, {"SLURM_NPROCS", "2"}};
const Variables step{{"SLURM_JOB_ID", "5"},         {"SLURM_STEP_ID", "0"}, {"SLURM_NTASKS", "2"},
                     {"SLURM_STEP_NUM_TASKS", "2"}, {"SLURM_PROCID", "1"},  {"SLURM_LOCALID", "0"}};
const Variables open_mpi{{"OMPI_COMM_WORLD_SIZE", "4"},
                         {"OMPI_COMM_WORLD_RANK", "3"},
                         {"PMIX_RANK", "3"},
                         {"PMIX_NAMESPACE", "5039"}};
const Variables hydra{{"PMI_SIZE", "4"}, {"PMI_RANK", "3"}, {"PMI_FD", "6"}};
const Variables pmix{{"PMIX_RANK", "1"}, {"PMIX_NAMESPACE", "slurm.pmix.5.0"}, {"SLURM_MPI_TYPE", "pmix"}};
const Variables pmi2{{"PMI_SIZE", "2"}, {"PMI_RANK", "1"}, {"PMI_FD", "11"}, {"PMI_JOBID", "5.0"}};

Variables with(Variables variables, const Variables& further) {
  for (const auto& [name, value] : further) variables[name] = value;
  return variables;
}

const std::string ompi = "Open MPI v4.1.4", mpich = "MPICH 4.0.2", intel = "Intel MPI 2021.19";

}  // namespace

TEST_CASE("the environment tells who started the process", "[ranks]") {
  const Launch by_open_mpi{"mpirun of Open MPI", 3, 4, Wiring::open_mpi},
      by_hydra{"mpirun of MPICH or Intel MPI", 3, 4, Wiring::hydra};
  const struct {
    const char* what;
    Variables variables;
    std::optional<Launch> launch;
  } rows[] = {
      {"alone", {}, {}},
      {"a batch script of two tasks", batch, {}},
      {"a shell of salloc", allocation, {}},
      {"mpirun of Open MPI", open_mpi, by_open_mpi},
      {"… in a batch script", with(batch, open_mpi), by_open_mpi},
      {"… whose helpers srun started, one a node", with(with(step, pmix), open_mpi), by_open_mpi},
      {"mpirun of MPICH", hydra, by_hydra},
      {"… in a batch script", with(batch, hydra), by_hydra},
      {"… whose helpers srun started with PMIx", with(with(step, pmix), hydra), by_hydra},
      {"… whose helpers srun started with PMI 2", with(with(step, pmi2), hydra), by_hydra},
      {"srun --mpi=none", step, Launch{"srun", 1, 2, Wiring::none}},
      {"srun --mpi=pmix", with(step, pmix), Launch{"srun", 1, 2, Wiring::pmix}},
      {"srun --mpi=pmi2", with(step, pmi2), Launch{"srun", 1, 2, Wiring::pmi2}},
      {"one task", with(step, {{"SLURM_STEP_NUM_TASKS", "1"}, {"SLURM_PROCID", "0"}}), {}},
      {"one process of Open MPI",
       with(open_mpi, {{"OMPI_COMM_WORLD_SIZE", "1"}, {"OMPI_COMM_WORLD_RANK", "0"}}),
       {}},
      {"one process of Open MPI in a step of two",
       with(step, {{"OMPI_COMM_WORLD_SIZE", "1"}, {"OMPI_COMM_WORLD_RANK", "0"}}),
       {}},
      {"one process of MPICH", {{"PMI_SIZE", "1"}, {"PMI_RANK", "0"}}, {}},
      {"a rank and no size", {{"OMPI_COMM_WORLD_RANK", "1"}}, {}},
      {"a rank that is none", {{"PMI_RANK", "4"}, {"PMI_SIZE", "4"}}, {}},
      {"text", {{"PMI_RANK", "0"}, {"PMI_SIZE", "4 or 5"}}, {}},
      {"nothing", {{"PMI_RANK", "0"}, {"PMI_SIZE", ""}}, {}},
      {"negative", {{"PMI_RANK", "-1"}, {"PMI_SIZE", "4"}}, {}},
      {"too large", {{"PMI_RANK", "1"}, {"PMI_SIZE", "99999999999"}}, {}},
  };
  for (const auto& row : rows) {
    INFO(row.what);
    CHECK(launch_in(row.variables) == row.launch);
  }
}

TEST_CASE("a launcher that MPI does not know is refused before it is asked", "[ranks]") {
  const Launch by_open_mpi = *launch_in(open_mpi), by_hydra = *launch_in(hydra), by_srun = *launch_in(step),
               by_pmix = *launch_in(with(step, pmix)), by_pmi2 = *launch_in(with(step, pmi2));
  const struct {
    Launch launch;
    std::string library, refusal;
  } rows[] = {
      {by_open_mpi, ompi, ""},
      {by_pmix, ompi, ""},
      {by_hydra, ompi,
       "mpirun of MPICH or Intel MPI started 4 processes, but this program is built with Open MPI v4.1.4, "
       "which "
       "would not find the others: use mpirun of Open MPI v4.1.4"},
      {by_pmi2, ompi,
       "srun --mpi=pmi2 started 2 processes, but this program is built with Open MPI v4.1.4, which would not "
       "find "
       "the others: use srun --mpi=pmix, or mpirun in a job of salloc or sbatch"},
      {by_srun, ompi,
       "srun without PMIx started 2 processes, but this program is built with Open MPI v4.1.4, which would "
       "not find "
       "the others: use srun --mpi=pmix, or mpirun in a job of salloc or sbatch"},
      {by_hydra, mpich, ""},
      {by_pmi2, mpich, ""},
      // They come up alone, and some find each other.
      {by_open_mpi, mpich, ""},
      {by_srun, intel, ""},
      {by_pmix, mpich, ""},
      {by_srun, "",
       "srun started 2 processes, but this program is built without MPI: build it with -DFAQ_MPI=ON (Debian: "
       "libopenmpi-dev), or start one process"},
      {by_open_mpi, "",
       "mpirun of Open MPI started 4 processes, but this program is built without MPI: build it with "
       "-DFAQ_MPI=ON "
       "(Debian: libopenmpi-dev), or start one process"},
  };
  for (const auto& row : rows) {
    INFO(row.launch.launcher << ", " << row.library << ": " << row.refusal);
    const auto act = [&] { check_before_mpi(row.launch, row.library); };
    if (row.refusal.empty())
      CHECK_NOTHROW(act());
    else
      check_error(ErrorKind::usage, row.refusal, act);
  }
}

TEST_CASE("MPI and its launcher must see the same number of ranks", "[ranks]") {
  const struct {
    Variables variables;
    int ranks;
    std::string library, refusal;
  } rows[] = {
      {open_mpi, 4, ompi, ""},
      {hydra, 4, intel, ""},
      {with(step, pmi2), 2, mpich, ""},
      {open_mpi, 1, mpich,
       "mpirun of Open MPI started 4 processes, but MPI (MPICH 4.0.2) sees 1: use mpirun of MPICH 4.0.2"},
      {hydra, 1, ompi,
       "mpirun of MPICH or Intel MPI started 4 processes, but MPI (Open MPI v4.1.4) sees 1: use mpirun of "
       "Open MPI "
       "v4.1.4"},
      {step, 1, ompi,
       "srun started 2 processes, but MPI (Open MPI v4.1.4) sees 1: use srun --mpi=pmix, or mpirun in a job "
       "of salloc "
       "or sbatch"},
      {with(step, pmix), 1, mpich,
       "srun started 2 processes, but MPI (MPICH 4.0.2) sees 1: use srun --mpi=pmi2, or mpirun in a job of "
       "salloc or "
       "sbatch"},
      {with(step, pmi2), 3, mpich,
       "srun started 2 processes, but MPI (MPICH 4.0.2) sees 3: use srun --mpi=pmi2, or mpirun in a job of "
       "salloc or "
       "sbatch"},
  };
  for (const auto& row : rows) {
    INFO(row.library << ": " << row.refusal);
    const auto act = [&] { check_launch(*launch_in(row.variables), row.ranks, row.library); };
    if (row.refusal.empty())
      CHECK_NOTHROW(act());
    else
      check_error(ErrorKind::usage, row.refusal, act);
  }
}

TEST_CASE("the name of a library of MPI is a few words of its text", "[ranks]") {
  const struct {
    std::string text, name;
  } rows[] = {
      {"Open MPI v4.1.4, package: Debian OpenMPI, ident: 4.1.4, repo rev: v4.1.4, May 26, 2022",
       "Open MPI v4.1.4"},
      {"MPICH Version:\t4.0.2\nMPICH Release date:\tThu Apr  7 12:34:45 CDT 2022\nMPICH Device:\tch4:ofi\n",
       "MPICH 4.0.2"},
      {"Intel(R) MPI Library 2021.14 for Linux* OS\n", "Intel MPI 2021.14"},
      {std::string("Intel(R) MPI Library 2021.14 for Linux* OS\n\0", 44), "Intel MPI 2021.14"},
      {"MVAPICH2 Version      :\t2.3.7\nMVAPICH2 Release date : …\n", "MVAPICH2 2.3.7"},
      {"MPI VERSION    : CRAY MPICH version 8.1.28.15 (ANL base 3.4a2)\nMPI BUILD INFO : …\n",
       "CRAY MPICH version 8.1.28.15 (ANL base 3.4a2)"},
      {"another one", "another one"},
      {"", ""},
  };
  for (const auto& row : rows) {
    INFO(row.text);
    CHECK(library_name(row.text) == row.name);
  }
}
