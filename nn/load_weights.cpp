#include "nn/load_weights.h"

#include <algorithm>
#include <map>
#include <string_view>

#include "core/kernels/elementwise.h"
#include "core/text.h"

namespace faq {
namespace {

// Prefixes that DataParallel and torch.compile put before every name, in any order.
constexpr std::string_view wrappers[] = {"module.", "_orig_mod."};

// How other spellings of names map to ours, by family. A spelling that begins with a dot is replaced anywhere
// in a name, others only at its beginning.
struct Renaming {
  const char* family;
  std::string_view spelling;
  std::string_view ours;
};
constexpr Renaming renamings[] = {{"cifar-resnet", "linear.", "fc."},
                                  // torchvision before 0.4
                                  {"densenet", ".norm.1.", ".norm1."},
                                  {"densenet", ".norm.2.", ".norm2."},
                                  {"densenet", ".conv.1.", ".conv1."},
                                  {"densenet", ".conv.2.", ".conv2."},
                                  // timm
                                  {"vgg", "pre_logits.fc1.", "classifier.0."},
                                  {"vgg", "pre_logits.fc2.", "classifier.3."},
                                  {"vgg", "head.fc.", "classifier.6."}};

std::string canonical(std::string name, const ModelInfo& info) {
  const auto wraps = [&](std::string_view wrapper) { return name.starts_with(wrapper); };
  for (auto found = std::ranges::find_if(wrappers, wraps); found != std::end(wrappers);
       found = std::ranges::find_if(wrappers, wraps))
    name.erase(0, found->size());
  for (const Renaming& r : renamings) {
    if (r.family != info.family) continue;
    const std::size_t at = r.spelling.starts_with(".")    ? name.find(r.spelling)
                           : name.starts_with(r.spelling) ? 0
                                                          : std::string::npos;
    if (at != std::string::npos) name.replace(at, r.spelling.size(), r.ours);
  }
  return name;
}

bool is_ignored(const std::string& name) { return name.ends_with("num_batches_tracked"); }

bool is_classifier(const std::string& name, const ModelInfo& info) {
  return std::ranges::any_of(info.classifiers,
                             [&](const std::string& layer) { return name.starts_with(layer + "."); });
}

const Tensor* find_canonical(const NamedTensors& file, const std::string& wanted, const ModelInfo& info) {
  for (const auto& [name, tensor] : file.tensors) {
    if (canonical(name, info) == wanted) return &tensor;
  }
  return nullptr;
}

// Accepts equal shapes, and a matrix for the filter of a fully connected layer that runs as a convolution
// (and the reverse).
bool same_layout(const Shape& a, const Shape& b) {
  return a == b || (std::min(a.rank(), b.rank()) == 2 && std::max(a.rank(), b.rank()) == 4 && a[0] == b[0] &&
                    a.numel() == b.numel());
}

void copy(const Tensor& from, Tensor& to) {
  const Tensor values = kernels::convert(from, DType::f32);
  std::ranges::copy(values.span<float>(), to.mutable_data<float>());
}

}  // namespace

std::vector<std::string> load_weights(Model& model, const NamedTensors& file,
                                      const LoadWeightsOptions& options) {
  const ModelInfo& info = model.info();
  std::map<std::string, const Tensor*> available;
  std::vector<std::string> problems, notes;
  for (const auto& [name, tensor] : file.tensors) {
    if (is_ignored(name)) continue;
    if (!available.emplace(canonical(name, info), &tensor).second) problems.push_back("duplicate " + name);
  }

  struct Copy {
    const Tensor* from;
    Tensor to;
  };
  std::vector<Copy> copies;
  const auto is_optional = [&](const std::string& name) {
    return !info.optional_part.empty() && name.starts_with(info.optional_part);
  };
  // The optional part must be there as a whole or not at all: half of a head means a damaged file.
  const bool has_optional =
      std::ranges::any_of(available, [&](const auto& entry) { return is_optional(entry.first); });
  int missing_optional = 0;
  const auto match = [&](const std::string& name, Tensor target) {
    const auto found = available.find(name);
    if (found == available.end()) {
      if (is_optional(name) && !has_optional) {
        ++missing_optional;
      } else {
        problems.push_back("missing " + name + concat(" ", target.shape()));
      }
      return;
    }
    const Tensor& tensor = *found->second;
    available.erase(found);
    if (!same_layout(tensor.shape(), target.shape())) {
      const std::string difference = concat(name, " expected ", target.shape(), " found ", tensor.shape());
      if (options.reinitialize_classifier && is_classifier(name, info)) {
        notes.push_back(concat("classifier re-initialised: ", difference));
      } else {
        problems.push_back("misshapen " + difference);
      }
      return;
    }
    if (tensor.dtype() != DType::f32 && tensor.dtype() != DType::bf16) {
      problems.push_back(concat(name, " has dtype ", tensor.dtype(), ", expected f32 or bf16"));
      return;
    }
    if (!options.allow_non_finite && !kernels::all_finite(kernels::convert(tensor, DType::f32))) {
      problems.push_back("non-finite values in " + name);
      return;
    }
    copies.push_back({&tensor, target});
  };
  for (auto& [name, parameter] : parameters(model)) match(name, parameter.value());
  for (auto& [name, buffer] : buffers(model)) match(name, buffer);
  if (missing_optional > 0)
    notes.push_back(concat(options.source, " has no ", info.optional_part, "*: ", missing_optional,
                           " tensors keep their initial values"));
  for (const auto& [name, tensor] : available)
    problems.push_back(concat("extra ", name, " ", tensor->shape()));
  check(problems.empty(), ErrorKind::bad_data, "loading weights from ", options.source, ": ", problems.size(),
        problems.size() == 1 ? " mismatch: " : " mismatches: ", join(problems, "; "));
  for (Copy& c : copies) copy(*c.from, c.to);
  return notes;
}

NamedTensors with_canonical_names(const NamedTensors& file, const ModelInfo& info) {
  NamedTensors result;
  result.metadata = file.metadata;
  for (const auto& [name, tensor] : file.tensors) {
    const std::string ours = canonical(name, info);
    check(!result.find(ours), ErrorKind::bad_data, "duplicate ", name);
    result.add(ours, tensor);
  }
  return result;
}

void export_weights(Model& model, NamedTensors& to) {
  for (auto& [name, parameter] : parameters(model)) to.add(name, parameter.value());
  for (auto& [name, buffer] : buffers(model)) to.add(name, buffer);
}

int classes_in(const NamedTensors& file, const ModelInfo& info) {
  const Tensor* classifier = find_canonical(file, info.classifiers.front() + ".weight", info);
  return classifier && classifier->rank() >= 2 ? static_cast<int>(classifier->dim(0)) : 0;
}

int channels_in(const NamedTensors& file, const ModelInfo& info) {
  const Tensor* stem = find_canonical(file, info.stem + ".weight", info);
  return stem && stem->rank() == 4 ? static_cast<int>(stem->dim(1)) : 0;
}

}  // namespace faq
