// Where the compiler knows no AVX-512.
#include "core/kernels/paired_gradient.h"

namespace faq::kernels {

bool PairedGradient::suits(const Shape&, const ConvGeometry&, DType, DType) { return false; }
PairedGradient::PairedGradient(const Shape&, const ConvGeometry&) {}
void PairedGradient::add(const Tensor&, const Tensor&) {}
void PairedGradient::add(const PairedGradient&) {}
Tensor PairedGradient::sum() const { return {}; }

}  // namespace faq::kernels
