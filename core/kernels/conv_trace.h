// The roofline of a program: the time of each of its convolutions alone.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace faq::kernels {

/// Remembers the convolutions that are executed, in all threads, until it is stopped. One trace at a time.
class ConvTrace {
 public:
  /// Convolutions of slices of a batch are counted as one convolution of up to `batch` images.
  explicit ConvTrace(std::int64_t batch);
  ~ConvTrace();
  ConvTrace(const ConvTrace&) = delete;
  ConvTrace& operator=(const ConvTrace&) = delete;

  struct Row {
    std::string what;  ///< pass, dtypes, shapes
    std::int64_t calls = 0;
    double seconds = 0;  ///< for one call
  };
  void stop();
  /// Runs each convolution again, `repeats` times, alone, with packed weights and operands in place. The
  /// result is the median time. Gradients of weights are summed as in a training step, by threads that share
  /// the images; the other passes are one call for all images. Precondition: stopped.
  std::vector<Row> measure(int repeats) const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace faq::kernels
