// Accuracy of a network on a data set.
#pragma once

#include <functional>
#include <string>

#include "data/loader.h"
#include "train/run_listener.h"
#include "train/scores.h"
#include "train/stop_token.h"

namespace faq {

/// Of u8 images N,H,W,C, the logits N,K.
using Forward = std::function<Tensor(const Tensor& images)>;

/// Runs the loader's images through `forward`, leaving what was counted in `scores`. This and the next tell
/// the listener how far they are, and throw `stopped` as soon as the token asks for it.
Evaluation evaluate(const Forward& forward, Loader& loader, Scores& scores, RunListener& listener,
                    const StopToken& stop = {});
/// Runs the loader's images through `forward` and hands the logits on; returns images per second. `figures`:
/// what is known so far, for people.
double for_each_batch(const Forward& forward, Loader& loader,
                      const std::function<void(const Batch&, const Tensor& logits)>& body,
                      RunListener& listener, const std::function<std::string()>& figures,
                      const StopToken& stop = {});

}  // namespace faq
