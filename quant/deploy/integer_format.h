// The contents of integer.safetensors: JSON in its metadata, and tensors. For quant/deploy/*.cpp only.
//
// Format 5 has these entries in its metadata:
//   format          "faq-integer-network"
//   format_version  "5"
//   preprocessing   {height, width, channels, resize, interpolation, mean, std, classes}
//   network         {ops: [{kind, name, inputs, …}, …]}
// The writer may add other entries that describe the network (IntegerNetwork::about()).
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "core/safetensors.h"
#include "quant/deploy/integer_op.h"
#include "quant/deploy/preprocessing.h"

namespace faq {

constexpr int integer_format_version = 5;

/// Adds the op's tensors to `tensors`, named after the op. Returns the rest of the op as JSON.
nlohmann::json describe(const IntegerOp& op, NamedTensors& tensors);
/// Makes the op that a description stands for, and adds the names of its tensors to `used`. Throws bad_data
/// for anything missing, out of range or contradictory.
std::shared_ptr<const IntegerOp> parse_op(const nlohmann::json& description, const NamedTensors& tensors,
                                          std::set<std::string>& used);

nlohmann::json describe(const Preprocessing& preprocessing);
/// Parses a preprocessing. Throws bad_data for anything missing, unknown or out of range.
Preprocessing parse_preprocessing(const nlohmann::json& description);

/// A file as read.
struct IntegerDocument {
  nlohmann::json network;
  nlohmann::json preprocessing;
  NamedTensors contents;  ///< the tensors, and the other entries of the metadata
};
/// Upgrades a document from format `version` to the present format. Throws bad_data, or what nlohmann::json
/// throws, for a document that does not have the contents of its version.
void upgrade(IntegerDocument& document, int version);

}  // namespace faq
