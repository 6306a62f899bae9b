// What the oneDNN kernels share: one engine and stream, the differences between oneDNN 2 and 3.
// Included by core/kernels/*.cpp only.
#pragma once

#include <dnnl.hpp>
#include <unordered_map>

#include "core/tensor.h"

namespace faq::kernels::onednn {

using Arguments = std::unordered_map<int, dnnl::memory>;

dnnl::engine& engine();
dnnl::stream& stream();  ///< of the calling thread
dnnl::memory::data_type data_type(DType dtype);

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

/// The extents of a 2-D convolution; one struct from the layer to the primitive cache.
struct ConvProblem {
  dnnl::memory::data_type source, weights, bias, destination;     ///< bias: undef when there is none
  dnnl::memory::dims source_dims, weight_dims, destination_dims;  ///< N,C,H,W and O,I,H,W
  dnnl::memory::dims strides, padding;
};

dnnl::convolution_forward::primitive_desc forward_desc(const ConvProblem& problem);
/// weights and gradient of the output in problem.weights / problem.destination, gradient of the input in
/// problem.source.
dnnl::convolution_backward_data::primitive_desc backward_data_desc(const ConvProblem& problem);
/// input in problem.source, gradient of the output in problem.destination, gradient of the weights in f32.
dnnl::convolution_backward_weights::primitive_desc backward_weights_desc(const ConvProblem& problem);

}  // namespace faq::kernels::onednn
