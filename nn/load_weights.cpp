#include "nn/load_weights.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "core/kernels/elementwise.h"
#include "core/text.h"

namespace faq {
namespace {

// How names in the wild map to ours.
struct Renaming {
  const char* prefix;
  const char* replacement;
};
constexpr Renaming renamings[] = {{"module.", ""}, {"linear.", "fc."}};

std::string canonical(std::string name) {
  for (const Renaming& r : renamings) {
    if (name.starts_with(r.prefix)) name = r.replacement + name.substr(std::strlen(r.prefix));
  }
  return name;
}

bool is_ignored(const std::string& name) { return name.ends_with("num_batches_tracked"); }

bool is_classifier(const std::string& name) { return name.starts_with("fc."); }

const Tensor* find_canonical(const NamedTensors& file, const std::string& wanted) {
  for (const auto& [name, tensor] : file.tensors) {
    if (canonical(name) == wanted) return &tensor;
  }
  return nullptr;
}

void copy(const Tensor& from, Tensor& to) {
  const Tensor values = kernels::convert(from, DType::f32);
  std::ranges::copy(values.span<float>(), to.mutable_data<float>());
}

}  // namespace

std::vector<std::string> load_weights(Model& model, const NamedTensors& file,
                                      const LoadWeightsOptions& options) {
  std::map<std::string, const Tensor*> available;
  std::vector<std::string> problems, notes;
  for (const auto& [name, tensor] : file.tensors) {
    if (is_ignored(name)) continue;
    if (!available.emplace(canonical(name), &tensor).second) problems.push_back("duplicate " + name);
  }

  struct Copy {
    const Tensor* from;
    Tensor to;
  };
  std::vector<Copy> copies;
  const auto match = [&](const std::string& name, Tensor target) {
    const auto found = available.find(name);
    if (found == available.end()) {
      problems.push_back("missing " + name + concat(" ", target.shape()));
      return;
    }
    const Tensor& tensor = *found->second;
    available.erase(found);
    if (tensor.shape() != target.shape()) {
      const std::string difference = concat(name, " expected ", target.shape(), " found ", tensor.shape());
      if (options.reinitialize_classifier && is_classifier(name)) {
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
  for (const auto& [name, tensor] : available)
    problems.push_back(concat("extra ", name, " ", tensor->shape()));
  check(problems.empty(), ErrorKind::bad_data, "loading weights from ", options.source, ": ", problems.size(),
        " mismatches: ", join(problems, "; "));
  for (Copy& c : copies) copy(*c.from, c.to);
  return notes;
}

void export_weights(Model& model, NamedTensors& to) {
  for (auto& [name, parameter] : parameters(model)) to.add(name, parameter.value());
  for (auto& [name, buffer] : buffers(model)) to.add(name, buffer);
}

int classes_in(const NamedTensors& file) {
  const Tensor* classifier = find_canonical(file, "fc.weight");
  return classifier && classifier->rank() == 2 ? static_cast<int>(classifier->dim(0)) : 0;
}

int channels_in(const NamedTensors& file) {
  const Tensor* stem = find_canonical(file, "conv1.weight");
  return stem && stem->rank() == 4 ? static_cast<int>(stem->dim(1)) : 0;
}

}  // namespace faq
