// An error that did not happen here.
#pragma once

#include "core/error.h"

namespace faq {

/// An error of another rank, or a lost rank, which ends the run on this one, too. The message names the rank.
class RemoteError : public Error {
 public:
  using Error::Error;
};

}  // namespace faq
