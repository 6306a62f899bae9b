// A thread's use of tiles (quad_tiles.h, byte_tiles.h).
#pragma once

namespace faq::kernels {

/// The calling thread may use the tiles until this ends.
template <class Tiles>
class InTiles {
 public:
  explicit InTiles(const Tiles& tiles) : tiles_(tiles) { tiles_.enter(); }
  ~InTiles() { tiles_.leave(); }
  InTiles(const InTiles&) = delete;
  InTiles& operator=(const InTiles&) = delete;

 private:
  const Tiles& tiles_;
};

}  // namespace faq::kernels
