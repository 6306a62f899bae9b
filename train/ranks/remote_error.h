// Errors of a run with several ranks.
#pragma once

#include "core/error.h"

namespace faq {

/// An error of another rank, or a lost rank, which ends the run on this one, too. The message names the rank.
class RemoteError : public Error {
 public:
  using Error::Error;
};

/// An error that all ranks throw at the same place, because they have seen the same numbers. Nobody has to
/// tell the others.
class AgreedError : public Error {
 public:
  using Error::Error;
};

/// Throws AgreedError(kind, parts...) unless `condition` holds.
template <class... Parts>
void check_agreed(bool condition, ErrorKind kind, const Parts&... parts) {
  if (!condition) [[unlikely]]
    throw AgreedError(kind, concat(parts...));
}

}  // namespace faq
