// Accuracy of a network on a data set.
#pragma once

#include <functional>
#include <string>

#include "data/loader.h"
#include "train/ranks/communicator.h"
#include "train/run_listener.h"
#include "train/scores.h"
#include "train/stop_token.h"

namespace faq {

/// Maps u8 images N,H,W,C to logits N,K.
using Forward = std::function<Tensor(const Tensor& images)>;

/// Runs the loader's images through `forward` and counts the results in `scores`: with several ranks, the
/// exact counts of all of them. This function and the next one report their progress to the listener, and
/// throw `stopped` as soon as the token requests a stop, on all ranks.
Evaluation evaluate(const Forward& forward, Loader& loader, Scores& scores, RunListener& listener,
                    const StopToken& stop = {}, Communicator& ranks = single_process());
/// Runs the images of this rank's loader through `forward` and calls `body` with each batch and its logits.
/// Returns the seconds it took. `figures`: text about the results so far, for people. Throws bad_data if no
/// rank had an image that can be used: there is no result then.
double for_each_batch(const Forward& forward, Loader& loader,
                      const std::function<void(const Batch&, const Tensor& logits)>& body,
                      RunListener& listener, const std::function<std::string()>& figures,
                      const StopToken& stop = {}, Communicator& ranks = single_process());

}  // namespace faq
