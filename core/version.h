// Which faq this is: for --version and for what a run writes.
#pragma once

namespace faq {

/// The version of the project: "0.1.0".
const char* version();

/// The revision in git that the library was built from: "05c66cd4a1b2", with "-dirty" when a file differed
/// from it. "unknown" when neither git nor an archive that git has made tells.
const char* revision();

}  // namespace faq
