// What a file that is not the expected one looks like, by its first bytes.
#pragma once

#include <string>
#include <string_view>

namespace faq {

/// Bytes that file_kind() wants to see, if the file has as many.
inline constexpr std::size_t file_kind_bytes = 512;

/// Returns "a git LFS pointer: run `git lfs pull`" or the like: what it is, and what to do about it. Empty
/// for what is not known.
std::string file_kind(std::string_view start);

}  // namespace faq
