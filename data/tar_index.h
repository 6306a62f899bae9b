// What is found in the tar shards of a split. Included by data/tar_*.cpp only.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace faq {

/// Larger members are refused, because memory is reserved before a member is read. No photograph is so large.
inline constexpr std::int64_t max_member_bytes = std::int64_t{256} << 20;

struct TarMember {
  std::int32_t label;
  std::int64_t position;  ///< of the member's header
  std::int64_t size;
  std::string name;
};

/// What is found in the shards of a split.
struct TarIndex {
  std::vector<std::string> shards;       ///< the tar files, relative to the data set
  std::vector<std::int64_t> shard_ends;  ///< number of the members up to the last one of each shard
  std::vector<std::string> classes;      ///< in order
  std::vector<TarMember> members;
  std::vector<std::string> notes;  ///< for people

  std::int64_t size() const { return static_cast<std::int64_t>(members.size()); }
};

/// Reads the headers of all shards. Throws bad_data, with the shard and the member, for what is no data set.
TarIndex index_of(const DatasetOptions& options, const std::vector<std::filesystem::path>& files);

/// For other processes (DatasetOptions::once).
std::string to_text(const TarIndex& index);
/// Throws bad_data for a text that to_text() does not make. `path`: the data set.
TarIndex index_in(const std::string& text, const std::string& path);

}  // namespace faq
