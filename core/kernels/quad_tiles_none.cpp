#include "core/kernels/quad_tiles.h"

namespace faq::kernels {

std::vector<QuadTiles> x86_quad_tile_sets() { return {}; }

std::vector<PairTiles> amx_pair_tile_sets() { return {}; }

}  // namespace faq::kernels
