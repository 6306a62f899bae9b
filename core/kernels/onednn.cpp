#include "core/kernels/onednn.h"

#include "core/cpu.h"
#include "core/profile.h"

namespace faq {
namespace {

dnnl::cpu_isa isa() { return dnnl::get_effective_cpu_isa(); }

// The instruction sets are bit masks, each holding the bits of those it extends.
bool includes(dnnl::cpu_isa wanted) {
  const auto have = static_cast<unsigned>(isa());
  const auto bits = static_cast<unsigned>(wanted);
  return (have & bits) == bits;
}

}  // namespace

bool has_vnni() { return includes(dnnl::cpu_isa::avx512_core_vnni) || includes(dnnl::cpu_isa::avx2_vnni); }
bool has_native_bf16() { return includes(dnnl::cpu_isa::avx512_core_bf16); }
bool has_bf16_matrices() { return includes(dnnl::cpu_isa::avx512_core_amx); }

const char* isa_name() {
  if (has_bf16_matrices()) return "AVX512_CORE_AMX";
  if (includes(dnnl::cpu_isa::avx512_core_bf16)) return "AVX512_CORE_BF16";
  if (includes(dnnl::cpu_isa::avx512_core_vnni)) return "AVX512_CORE_VNNI";
  if (includes(dnnl::cpu_isa::avx512_core)) return "AVX512_CORE";
  if (includes(dnnl::cpu_isa::avx2_vnni)) return "AVX2_VNNI";
  if (includes(dnnl::cpu_isa::avx2)) return "AVX2";
  return "SSE41";
}

namespace kernels::onednn {
namespace {

constexpr auto nhwc = dnnl::memory::format_tag::nhwc;
constexpr auto any = dnnl::memory::format_tag::any;
constexpr auto direct = dnnl::algorithm::convolution_direct;
constexpr auto training = dnnl::prop_kind::forward_training;

struct Descs {
  explicit Descs(const ConvProblem& p)
      : source(p.source_dims, p.source, nhwc),
        weights(p.weight_dims, p.weights, any),
        destination(p.destination_dims, p.destination, nhwc) {
    if (p.bias != dnnl::memory::data_type::undef)
      bias = {{p.weight_dims[0]}, p.bias, dnnl::memory::format_tag::x};
  }
  dnnl::memory::desc source, weights, bias, destination;
};

dnnl::primitive_attr attributes() {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attr;
}

// oneDNN wants the forward convolution a gradient belongs to: its input has the dtype of the weights,
// whatever the gradient's is.
dnnl::convolution_forward::primitive_desc forward_of_backward_data(ConvProblem problem) {
  problem.source = problem.weights;
  return forward_desc(problem);
}

}  // namespace

dnnl::engine& engine() {
  static dnnl::engine instance(dnnl::engine::kind::cpu, 0);
  return instance;
}

dnnl::stream& stream() {
  thread_local dnnl::stream instance(engine());
  return instance;
}

dnnl::memory::data_type data_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return dnnl::memory::data_type::f32;
    case DType::bf16:
      return dnnl::memory::data_type::bf16;
    case DType::s32:
      return dnnl::memory::data_type::s32;
    case DType::s8:
      return dnnl::memory::data_type::s8;
    case DType::u8:
      return dnnl::memory::data_type::u8;
    case DType::s16:
      break;  // ours alone
  }
  return dnnl::memory::data_type::undef;
}

dnnl::memory view(const dnnl::memory::desc& desc, const Tensor& tensor) {
  return {desc, engine(), const_cast<void*>(tensor.raw())};
}

Tensor buffer(const dnnl::memory::desc& desc) {
  return Tensor::empty({static_cast<std::int64_t>(desc.get_size())}, DType::u8);
}

void execute(const char* what, const dnnl::primitive& primitive, const dnnl::memory::desc& scratchpad,
             Arguments arguments) {
  const Booked booked(Work::convolution);
  try {
    const Tensor scratch = buffer(scratchpad);
    arguments.insert_or_assign(DNNL_ARG_SCRATCHPAD, view(scratchpad, scratch));
    primitive.execute(stream(), arguments);
    stream().wait();
  } catch (const dnnl::error& error) {
    fail(ErrorKind::internal, what, ": oneDNN: ", error.what());
  }
}

void reorder(const dnnl::memory& from, const dnnl::memory& to) {
  dnnl::reorder(from, to).execute(stream(), const_cast<dnnl::memory&>(from), const_cast<dnnl::memory&>(to));
  stream().wait();
}

#if DNNL_VERSION_MAJOR >= 3

dnnl::convolution_forward::primitive_desc forward_desc(const ConvProblem& p) {
  const Descs d(p);
  return {engine(),      training,  direct,    d.source,  d.weights,   d.bias,
          d.destination, p.strides, p.padding, p.padding, attributes()};
}

dnnl::convolution_backward_data::primitive_desc backward_data_desc(const ConvProblem& p) {
  const Descs d(p);
  return {engine(),    direct,        d.source,
          d.weights,   d.destination, p.strides,
          p.padding,   p.padding,     forward_of_backward_data(p),
          attributes()};
}

dnnl::convolution_backward_weights::primitive_desc backward_weights_desc(const ConvProblem& p) {
  const Descs d(p);
  const dnnl::memory::desc gradient(p.weight_dims, dnnl::memory::data_type::f32, any);
  return {engine(),  direct,    d.source,  gradient,        d.destination,
          p.strides, p.padding, p.padding, forward_desc(p), attributes()};
}

#else

dnnl::convolution_forward::primitive_desc forward_desc(const ConvProblem& p) {
  const Descs d(p);
  const dnnl::convolution_forward::desc op(training, direct, d.source, d.weights, d.bias, d.destination,
                                           p.strides, p.padding, p.padding);
  return {op, attributes(), engine()};
}

dnnl::convolution_backward_data::primitive_desc backward_data_desc(const ConvProblem& p) {
  const Descs d(p);
  const dnnl::convolution_backward_data::desc op(direct, d.source, d.weights, d.destination, p.strides,
                                                 p.padding, p.padding);
  return {op, attributes(), engine(), forward_of_backward_data(p)};
}

dnnl::convolution_backward_weights::primitive_desc backward_weights_desc(const ConvProblem& p) {
  const Descs d(p);
  const dnnl::memory::desc gradient(p.weight_dims, dnnl::memory::data_type::f32, any);
  const dnnl::convolution_backward_weights::desc op(direct, d.source, gradient, d.destination, p.strides,
                                                    p.padding, p.padding);
  return {op, attributes(), engine(), forward_desc(p)};
}

#endif

}  // namespace kernels::onednn
}  // namespace faq
