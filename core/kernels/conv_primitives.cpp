#include "core/kernels/conv_primitives.h"

#include <new>

#include "core/kernels/conv_observer.h"
#include "core/kernels/granted_threads.h"
#include "core/parallel.h"

namespace faq::kernels::onednn {
namespace {

// Returns the cached primitive for a problem. The first time, make_desc(problem) describes it.
template <class Primitive, class MakeDesc>
std::shared_ptr<const Compiled<Primitive>> compiled(const char* what, PrimitiveCache<Primitive>& cache,
                                                    const ConvProblem& problem, MakeDesc make_desc) {
  return cache.get(problem, [&] {
    const GrantedThreads granted;
    check_room_for_code();
    return translated(concat(what, ": no kernel for ", problem.geometry),
                      [&] { return Compiled<Primitive>(make_desc(problem)); });
  });
}

}  // namespace

ConvProblem problem_of(const Shape& x, const Shape& weights, const ConvGeometry& geometry, DType source,
                       DType weight, DType destination) {
  return {.source = source,
          .weight = weight,
          .destination = destination,
          .bias = {},
          .x = x,
          .weights = weights,
          .y = conv2d_shape(x, weights, geometry),
          .geometry = geometry.of(weights),
          .threads = num_threads()};
}

void convolve(const Tensor& x, WeightForms& weights, const Tensor& bias, const ConvGeometry& geometry,
              Tensor& y) {
  report({ConvPass::forward, x.shape(), weights.shape(), y.shape(), geometry, x.dtype(), weights.dtype(),
          y.dtype()});
  ConvProblem problem =
      problem_of(x.shape(), weights.shape(), geometry, x.dtype(), weights.dtype(), y.dtype());
  if (bias) problem.bias = bias.dtype();
  const auto conv = compiled("conv2d", Context::instance().forward(), problem, forward_desc);
  const Tensor packed = weights.layout(conv->desc.weights_desc(), x.dtype(), geometry.groups);
  execute("conv2d", *conv,
          {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, packed}, {DNNL_ARG_BIAS, bias}, {DNNL_ARG_DST, y}});
}

void convolve_backward_data(const Tensor& dy, WeightForms& weights, const ConvGeometry& geometry,
                            Tensor& dx) {
  report({ConvPass::backward_data, dx.shape(), weights.shape(), dy.shape(), geometry, dx.dtype(),
          weights.dtype(), dy.dtype()});
  const ConvProblem problem =
      problem_of(dx.shape(), weights.shape(), geometry, dx.dtype(), weights.dtype(), dy.dtype());
  const auto conv =
      compiled("conv2d backward data", Context::instance().backward_data(), problem, backward_data_desc);
  const Tensor packed = weights.layout(conv->desc.weights_desc(), dy.dtype(), geometry.groups);
  execute("conv2d backward data", *conv,
          {{DNNL_ARG_DIFF_DST, dy}, {DNNL_ARG_WEIGHTS, packed}, {DNNL_ARG_DIFF_SRC, dx}});
}

Packed convolve_backward_weights(const Tensor& x, const Tensor& dy, const Shape& weights,
                                 const ConvGeometry& geometry) {
  const ConvProblem problem = problem_of(x.shape(), weights, geometry, x.dtype(), x.dtype(), dy.dtype());
  const auto conv = compiled("conv2d backward weights", Context::instance().backward_weights(), problem,
                             backward_weights_desc);
  const dnnl::memory::desc desc = conv->desc.diff_weights_desc();
  Packed gradient{desc, Tensor::empty({static_cast<std::int64_t>(desc.get_size() / sizeof(float))})};
  execute("conv2d backward weights", *conv,
          {{DNNL_ARG_SRC, x}, {DNNL_ARG_DIFF_DST, dy}, {DNNL_ARG_DIFF_WEIGHTS, gradient.storage}});
  return gradient;
}

Tensor unpacked(const Packed& gradient, const Shape& weights, int groups) {
  const dnnl::memory::desc plain = plain_weights(weights, DType::f32, groups);
  Tensor dw = Tensor::empty(weights);
  reorder(view(gradient.desc, gradient.storage), view(plain, dw));
  return dw;
}

}  // namespace faq::kernels::onednn
