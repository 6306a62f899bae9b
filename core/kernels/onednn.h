// What the oneDNN kernels share: one context, the differences between oneDNN 2 and 3.
// Included by core/kernels/*.cpp only.
#pragma once

#include <dnnl.hpp>
#include <optional>
#include <unordered_map>

#include "core/bounded_cache.h"
#include "core/kernels/conv_geometry.h"
#include "core/tensor.h"

namespace faq::kernels::onednn {

using Arguments = std::unordered_map<int, dnnl::memory>;

/// A 2-D convolution as primitives are made for it, and the key they are kept under.
struct ConvProblem {
  DType source, weight, destination;  ///< of values or their gradients
  std::optional<DType> bias;
  Shape x, weights, y;    ///< N,H,W,C; O,I/G,H,W; N,H,W,C
  ConvGeometry geometry;  ///< its kernel is that of the weights
  int threads;  ///< a primitive for several divides the work among them whether they are there or not

  std::size_t hash() const;
  bool operator==(const ConvProblem&) const = default;
};

template <class Primitive>
struct Compiled {
  typename Primitive::primitive_desc desc;
  Primitive primitive;
};
template <class Primitive>
using PrimitiveCache = BoundedCache<ConvProblem, Compiled<Primitive>>;

/// The engine, and what has been made for it. There is one, shared by all threads.
class Context {
 public:
  static Context& instance();

  const dnnl::engine& engine() const { return engine_; }
  /// Of the calling thread.
  dnnl::stream& stream();

  PrimitiveCache<dnnl::convolution_forward>& forward() { return forward_; }
  PrimitiveCache<dnnl::convolution_backward_data>& backward_data() { return backward_data_; }
  PrimitiveCache<dnnl::convolution_backward_weights>& backward_weights() { return backward_weights_; }
  /// What was found out of kernels for integers (rounding.h).
  BoundedCache<ConvProblem, bool>& rounds_results_alone() { return rounds_results_alone_; }

  /// Forgets all primitives and what was found out of them.
  void clear();

 private:
  // DenseNet-201 has some 200 convolutions, most of them unlike, in slices of one or two lengths.
  static constexpr std::size_t capacity = 512;

  Context() = default;

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  PrimitiveCache<dnnl::convolution_forward> forward_{capacity};
  PrimitiveCache<dnnl::convolution_backward_data> backward_data_{capacity};
  PrimitiveCache<dnnl::convolution_backward_weights> backward_weights_{capacity};
  BoundedCache<ConvProblem, bool> rounds_results_alone_{capacity};
};

dnnl::memory::data_type data_type(DType dtype);
/// Of weights in their own order, O,I,H,W, in so many groups.
dnnl::memory::desc plain_weights(const Shape& weights, DType dtype, int groups);

/// A view of a tensor's storage under a descriptor. oneDNN takes mutable pointers for inputs too; it only
/// reads them.
dnnl::memory view(const dnnl::memory::desc& desc, const Tensor& tensor);
/// Memory for `desc`, owned by the caller's tensor (from the caching allocator).
Tensor buffer(const dnnl::memory::desc& desc);

/// Runs the primitive and waits; the scratchpad comes from the caching allocator.
/// A failure is Error(internal) that names `what`.
void execute(const char* what, const dnnl::primitive& primitive, const dnnl::memory::desc& scratchpad,
             Arguments arguments);
void reorder(const dnnl::memory& from, const dnnl::memory& to);

dnnl::convolution_forward::primitive_desc forward_desc(const ConvProblem& problem);
/// weights and gradient of the output in problem.weight / problem.destination, gradient of the input in
/// problem.source.
dnnl::convolution_backward_data::primitive_desc backward_data_desc(const ConvProblem& problem);
/// input in problem.source, gradient of the output in problem.destination, gradient of the weights in f32.
dnnl::convolution_backward_weights::primitive_desc backward_weights_desc(const ConvProblem& problem);

}  // namespace faq::kernels::onednn
