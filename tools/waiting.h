// How long OpenMP's threads spin where they wait for each other.
#pragma once

namespace faq::cli {

/// To be called first in main: gives OpenMP's threads a short time to spin before they sleep, unless the
/// environment says how they wait (OMP_WAIT_POLICY, GOMP_SPINCOUNT, KMP_BLOCKTIME) or binds them to CPUs
/// (OMP_PROC_BIND, OMP_PLACES, GOMP_CPU_AFFINITY), as who binds them has CPUs for them. The runtime reads it
/// before main, so the program starts once more, as the same process. Where that fails, it goes on with the
/// runtime's default.
void bound_waiting(char** argv);

}  // namespace faq::cli
