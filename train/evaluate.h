// Accuracy of a network on a data set.
#pragma once

#include <functional>
#include <string>

#include "data/loader.h"
#include "train/run_listener.h"
#include "train/scores.h"
#include "train/stop_token.h"

namespace faq {

/// Maps u8 images N,H,W,C to logits N,K.
using Forward = std::function<Tensor(const Tensor& images)>;

/// Runs the loader's images through `forward` and counts the results in `scores`. This function and the next
/// one report their progress to the listener, and throw `stopped` as soon as the token requests a stop.
Evaluation evaluate(const Forward& forward, Loader& loader, Scores& scores, RunListener& listener,
                    const StopToken& stop = {});
/// Runs the loader's images through `forward` and calls `body` with each batch and its logits. Returns images
/// per second. `figures`: text about the results so far, for people.
double for_each_batch(const Forward& forward, Loader& loader,
                      const std::function<void(const Batch&, const Tensor& logits)>& body,
                      RunListener& listener, const std::function<std::string()>& figures,
                      const StopToken& stop = {});

}  // namespace faq
