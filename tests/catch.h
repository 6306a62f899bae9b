// Catch2 2 and 3 behind one include.
#pragma once

#ifdef FAQ_CATCH2_3
#include <catch2/catch_all.hpp>
#include <string>
using Catch::Approx;
namespace Catch {
using Matchers::StartsWith;
inline auto Contains(const std::string& part) { return Matchers::ContainsSubstring(part); }
}  // namespace Catch
#else
#include <catch2/catch.hpp>
#endif
