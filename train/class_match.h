// Which class of the data is which row of a network that was trained before.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/safetensors.h"
#include "nn/models.h"

namespace faq {

/// The names of the classes that a checkpoint records, in the order of its classifier's rows; empty for none.
std::vector<std::string> class_names_in(const std::map<std::string, std::string>& checkpoint);

struct ClassMatch {
  enum Kind {
    same,      ///< or nothing is known of the names of one side
    permuted,  ///< the same names in another order
    others     ///< other names, or another number of them
  };
  Kind kind = same;
  std::vector<int> order = {};  ///< of permuted: class i of the data is row order[i] of the weights
};
/// Compares the names of classes. "0", "1", "2", … in this order are numbers that stand for names that nobody
/// gave: any names may be theirs.
ClassMatch match_classes(const std::vector<std::string>& of_weights, const std::vector<std::string>& of_data);

/// True if each of these classes is one of all classes.
bool are_among(const std::vector<std::string>& classes, const std::vector<std::string>& all);

/// Returns the weights of a checkpoint with its classifier's rows in the order of the data's classes, or, if
/// the data have other classes, without classifier; adds a note for the user. `classes`: of the data; empty:
/// not known.
NamedTensors for_classes(NamedTensors weights, const ModelInfo& info, const std::vector<std::string>& classes,
                         const std::string& source, std::vector<std::string>& notes);

}  // namespace faq
