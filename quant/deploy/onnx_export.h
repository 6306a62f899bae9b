// An integer network as ONNX, in the QDQ form that runtimes turn into their own integer kernels.
#pragma once

#include "quant/deploy/integer_network.h"
#include "quant/deploy/onnx_model.h"

namespace faq {

/// The model computes what the network computes, but in f32 wherever a runtime does not see that it could be
/// integers; so an integer of a layer may differ by one step next to a rounding tie.
///
/// - The input is `image`, u8 N,H,W,C, as IntegerNetwork::forward() takes it; the output `logits`, f32 N,K.
///   The table of the first op is looked up, so the integers that the first layer reads are ours.
/// - The result of each op is a quantized tensor under the op's name: UINT8 or INT8; UINT4 where it has 4
///   bits and no sign and is multiplied with INT4 weights alone. What QuantizeLinear does not clip, a Clip
///   does.
/// - Weights are INT8; INT4 where they are fixed-point of 4 bits or fewer. The multiplier of a channel is the
///   scale of its weights; of a negative one, the weights change their sign.
/// - Biases are f32: of INT8 weights the convolution's own, which ONNX Runtime rounds to s32 for its integer
///   convolution; of INT4 weights, for which it has none, an Add.
///
/// Throws usage, with the name of the op, for a scale or a bias that f32 does not hold, and for names that
/// occur twice.
OnnxModel onnx_model(const IntegerNetwork& network);

}  // namespace faq
