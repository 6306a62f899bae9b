// What people who know other tools call our options.
#pragma once

#include <string>
#include <vector>

namespace faq {

/// Returns the one of `names` that is probably meant by an unknown name: what another tool's option of that
/// name is called here, else a name that is spelled alike. Empty if nothing is.
std::string suggested_option(const std::string& unknown, const std::vector<std::string>& names);

}  // namespace faq
