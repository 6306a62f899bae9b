#include "core/kernels/quad_tiles.h"

namespace faq::kernels {

std::vector<QuadTiles> x86_quad_tile_sets() { return {}; }

const PairTiles* pair_tiles() { return nullptr; }

}  // namespace faq::kernels
