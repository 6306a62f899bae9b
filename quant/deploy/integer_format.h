// The contents of integer.safetensors: JSON in its metadata, and tensors. For quant/deploy/*.cpp.
//
// Format 4 has these entries in its metadata:
//   format          "faq-integer-network"
//   format_version  "4"
//   preprocessing   {height, width, channels, resize, mean, std, classes}
//   network         {ops: [{kind, name, inputs, …}, …]}
// and whatever else the writer wants to be known of the network (IntegerNetwork::about()).
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "core/safetensors.h"
#include "quant/deploy/integer_op.h"
#include "quant/deploy/preprocessing.h"

namespace faq {

constexpr int integer_format_version = 4;

/// Adds the op's tensors, named after the op, and returns the rest.
nlohmann::json describe(const IntegerOp& op, NamedTensors& tensors);
/// The op of a description. Throws bad_data for anything missing, out of range or contradictory, and adds the
/// names of the op's tensors to `used`.
std::shared_ptr<const IntegerOp> parse_op(const nlohmann::json& description, const NamedTensors& tensors,
                                          std::set<std::string>& used);

nlohmann::json describe(const Preprocessing& preprocessing);
/// Throws bad_data for anything missing, unknown or out of range.
Preprocessing parse_preprocessing(const nlohmann::json& description);

/// A file as it was read.
struct IntegerDocument {
  nlohmann::json network;
  nlohmann::json preprocessing;
  NamedTensors contents;  ///< the tensors, and what else the metadata holds
};
/// Brings a document of an older format to the present one. Throws bad_data, or what nlohmann::json throws,
/// for one that is not what its version says.
void upgrade(IntegerDocument& document, int version);

/// A number of a file, or bad_data with what was expected.
std::int64_t parse_integer(const nlohmann::json& value, const std::string& what, std::int64_t low,
                           std::int64_t high);

}  // namespace faq
