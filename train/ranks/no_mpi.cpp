// No MPI: the library was built without it.
#include "core/error.h"
#include "train/ranks/mpi.h"

namespace faq {

std::unique_ptr<Transport> open_mpi() {
  fail(ErrorKind::usage, "open_mpi: the library was built without MPI (FAQ_MPI)");
}

std::string mpi_library() { return {}; }

}  // namespace faq
