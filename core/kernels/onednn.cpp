#include "core/kernels/onednn.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>
#include <utility>

#include "core/cpu.h"
#include "core/kernels/granted_threads.h"
#include "core/kernels/onednn_faults.h"
#include "core/parallel.h"
#include "core/profile.h"

namespace faq {
namespace {

dnnl::cpu_isa isa() { return dnnl::get_effective_cpu_isa(); }

// The instruction sets are bit masks. A set contains the bits of the sets it extends.
bool includes(dnnl::cpu_isa wanted) {
  const auto have = static_cast<unsigned>(isa());
  const auto bits = static_cast<unsigned>(wanted);
  return (have & bits) == bits;
}

}  // namespace

bool has_avx512_vnni() { return includes(dnnl::cpu_isa::avx512_core_vnni); }
bool has_vnni() { return has_avx512_vnni() || includes(dnnl::cpu_isa::avx2_vnni); }
bool has_avx2() { return includes(dnnl::cpu_isa::avx2); }
bool has_native_bf16() { return includes(dnnl::cpu_isa::avx512_core_bf16); }
bool has_amx() { return includes(dnnl::cpu_isa::avx512_core_amx); }

const char* isa_name() {
  if (has_amx()) return "AVX512_CORE_AMX";
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

dnnl::memory::dims nchw(const Shape& x) { return {x[0], x[3], x[1], x[2]}; }

// The extents of weights in oneDNN's order: if there are several groups, they come first.
dnnl::memory::dims weight_dims(const Shape& w, int groups) {
  if (groups == 1) return {w[0], w[1], w[2], w[3]};
  return {groups, w[0] / groups, w[1], w[2], w[3]};
}

struct Descs {
  explicit Descs(const ConvProblem& p)
      : source(nchw(p.x), data_type(p.source), nhwc),
        weights(weight_dims(p.weights, p.geometry.groups), data_type(p.weight), any),
        destination(nchw(p.y), data_type(p.destination), nhwc),
        gradient(weight_dims(p.weights, p.geometry.groups), dnnl::memory::data_type::f32, any),
        strides{p.geometry.stride, p.geometry.stride},
        dilation{p.geometry.dilation.height - 1, p.geometry.dilation.width - 1},
        before{p.geometry.padding.top, p.geometry.padding.left},
        behind{p.geometry.padding.bottom, p.geometry.padding.right} {
    if (p.bias) bias = {{p.weights[0]}, data_type(*p.bias), dnnl::memory::format_tag::x};
  }
  dnnl::memory::desc source, weights, bias, destination, gradient;
  dnnl::memory::dims strides, dilation, before, behind;
};

const dnnl::engine& engine() { return Context::instance().engine(); }

dnnl::primitive_attr attributes() {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attr;
}

void run(const dnnl::primitive& primitive, const Arguments& arguments) {
  dnnl::stream& stream = Context::instance().stream();
  primitive.execute(stream, arguments);
  stream.wait();
}

void* address_of(const Tensor& tensor) { return const_cast<void*>(tensor.raw()); }

using ForwardDesc = dnnl::convolution_forward::primitive_desc;
using BackwardDataDesc = dnnl::convolution_backward_data::primitive_desc;
using BackwardWeightsDesc = dnnl::convolution_backward_weights::primitive_desc;

// oneDNN needs the forward convolution of a gradient. The input of that convolution has the dtype of the
// weights, whatever dtype the gradient has.
ForwardDesc forward_of_backward_data(ConvProblem problem) {
  problem.source = problem.weight;
  return forward_desc(problem);
}

}  // namespace

Arguments IdleArguments::take() {
  const std::lock_guard lock(mutex_);
  if (idle_.empty()) return {};
  Arguments arguments = std::move(idle_.back());
  idle_.pop_back();
  return arguments;
}

void IdleArguments::give_back(Arguments arguments) {
  const std::lock_guard lock(mutex_);
  if (idle_.size() < most) idle_.push_back(std::move(arguments));
}

void WantedLayouts::add(const Weights& weights, const dnnl::memory::desc& layout) {
  const std::lock_guard lock(mutex_);
  std::vector<dnnl::memory::desc>& known = layouts_[weights];
  if (std::ranges::find(known, layout) != known.end()) return;
  if (known.size() == most) known.erase(known.begin());
  known.push_back(layout);
}

std::vector<dnnl::memory::desc> WantedLayouts::of(const Weights& weights) const {
  const std::lock_guard lock(mutex_);
  const auto found = layouts_.find(weights);
  return found == layouts_.end() ? std::vector<dnnl::memory::desc>() : found->second;
}

void WantedLayouts::clear() {
  const std::lock_guard lock(mutex_);
  layouts_.clear();
}

ComparedCopies::Result ComparedCopies::of(const ReorderProblem& copy) const {
  const std::lock_guard lock(mutex_);
  const auto found = results_.find(copy);
  return found == results_.end() ? Result::unknown : found->second;
}

void ComparedCopies::set(const ReorderProblem& copy, Result result) {
  const std::lock_guard lock(mutex_);
  results_.insert_or_assign(copy, result);
}

void ComparedCopies::clear() {
  const std::lock_guard lock(mutex_);
  results_.clear();
}

Context& Context::instance() {
  static Context instance;
  return instance;
}

dnnl::stream& Context::stream() {
  thread_local dnnl::stream instance(engine_);
  return instance;
}

void Context::clear() {
  forward_.clear();
  backward_data_.clear();
  backward_weights_.clear();
  reorders_.clear();
  rounds_results_alone_.clear();
  wanted_layouts_.clear();
  compared_copies_.clear();
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
      break;  // oneDNN has no s16
  }
  return dnnl::memory::data_type::undef;
}

