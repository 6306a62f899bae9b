// faq-kernel-bench: the kernels that training, inference and loading consist of, each alone. faq-bench times
// whole steps.
#include <benchmark/benchmark.h>

#include "core/cpu.h"
#include "core/parallel.h"
#include "quant/number_format.h"
#include "tools/bench/bench.h"
#include "tools/cli.h"
#include "tools/waiting.h"

namespace {

using namespace faq;

void (*const topics[])() = {
    bench::add_conv_forward, bench::add_conv_backward, bench::add_onednn, bench::add_unit,
    bench::add_quantize,     bench::add_pool,          bench::add_sgd,    bench::add_images,
};

// An error in a kernel leaves here as any program's does.
int body(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return static_cast<int>(ErrorKind::usage);
  benchmark::AddCustomContext("threads", std::to_string(num_threads()));
  benchmark::AddCustomContext("isa", isa_name());
  benchmark::AddCustomContext("own loops, bytes", std::to_string(simd_bytes()));
  benchmark::AddCustomContext("gradients in floating point", name_of(default_grad_format()));
  for (const auto topic : topics) topic();
  check(benchmark::RunSpecifiedBenchmarks() > 0, ErrorKind::usage,
        "--benchmark_filter: expected a pattern of some benchmark, found one of none; "
        "--benchmark_list_tests=true lists them");
  benchmark::Shutdown();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  faq::cli::bound_waiting(argv);
  return faq::cli::run("faq-kernel-bench", [&] { return body(argc, argv); });
}
