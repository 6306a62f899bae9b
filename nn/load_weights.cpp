#include "nn/load_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <string_view>

#include "core/kernels/elementwise.h"
#include "core/safetensors_header.h"
#include "core/text.h"
#include "nn/looks_like.h"

namespace faq {
namespace {

// Prefixes that DataParallel and torch.compile put before every name, in any order; torch.compile's also
// stand before the names of parts. tools/convert_torch.py has the same rule.
constexpr std::string_view wrappers[] = {"module.", "_orig_mod."};
constexpr std::string_view inner_wrapper = "._orig_mod.";
// The last part of the names of what no network needs: counters of training steps, and what is not a tensor
// elsewhere.
constexpr std::string_view counters[] = {"num_batches_tracked", "n_averaged", "_extra_state"};
// The most bytes that an error spends on a list of tensors, and on the name of one.
constexpr std::size_t longest_list = 400, longest_name = 80;

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

std::string unwrapped(std::string name) {
  const auto wraps = [&](std::string_view wrapper) { return name.starts_with(wrapper); };
  for (auto found = std::ranges::find_if(wrappers, wraps); found != std::end(wrappers);
       found = std::ranges::find_if(wrappers, wraps))
    name.erase(0, found->size());
  for (auto at = name.find(inner_wrapper); at != std::string::npos; at = name.find(inner_wrapper, at))
    name.erase(at, inner_wrapper.size() - 1);
  return name;
}

std::string renamed(std::string name, const ModelInfo& info) {
  for (const Renaming& r : renamings) {
    if (r.family != info.family) continue;
    const std::size_t at = r.spelling.starts_with(".")    ? name.find(r.spelling)
                           : name.starts_with(r.spelling) ? 0
                                                          : std::string::npos;
    if (at != std::string::npos) name.replace(at, r.spelling.size(), r.ours);
  }
  return name;
}

bool is_counter(std::string_view name) {
  const std::string_view last = name.substr(name.rfind('.') + 1);  // npos + 1: 0
  return std::ranges::find(counters, last) != std::end(counters);
}

using Patterns = std::vector<std::string>;

bool matches_one(const Patterns& patterns, std::string_view name) {
  return std::ranges::any_of(patterns, [&](const std::string& one) { return matches(one, name); });
}

/// What stands before the names of networks that are parts of another one ("backbone."): what stands before
/// their first convolutions. Other convolutions may have the same last name ("layer1.0.conv1"), behind the
/// same prefix. Empty: nothing stands there.
std::vector<std::string> prefixes_of(const std::vector<std::string>& names, const ModelInfo& info) {
  const std::string stem = info.stem + ".weight";
  std::vector<std::string> prefixes;
  for (const std::string& name : names) {
    if (!name.ends_with(stem)) continue;
    const std::string prefix = name.substr(0, name.size() - stem.size());
    if (prefix.empty()) return {};
    if (prefix.ends_with('.')) prefixes.push_back(prefix);
  }
  std::ranges::sort(prefixes);  // whatever begins with a prefix comes after it
  std::vector<std::string> shortest;
  for (std::string& prefix : prefixes)
    if (shortest.empty() || !prefix.starts_with(shortest.back())) shortest.push_back(std::move(prefix));
  return shortest;
}

/// "fc.1." of a classifier `fc` that is the only layer with weights in a list ("fc.1.weight", "fc.1.bias"),
/// as behind a dropout; empty: the classifier has its own name, or is more than one layer.
std::string spelling_in_list(const std::vector<std::string>& names, const std::string& classifier) {
  std::string found;
  for (const std::string& name : names) {
    if (!name.starts_with(classifier + ".")) continue;
    const std::size_t number = classifier.size() + 1;
    const std::size_t end = name.find_first_not_of("0123456789", number);
    if (end == number || end == std::string::npos || name[end] != '.') return "";
    const std::string spelling = name.substr(0, end + 1);
    if (!found.empty() && spelling != found) return "";
    found = spelling;
  }
  return found;
}

/// The tensors of a file under the names of our network.
struct Renamed {
  struct Entry {
    std::string ours;
    const std::string* theirs;
    const Tensor* tensor;    ///< null: none of our dtypes holds it
    const std::string* why;  ///< of what is null
  };
  std::vector<Entry> entries;       ///< in the order of the file, without counters
  std::string prefix;               ///< that was stripped
  std::size_t stripped = 0;         ///< from so many names
  std::vector<std::string> rivals;  ///< prefixes of several networks, of which none was stripped
};

/// The names that match `ignored` say nothing of where the network is.
Renamed with_our_names(const NamedTensors& file, const ModelInfo& info, const Patterns& ignored) {
  Renamed result;
  std::vector<std::string> names, telling;
  const auto take = [&](const std::string& name, const Tensor* tensor, const std::string* why) {
    if (is_counter(name)) return;
    names.push_back(unwrapped(name));
    result.entries.push_back({{}, &name, tensor, why});
    if (!matches_one(ignored, names.back())) telling.push_back(names.back());
  };
  for (const auto& [name, tensor] : file.tensors) take(name, &tensor, nullptr);
  for (const UnusableTensor& one : file.unusable) take(one.name, nullptr, &one.why);
  std::vector<std::string> prefixes = prefixes_of(telling, info);
  if (prefixes.size() == 1) result.prefix = std::move(prefixes.front());
  if (prefixes.size() > 1) result.rivals = std::move(prefixes);
  for (std::string& name : names) {
    if (!result.prefix.empty() && name.starts_with(result.prefix)) {
      name.erase(0, result.prefix.size());
      ++result.stripped;
    }
    name = renamed(std::move(name), info);
  }
  for (const std::string& classifier : info.classifiers) {
    const std::string spelling = spelling_in_list(names, classifier);
    for (std::string& name : names)
      if (!spelling.empty() && name.starts_with(spelling)) name.replace(0, spelling.size(), classifier + ".");
  }
  for (std::size_t i = 0; i < names.size(); ++i) result.entries[i].ours = std::move(names[i]);
  return result;
}

/// A name from a file, fit for a message of one line.
std::string shown(const std::string& name) {
  const bool is_plain = std::ranges::all_of(name, [](char c) { return c >= ' ' && c != 127; });
  return is_plain ? shortened(name, longest_name) : safetensors::quoted(name);
}

bool is_classifier(const std::string& name, const ModelInfo& info) {
  return std::ranges::any_of(info.classifiers,
                             [&](const std::string& layer) { return name.starts_with(layer + "."); });
}

const Tensor* find_canonical(const NamedTensors& file, const std::string& wanted, const ModelInfo& info,
                             const Patterns& ignored) {
  for (const Renamed::Entry& entry : with_our_names(file, info, ignored).entries)
    if (entry.ours == wanted) return entry.tensor;
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

std::string said_of(const std::map<std::string, const Tensor*>& tensors, const ModelInfo& info) {
  const std::string found = looks_like(tensors);
  return found.empty() || found == info.name ? "" : concat("; this looks like ", found);
}

/// What to do about a file of several networks, for the end of a message; empty: it is none.
std::string networks_said(const Renamed& file, const ModelInfo& info) {
  const auto has = [&](const std::string& name) {
    return std::ranges::find(file.entries, name, &Renamed::Entry::ours) != file.entries.end();
  };
  const auto is_network = [&](const std::string& prefix) {
    return has(prefix + info.stem + ".weight") && has(prefix + info.classifiers.front() + ".weight");
  };
  std::vector<std::string> networks;
  for (const std::string& prefix : file.rivals)
    if (is_network(prefix)) networks.push_back(shown(prefix));
  if (networks.size() < 2) return "";
  return concat("; the file has ", networks.size(), " networks, behind ", join(networks, " and "),
                ": leave the others out with `ignore_extra` ", networks.back(), "*");
}

/// What is wrong with the numbers of a tensor; empty: nothing. `values`: f32.
std::string fault_of(const std::string& name, const Tensor& values, bool allow_non_finite) {
  const auto numbers = values.span<float>();
  if (!allow_non_finite && !kernels::all_finite(values)) {
    const auto bad = std::ranges::find_if_not(numbers, [](float x) { return std::isfinite(x); });
    return concat("non-finite values in ", name, ": element ", bad - numbers.begin(), " is ", *bad);
  }
  if (name.ends_with("running_var")) {
    const auto bad = std::ranges::find_if(numbers, [](float x) { return x < 0; });
    if (bad != numbers.end())
      return concat("negative variance in ", name, ": channel ", bad - numbers.begin(), " is ", *bad);
  }
  return "";
}

}  // namespace

std::vector<std::string> load_weights(Model& model, const NamedTensors& file,
                                      const LoadWeightsOptions& options) {
  const ModelInfo& info = model.info();
  std::map<std::string, const Tensor*> available;
  std::map<std::string, const std::string*> unusable;  // and why
  std::vector<std::string> problems, notes;
  const Renamed renamed = with_our_names(file, info, options.ignore_extra);
  for (const auto& [ours, theirs, tensor, why] : renamed.entries)
    if (tensor ? unusable.contains(ours) || !available.emplace(ours, tensor).second
               : available.contains(ours) || !unusable.emplace(ours, why).second)
      problems.push_back(concat("duplicate ", shown(*theirs)));
  if (!renamed.prefix.empty())
    notes.push_back(concat(options.source, ": stripped the prefix ", safetensors::quoted(renamed.prefix),
                           " of ", renamed.stripped, " of ", renamed.entries.size(), " names"));
  const std::map<std::string, const Tensor*> all = available;

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
  // A file without a classifier is a body. The head is the classifier, or all that comes after the features
  // (VGG) if the file has nothing of it.
  const auto has_part = [&](const std::string& part) {
    return std::ranges::any_of(renamed.entries, [&](const Renamed::Entry& entry) {
      return entry.ours.starts_with(part) && !matches_one(options.ignore_extra, entry.ours);
    });
  };
  const std::string& classifier = info.classifiers.front();
  const std::string head = classifier.substr(0, classifier.find('.')) + ".";
  std::vector<std::string> begun_anew;
  const auto begins_anew = [&](const std::string& name) {
    if (!options.reinitialize_classifier || all.empty()) return false;
    if (name.starts_with(head) && !has_part(head)) return true;
    return std::ranges::any_of(info.classifiers, [&](const std::string& layer) {
      return name.starts_with(layer + ".") && !has_part(layer + ".");
    });
  };
  const auto match = [&](const std::string& name, Tensor target) {
    const auto found = available.find(name);
    if (found == available.end()) {
      if (const auto one = unusable.find(name); one != unusable.end()) {
        problems.push_back(concat("unusable ", name, ": ", *one->second));
        unusable.erase(one);
      } else if (is_optional(name) && !has_optional) {
        ++missing_optional;
      } else if (begins_anew(name)) {
        begun_anew.push_back(name);
      } else {
        problems.push_back(concat("missing ", name, " ", target.shape()));
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
        problems.push_back(concat("misshapen ", difference));
      }
      return;
    }
    if (tensor.dtype() != DType::f32 && tensor.dtype() != DType::bf16) {
      problems.push_back(concat(name, " has dtype ", tensor.dtype(), ", expected f32 or bf16"));
      return;
    }
    if (std::string fault = fault_of(name, kernels::convert(tensor, DType::f32), options.allow_non_finite);
        !fault.empty()) {
      problems.push_back(std::move(fault));
      return;
    }
    copies.push_back({&tensor, target});
  };
  for (auto& [name, parameter] : parameters(model)) match(name, parameter.value());
  for (auto& [name, buffer] : buffers(model)) match(name, buffer);
  if (missing_optional > 0)
    notes.push_back(concat(options.source, " has no ", info.optional_part, "*: ", missing_optional,
                           " tensors keep their initial values"));
  if (!begun_anew.empty())
    notes.push_back(
        concat("classifier re-initialised: ", join(begun_anew), " do not come from ", options.source));
  std::vector<std::string> ignored;
  const auto leave_out = [&](const std::string& name, const auto&... what) {
    if (matches_one(options.ignore_extra, name))
      ignored.push_back(shown(name));
    else
      problems.push_back(concat("extra ", shown(name), what...));
  };
  for (const auto& [name, tensor] : available) leave_out(name, " ", tensor->shape());
  for (const auto& [name, why] : unusable) leave_out(name, " (", *why, ")");
  if (!ignored.empty())
    notes.push_back(concat(options.source, ": ignored ", ignored.size(),
                           ignored.size() == 1 ? " extra tensor: " : " extra tensors: ",
                           join_first(ignored, ", ", longest_list)));
  if (!problems.empty()) {
    fail(ErrorKind::bad_data, "loading weights from ", options.source, ": ", problems.size(),
         problems.size() == 1 ? " mismatch: " : " mismatches: ", join_first(problems, "; ", longest_list),
         networks_said(renamed, info), said_of(all, info));
  }
  for (Copy& c : copies) copy(*c.from, c.to);
  return notes;
}

NamedTensors with_canonical_names(const NamedTensors& file, const ModelInfo& info) {
  NamedTensors result;
  result.metadata = file.metadata;
  std::set<std::string> names;
  for (const auto& [ours, theirs, tensor, why] : with_our_names(file, info, {}).entries) {
    check(names.insert(ours).second, ErrorKind::bad_data, "duplicate ", shown(*theirs));
    if (tensor)
      result.add(ours, *tensor);
    else
      result.unusable.push_back({ours, *why});
  }
  return result;
}

NamedTensors with_classes_reordered(const NamedTensors& file, const ModelInfo& info,
                                    const std::vector<int>& order) {
  NamedTensors result = with_canonical_names(file, info);
  for (auto& [name, tensor] : result.tensors) {
    if (!is_classifier(name, info)) continue;
    check(tensor.rank() >= 1 && tensor.dim(0) == std::ssize(order), ErrorKind::bad_data, "tensor ",
          shown(name), ": expected ", order.size(), " rows, found ", tensor.shape());
    const Tensor from = tensor;
    tensor = from.clone();
    const std::size_t row = from.bytes() / order.size();
    auto* to = static_cast<std::byte*>(tensor.mutable_raw());
    for (std::size_t i = 0; i < order.size(); ++i)
      std::memcpy(to + i * row,
                  static_cast<const std::byte*>(from.raw()) + static_cast<std::size_t>(order[i]) * row, row);
  }
  return result;
}

NamedTensors without_classifier(const NamedTensors& file, const ModelInfo& info) {
  NamedTensors result = with_canonical_names(file, info);
  std::erase_if(result.tensors, [&](const auto& entry) { return is_classifier(entry.first, info); });
  return result;
}

void export_weights(Model& model, NamedTensors& to) {
  for (auto& [name, parameter] : parameters(model)) to.add(name, parameter.value());
  for (auto& [name, buffer] : buffers(model)) to.add(name, buffer);
}

std::string other_network(const NamedTensors& file, const ModelInfo& info) {
  std::map<std::string, const Tensor*> tensors;
  const Renamed renamed = with_our_names(file, info, {});
  std::string unusable;
  for (const auto& [ours, theirs, tensor, why] : renamed.entries) {
    if (tensor)
      tensors.emplace(ours, tensor);
    else if (ours == info.stem + ".weight" || ours == info.classifiers.front() + ".weight")
      unusable += concat("; unusable ", ours, ": ", *why);
  }
  return unusable + networks_said(renamed, info) + said_of(tensors, info);
}

int classes_in(const NamedTensors& file, const ModelInfo& info, const Patterns& ignored) {
  const Tensor* classifier = find_canonical(file, info.classifiers.front() + ".weight", info, ignored);
  return classifier && classifier->rank() >= 2 ? static_cast<int>(classifier->dim(0)) : 0;
}

int channels_in(const NamedTensors& file, const ModelInfo& info, const Patterns& ignored) {
  const Tensor* stem = find_canonical(file, info.stem + ".weight", info, ignored);
  return stem && stem->rank() == 4 ? static_cast<int>(stem->dim(1)) : 0;
}

}  // namespace faq
