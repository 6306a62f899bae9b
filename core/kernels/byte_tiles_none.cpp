#include "core/kernels/byte_tiles.h"

namespace faq::kernels {

std::vector<ByteTiles> amx_byte_tile_sets() { return {}; }
std::vector<ByteTiles> avx2_byte_tile_sets() { return {}; }

}  // namespace faq::kernels
