// The roofline of whatever runs: its convolutions, each alone.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace faq::kernels {

/// Until stopped, remembers the convolutions that are executed, in whatever thread. One trace at a time.
class ConvTrace {
 public:
  /// Convolutions of slices of a batch count as one of up to `batch` images.
  explicit ConvTrace(std::int64_t batch);
  ~ConvTrace();
  ConvTrace(const ConvTrace&) = delete;
  ConvTrace& operator=(const ConvTrace&) = delete;

  struct Row {
    std::string what;  ///< pass, dtypes, shapes
    std::int64_t calls = 0;
    double seconds = 0;  ///< of one call
  };
  void stop();
  /// Executes each again, `repeats` times by itself with its weights packed and its operands in place: the
  /// median. Gradients of weights are summed up as in a training step, by threads that share the images, the
  /// rest is one call for all. Precondition: stopped.
  std::vector<Row> measure(int repeats) const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace faq::kernels
