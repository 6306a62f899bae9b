// Where the compiler knows no AVX-512.
#include "core/kernels/paired_gradient.h"

namespace faq::kernels {

bool PairedGradient::suits(const Shape&, DType, DType) { return false; }
PairedGradient::PairedGradient(const Shape&, const ConvOptions&) {}
void PairedGradient::add(const Tensor&, const Tensor&) {}
void PairedGradient::add(const PairedGradient&) {}
Tensor PairedGradient::sum() const { return {}; }

}  // namespace faq::kernels