dnnl::memory::desc plain_weights(const Shape& weights, DType dtype, int groups) {
  return {weight_dims(weights, groups), data_type(dtype),
          groups == 1 ? dnnl::memory::format_tag::oihw : dnnl::memory::format_tag::goihw};
}

dnnl::memory view(const dnnl::memory::desc& desc, const Tensor& tensor) {
  return {desc, engine(), address_of(tensor)};
}

Tensor buffer(const dnnl::memory::desc& desc) {
  return Tensor::empty({static_cast<std::int64_t>(desc.get_size())}, DType::u8);
}

void execute(const char* what, const Callable& callable, std::initializer_list<Operand> operands) {
  const Booked booked(Work::convolution);
  const GrantedThreads granted;
  translated(what, [&] {
    const Tensor scratchpad = buffer(callable.scratchpad);
    Arguments arguments = callable.idle->take();
    const auto set = [&](int argument, const Tensor& tensor) {
      const auto known = arguments.find(argument);
      if (known != arguments.end()) {
        known->second.set_data_handle(address_of(tensor));
      } else {
        const auto desc = callable.base_desc.query_md(dnnl::query::exec_arg_md, argument);
        arguments.emplace(argument, view(desc, tensor));
      }
    };
    set(DNNL_ARG_SCRATCHPAD, scratchpad);
    for (const auto& [argument, tensor] : operands)
      if (tensor) set(argument, tensor);
    run(callable.primitive, arguments);
    callable.idle->give_back(std::move(arguments));
  });
}

void check_room_for_code() {
  constexpr std::size_t bytes = 8 << 20;  // a kernel's code has some 100 kB, a primitive a few kernels
  void* room = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) throw std::bad_alloc();
  ::munmap(room, bytes);
}

void reorder(const dnnl::memory& from, const dnnl::memory& to) {
  const ReorderProblem problem{from.get_desc(), to.get_desc(), num_threads()};
  const auto copy = Context::instance().reorders().get(problem, [&] {
    const GrantedThreads granted;
    check_room_for_code();
    return translated("reorder", [&] {
      return Compiled<dnnl::reorder>({engine(), problem.from, engine(), problem.to, attributes()});
    });
  });
  const GrantedThreads granted;
  translated("reorder", [&] {
    const Tensor scratchpad = buffer(copy->scratchpad);
    run(copy->primitive, {{DNNL_ARG_FROM, from},
                          {DNNL_ARG_TO, to},
                          {DNNL_ARG_SCRATCHPAD, view(copy->scratchpad, scratchpad)}});
  });
}

#if DNNL_VERSION_MAJOR >= 3

Blocking blocking_of(const dnnl::memory::desc& layout) {
  return {layout.get_strides(), layout.get_inner_blks(), layout.get_inner_idxs()};
}

dnnl::convolution_forward::primitive_desc forward_desc(const ConvProblem& p) {
  const Descs d(p);
  return without(forward_faults(),
                 ForwardDesc{engine(), training, direct, d.source, d.weights, d.bias, d.destination,
                             d.strides, d.dilation, d.before, d.behind, attributes()},
                 p);
}

dnnl::convolution_backward_data::primitive_desc backward_data_desc(const ConvProblem& p) {
  const Descs d(p);
  return without(backward_data_faults(),
                 BackwardDataDesc{engine(), direct, d.source, d.weights, d.destination, d.strides, d.dilation,
                                  d.before, d.behind, forward_of_backward_data(p), attributes()},
                 p);
}

dnnl::convolution_backward_weights::primitive_desc backward_weights_desc(const ConvProblem& p) {
  const Descs d(p);
  return without(backward_weights_faults(),
                 BackwardWeightsDesc{engine(), direct, d.source, d.gradient, d.destination, d.strides,
                                     d.dilation, d.before, d.behind, forward_desc(p), attributes()},
                 p);
}

#else

Blocking blocking_of(const dnnl::memory::desc& layout) {
  if (layout.data.format_kind != dnnl_blocked) return {};
  const dnnl_blocking_desc_t& blocking = layout.data.format_desc.blocking;
  const auto first = [](const dnnl_dims_t& values, int n) { return dnnl::memory::dims(values, values + n); };
  return {first(blocking.strides, layout.data.ndims), first(blocking.inner_blks, blocking.inner_nblks),
          first(blocking.inner_idxs, blocking.inner_nblks)};
}

dnnl::convolution_forward::primitive_desc forward_desc(const ConvProblem& p) {
  const Descs d(p);
  const dnnl::convolution_forward::desc op(training, direct, d.source, d.weights, d.bias, d.destination,
                                           d.strides, d.dilation, d.before, d.behind);
  return without(forward_faults(), ForwardDesc{op, attributes(), engine()}, p);
}

dnnl::convolution_backward_data::primitive_desc backward_data_desc(const ConvProblem& p) {
  const Descs d(p);
  const dnnl::convolution_backward_data::desc op(direct, d.source, d.weights, d.destination, d.strides,
                                                 d.dilation, d.before, d.behind);
  return without(backward_data_faults(),
                 BackwardDataDesc{op, attributes(), engine(), forward_of_backward_data(p)}, p);
}

dnnl::convolution_backward_weights::primitive_desc backward_weights_desc(const ConvProblem& p) {
  const Descs d(p);
  const dnnl::convolution_backward_weights::desc op(direct, d.source, d.gradient, d.destination, d.strides,
                                                    d.dilation, d.before, d.behind);
  return without(backward_weights_faults(), BackwardWeightsDesc{op, attributes(), engine(), forward_desc(p)},
                 p);
}

#endif

}  // namespace kernels::onednn
}  // namespace faq
