// Code shared by the oneDNN kernels: one context, and the differences between oneDNN 2 and 3. Included by
// core/kernels/*.cpp only.
#pragma once

#include <dnnl.hpp>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/bounded_cache.h"
#include "core/hash.h"
#include "core/kernels/conv_problem.h"
#include "core/tensor.h"

namespace faq::kernels::onednn {

/// The description of a copy of weights into another layout.
struct ReorderProblem {
  dnnl::memory::desc from, to;
  int threads;  ///< as in ConvProblem

  std::size_t hash() const { return hash_of(from.get_size(), to.get_size(), threads); }
  bool operator==(const ReorderProblem&) const = default;
};

using Arguments = std::unordered_map<int, dnnl::memory>;

/// Arguments of calls that have ended, for the next ones: making them takes as long as a small convolution.
/// They own no memory of tensors. Thread-safe.
class IdleArguments {
 public:
  Arguments take();
  void give_back(Arguments arguments);

 private:
  static constexpr std::size_t most = 8;  ///< some 4 KB each, for each of hundreds of primitives

  std::mutex mutex_;
  std::vector<Arguments> idle_;
};

/// A primitive, and what its calls need.
struct Callable {
  Callable(dnnl::primitive of, dnnl::primitive_desc_base its_desc)
      : primitive(std::move(of)),
        base_desc(std::move(its_desc)),
        scratchpad(base_desc.query_md(dnnl::query::scratchpad_md)) {}

  dnnl::primitive primitive;
  dnnl::primitive_desc_base base_desc;
  dnnl::memory::desc scratchpad;
  std::unique_ptr<IdleArguments> idle = std::make_unique<IdleArguments>();
};
template <class Primitive>
struct Compiled : Callable {
  explicit Compiled(typename Primitive::primitive_desc of)
      : Callable(Primitive(of), of), desc(std::move(of)) {}

  typename Primitive::primitive_desc desc;
};
template <class Primitive>
using PrimitiveCache = BoundedCache<ConvProblem, Compiled<Primitive>>;

/// The last layouts that kernels have wanted weights in. Thread-safe.
class WantedLayouts {
 public:
  struct Weights {
    Shape shape;
    DType dtype;
    DType images;  ///< of what they are convolved with
    int groups;

    std::size_t hash() const { return hash_of(shape.hash(), dtype, images, groups); }
    bool operator==(const Weights&) const = default;
  };

  void add(const Weights& weights, const dnnl::memory::desc& layout);
  std::vector<dnnl::memory::desc> of(const Weights& weights) const;
  void clear();

 private:
  static constexpr std::size_t most = 2;  ///< of such weights: layers that look alike may want several

  mutable std::mutex mutex_;
  std::unordered_map<Weights, std::vector<dnnl::memory::desc>, MemberHash> layouts_;
};

/// For which copies ours of core/kernels/interleaved_layout.h have been compared with oneDNN's. Thread-safe.
class ComparedCopies {
 public:
  enum class Result { unknown, equal, different };

  Result of(const ReorderProblem& copy) const;
  void set(const ReorderProblem& copy, Result result);
  void clear();

 private:
  mutable std::mutex mutex_;
  std::unordered_map<ReorderProblem, Result, MemberHash> results_;
};

/// The engine and the caches for it. There is one Context, shared by all threads.
class Context {
 public:
  static Context& instance();

  const dnnl::engine& engine() const { return engine_; }
  /// The stream of the calling thread.
  dnnl::stream& stream();

  PrimitiveCache<dnnl::convolution_forward>& forward() { return forward_; }
  PrimitiveCache<dnnl::convolution_backward_data>& backward_data() { return backward_data_; }
  PrimitiveCache<dnnl::convolution_backward_weights>& backward_weights() { return backward_weights_; }
  BoundedCache<ReorderProblem, Compiled<dnnl::reorder>>& reorders() { return reorders_; }
  /// Results of tests of integer kernels (rounding.h).
  BoundedCache<ConvProblem, bool>& rounds_results_alone() { return rounds_results_alone_; }
  WantedLayouts& wanted_layouts() { return wanted_layouts_; }
  ComparedCopies& compared_copies() { return compared_copies_; }

  /// Clears all caches.
  void clear();

 private:
  // DenseNet-201 has about 200 convolutions, most of them different, in slices of one or two lengths.
  static constexpr std::size_t capacity = 512;
  // Forward, backward, and the gradient; in shares of the threads or on all.
  static constexpr std::size_t reorder_capacity = 4 * capacity;

  Context() = default;

  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  PrimitiveCache<dnnl::convolution_forward> forward_{capacity};
  PrimitiveCache<dnnl::convolution_backward_data> backward_data_{capacity};
  PrimitiveCache<dnnl::convolution_backward_weights> backward_weights_{capacity};
  BoundedCache<ReorderProblem, Compiled<dnnl::reorder>> reorders_{reorder_capacity};
  BoundedCache<ConvProblem, bool> rounds_results_alone_{capacity};
  WantedLayouts wanted_layouts_;
  ComparedCopies compared_copies_;
};

/// Returns what the body returns, with errors of oneDNN as our own: std::bad_alloc, or internal with `what`.
template <class Body>
auto translated(const std::string& what, const Body& body) {
  try {
    return body();
  } catch (const dnnl::error& error) {
    if (error.status == dnnl_out_of_memory) throw std::bad_alloc();
    fail(ErrorKind::internal, what, ": oneDNN: ", error.what());
  }
}

/// To be called before a primitive is made. Throws std::bad_alloc if there is no room for its code: oneDNN
/// writes it without asking whether the memory was there.
void check_room_for_code();

dnnl::memory::data_type data_type(DType dtype);
/// The descriptor of weights in the plain order O,I,H,W, with this number of groups.
dnnl::memory::desc plain_weights(const Shape& weights, DType dtype, int groups);

/// How a blocked layout is made, as oneDNN describes it: the steps of the outermost blocks in elements, and
/// the sizes of the innermost blocks with the dimension that each is of.
struct Blocking {
  dnnl::memory::dims steps, sizes, dimensions;
};
Blocking blocking_of(const dnnl::memory::desc& layout);

/// A view of a tensor's storage with a descriptor. oneDNN takes mutable pointers for inputs too, but only
/// reads them.
dnnl::memory view(const dnnl::memory::desc& desc, const Tensor& tensor);
/// Allocates memory for `desc` from the caching allocator. The returned tensor owns it.
Tensor buffer(const dnnl::memory::desc& desc);

/// What one of a primitive's arguments (DNNL_ARG_…) is in a call.
struct Operand {
  int argument;
  const Tensor& tensor;
};
/// Runs the primitive and waits for it. Operands that are undefined are left out. The scratchpad comes from
/// the caching allocator. Throws internal, with `what`, when it fails.
void execute(const char* what, const Callable& callable, std::initializer_list<Operand> operands);
void reorder(const dnnl::memory& from, const dnnl::memory& to);

dnnl::convolution_forward::primitive_desc forward_desc(const ConvProblem& problem);
/// problem.weight, problem.destination: dtypes of the weights and of the output's gradient; problem.source:
/// dtype of the input's gradient.
dnnl::convolution_backward_data::primitive_desc backward_data_desc(const ConvProblem& problem);
/// problem.source, problem.destination: dtypes of the input and of the output's gradient. The gradient of the
/// weights is f32.
dnnl::convolution_backward_weights::primitive_desc backward_weights_desc(const ConvProblem& problem);

}  // namespace faq::kernels::onednn
