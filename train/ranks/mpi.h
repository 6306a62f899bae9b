// MPI, where the library was built with it: mpi_transport.cpp, or no_mpi.cpp.
#pragma once

#include <memory>
#include <string>

#include "train/ranks/transport.h"

namespace faq {

/// Initialises MPI in the calling thread, which must make all further calls. Leaves the thread's CPUs as they
/// were. Throws usage if the library was built without MPI, io if MPI was initialised before.
std::unique_ptr<Transport> open_mpi();

/// The name and version of the MPI library that this library was built with, on one line, e.g. "Open MPI
/// v4.1.4". Empty: built without MPI. Does not initialise MPI.
std::string mpi_library();

}  // namespace faq
