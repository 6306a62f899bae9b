// A request to stop that all ranks follow at the same moment.
#pragma once

#include "train/ranks/communicator.h"
#include "train/stop_token.h"

namespace faq {

/// All ranks ask the same number of times and get the same answers. With several ranks an answer covers the
/// requests made, on any rank, before the question before: nobody waits for it, and a run takes up to one
/// more step. A single process gets the token's own answer.
class AgreedStop {
 public:
  AgreedStop(Communicator& ranks, StopToken token) : ranks_(ranks), token_(std::move(token)) { ask(); }

  bool requested() {
    if (ranks_.size() == 1) return token_.stop_requested();
    const bool answer = answer_.get();
    ask();
    return answer;
  }

 private:
  void ask() {
    if (ranks_.size() > 1) answer_ = ranks_.start_any(token_.stop_requested());
  }

  Communicator& ranks_;
  StopToken token_;
  std::future<bool> answer_;
};

}  // namespace faq
